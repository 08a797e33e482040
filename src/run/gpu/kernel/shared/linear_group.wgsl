// The number of a workgroup in a dispatch that was spread over y because x alone is too short.
fn linear_group(group: vec3<u32>, n_groups: vec3<u32>) -> u32 {
    return group.y * n_groups.x + group.x;
}
