// One invocation copies one cell of a row. A workgroup covers 256 of them.

#import linear_group

struct Params {
    // Cells of the result.
    n_cells: u32,
    // Cells of a row.
    row_cells: u32,
    // Rows that there are.
    n_rows: u32,
    padding: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> ids: array<u32>; // [ids]
@group(0) @binding(2) var<storage, read_write> x: array<cell>; // [N,D]
@group(0) @binding(3) var<storage, read_write> out: array<cell>; // [ids,D]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * 256u + lane;
    if i < params.n_cells {
        let row = min(ids[i / params.row_cells], params.n_rows - 1u);
        out[i] = x[row * params.row_cells + i % params.row_cells];
    }
}
