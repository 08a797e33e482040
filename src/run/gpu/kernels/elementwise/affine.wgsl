// One invocation multiplies one cell by a factor and adds an offset. A workgroup covers 256 neighbouring cells.

#import linear_group

struct Params {
    // How many cells `x` and `out` have.
    n_cells: u32,
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
    // Four of each: of the four channels of a cell, or four times the same.
    factors: vec4<f32>,
    offsets: vec4<f32>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<cell>; // [n_cells]
@group(0) @binding(2) var<storage, read_write> out: array<cell>; // [n_cells]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * 256u + lane;
    if i < params.n_cells {
        out[i] = narrow(widen(x[i]) * params.factors + params.offsets);
    }
}
