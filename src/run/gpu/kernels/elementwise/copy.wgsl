// One invocation copies one cell. A workgroup covers 256 of them.

#import linear_group

struct Params {
    n_cells: u32,
    // Sizes of the box, in cells; that of dimension 0 is not needed.
    size_1: u32,
    size_2: u32,
    size_3: u32,
    // In cells.
    from_strides: vec4<u32>,
    to_strides: vec4<u32>,
    from_offset: u32,
    to_offset: u32,
    padding_0: u32,
    padding_1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source: array<cell>; // the box is somewhere in it
@group(0) @binding(2) var<storage, read_write> out: array<cell>; // likewise

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * 256u + lane;
    if i >= params.n_cells {
        return;
    }
    var index: vec4<u32>;
    var rest = i;
    index.w = rest % params.size_3;
    rest /= params.size_3;
    index.z = rest % params.size_2;
    rest /= params.size_2;
    index.y = rest % params.size_1;
    index.x = rest / params.size_1;
    let read = index * params.from_strides;
    let write = index * params.to_strides;
    out[params.to_offset + write.x + write.y + write.z + write.w] =
        source[params.from_offset + read.x + read.y + read.z + read.w];
}
