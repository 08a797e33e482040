// One invocation packs four values. A workgroup covers 256 of them.

#import linear_group
#import pack_params
#import packed

@group(0) @binding(1) var<storage, read_write> source: array<vec4<f32>>; // the values are somewhere in it
@group(0) @binding(2) var<storage, read_write> out: array<vec2<u32>>; // likewise

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * 256u + lane;
    if i < params.n_cells {
        out[params.to_cell + i] = pack(source[params.from_cell + i]);
    }
}
