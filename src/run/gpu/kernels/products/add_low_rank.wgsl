// One invocation adds low-rank terms to four neighbouring columns of eight rows of a matrix, in f32. A workgroup covers eight
// rows of 256 columns.

#import linear_group
#import half_bits

// The matrix before is f32, not f16.
override base_is_f32: bool = false;

struct Params {
    n_rows: u32,
    n_cols: u32,
    rank: u32,
    // Workgroups for eight rows.
    n_groups_of_rows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> base: array<u32>; // [rows,cols], two f16 or one f32 a word
@group(0) @binding(2) var<storage, read_write> left: array<vec4<f32>>; // [rank,rows/4], rows filled up to eights
@group(0) @binding(3) var<storage, read_write> right: array<vec4<f32>>; // [rank,cols/4], columns filled up to fours
@group(0) @binding(4) var<storage, read_write> sums: array<f32>; // [rows,cols]

fn base_at(place: u32) -> f32 {
    if base_is_f32 {
        return bitcast<f32>(base[place]);
    }
    return widen_bits((base[place / 2u] >> (place % 2u * 16u)) & 0xffffu);
}

// Four columns of a row from `col` on.
fn add_to(row: u32, col: u32, terms: vec4<f32>) {
    if row >= params.n_rows {
        return;
    }
    let place = row * params.n_cols + col;
    let n = min(params.n_cols - col, 4u);
    for (var i = 0u; i < n; i++) {
        sums[place + i] = base_at(place + i) + terms[i];
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let idx = linear_group(group, n_groups);
    let eight = idx / params.n_groups_of_rows;
    let quad = idx % params.n_groups_of_rows * 64u + lane;
    let n_quads = (params.n_cols + 3u) / 4u;
    if eight * 8u >= params.n_rows || quad >= n_quads {
        return;
    }
    let n_row_quads = (params.n_rows + 7u) / 8u * 2u;
    var a0: vec4<f32>;
    var a1: vec4<f32>;
    var a2: vec4<f32>;
    var a3: vec4<f32>;
    var b0: vec4<f32>;
    var b1: vec4<f32>;
    var b2: vec4<f32>;
    var b3: vec4<f32>;
    for (var k = 0u; k < params.rank; k++) {
        let a = left[k * n_row_quads + eight * 2u];
        let b = left[k * n_row_quads + eight * 2u + 1u];
        let x = right[k * n_quads + quad];
        a0 += a.x * x;
        a1 += a.y * x;
        a2 += a.z * x;
        a3 += a.w * x;
        b0 += b.x * x;
        b1 += b.y * x;
        b2 += b.z * x;
        b3 += b.w * x;
    }
    let row = eight * 8u;
    let col = quad * 4u;
    add_to(row, col, a0);
    add_to(row + 1u, col, a1);
    add_to(row + 2u, col, a2);
    add_to(row + 3u, col, a3);
    add_to(row + 4u, col, b0);
    add_to(row + 5u, col, b1);
    add_to(row + 6u, col, b2);
    add_to(row + 7u, col, b3);
}
