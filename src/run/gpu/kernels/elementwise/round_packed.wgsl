// One invocation rounds four values to what packing would leave of them. A workgroup covers 256 of them.

#import linear_group
#import pack_params
#import packed

@group(0) @binding(1) var<storage, read_write> values: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * 256u + lane;
    if i < params.n_cells {
        values[params.to_cell + i] = unpack(pack(values[params.from_cell + i]));
    }
}
