// One invocation packs four neighbouring outputs of one tap and one input of a weight, in f32. A workgroup covers 256 of
// them.

#import repack

@group(0) @binding(2) var<storage, read_write> packed: array<vec4<f32>>; // [taps,I,columns/4]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = linear_group(group, n_groups) * 256u + lane;
    let row = item / params.n_quads;
    let quad = item % params.n_quads;
    if row < n_rows() {
        packed[row * params.n_quads_packed + packed_quad(quad)] = values_of(params.first_output + quad * 4u, row);
    }
}
