// `threads_per_row` invocations normalise one row; a workgroup of 128 has as many rows as fit. The mean comes first and
// the deviations from it second, so that a large mean costs no digits. The importing file says how the invocations of a row
// find its sum.

#import linear_group

// A power of two up to 128.
override threads_per_row: u32 = 128u;

struct Params {
    n_rows: u32,
    n_columns: u32,
    eps: f32,
    // The first elements of the norm's own weight and bias.
    weight_offset: u32,
    bias_offset: u32,
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<cell>; // [M,D]
@group(0) @binding(2) var<storage, read> weight: array<f32>; // [..,D]
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [..,D]
@group(0) @binding(4) var<storage, read_write> out: array<cell>; // [M,D]

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let rows_per_group = 128u / threads_per_row;
    let first_row = linear_group(group, n_groups) * rows_per_group;
    if first_row >= params.n_rows {
        return;
    }
    // Invocations beyond the last row repeat it, because all have to meet at the barriers.
    let row = first_row + lane / threads_per_row;
    let n_cells = params.n_columns / WIDTH;
    let first = min(row, params.n_rows - 1u) * n_cells;
    let thread = lane % threads_per_row;

    // Everything is counted from the row's first value, which costs nothing and keeps the digits that a large mean would
    // take. The lanes that a cell of one element leaves idle must not count.
    let used = select(vec4<f32>(1.0, 0.0, 0.0, 0.0), vec4<f32>(1.0), WIDTH == 4u);
    let origin = widen(x[first]).x;
    var sum = vec4<f32>();
    for (var i = thread; i < n_cells; i += threads_per_row) {
        sum += (widen(x[first + i]) - origin) * used;
    }
    let mean = row_sum(lane, sum.x + sum.y + sum.z + sum.w) / f32(params.n_columns);
    var squares = vec4<f32>();
    for (var i = thread; i < n_cells; i += threads_per_row) {
        let difference = (widen(x[first + i]) - origin - mean) * used;
        squares += difference * difference;
    }
    let variance = row_sum(lane, squares.x + squares.y + squares.z + squares.w) / f32(params.n_columns);
    let inverse = 1.0 / sqrt(variance + params.eps);
    if row >= params.n_rows {
        return;
    }
    for (var i = thread; i < n_cells; i += threads_per_row) {
        var w = vec4<f32>();
        var b = vec4<f32>();
        for (var l = 0u; l < WIDTH; l++) {
            w[l] = weight[params.weight_offset + i * WIDTH + l];
            b[l] = bias[params.bias_offset + i * WIDTH + l];
        }
        out[first + i] = narrow((widen(x[first + i]) - origin - mean) * inverse * w + b);
    }
}
