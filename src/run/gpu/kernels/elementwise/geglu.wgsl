// One invocation computes one cell of the result. A workgroup covers 256 of them.

#import linear_group
#import activate

struct Params {
    // Cells of the result, in all and of one row.
    n_cells: u32,
    row_cells: u32,
    padding_0: u32,
    padding_1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<cell>; // [M,2D]
@group(0) @binding(2) var<storage, read_write> out: array<cell>; // [M,D]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * 256u + lane;
    if i < params.n_cells {
        let at = i / params.row_cells * params.row_cells * 2u + i % params.row_cells;
        out[i] = narrow(widen(x[at]) * gelu(widen(x[at + params.row_cells])));
    }
}
