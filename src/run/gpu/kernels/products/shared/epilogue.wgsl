// What follows a matrix product: bias, time embedding, non-linearity, residual, store. The importing file declares
// `bias`, `time_embedding`, `residual` and `out`, and `params` with m, n, out_pixels, first_out_row and the time
// embedding's place.

#import activate

override has_bias: bool = false;
override has_time_embedding: bool = false;
override has_residual: bool = false;
// One of the ACTIVATION_ constants.
override activation: u32 = 0u;
// Negative sums become 0, after the residual.
override relu_last: bool = false;
// Columns hold four values, then their four gates.
override geglu: bool = false;

// Four biases from column `n` on; beyond the last they repeat it, where nothing is stored.
fn bias_quad(n: u32) -> vec4<f32> {
    let last = params.n - 1u;
    return vec4<f32>(bias[min(n, last)], bias[min(n + 1u, last)], bias[min(n + 2u, last)], bias[min(n + 3u, last)]);
}

// Adds the residual to four values of a row of `n` columns and stores them, leaving out those beyond the row.
fn store_quad(row: u32, column: u32, n: u32, value: vec4<f32>) {
    var sum = value;
    for (var i = 0u; i < 4u; i += WIDTH) {
        if column + i < n {
            let at = ((params.first_out_row + row) * n + column + i) / WIDTH;
            if has_residual {
                var other = vec4<f32>();
                put(&other, i, residual[at]);
                sum += other;
            }
            // Of a copy: the columns that come later have no residual yet.
            var stored = sum;
            if relu_last {
                stored = relu(sum);
            }
            out[at] = pick(stored, i);
        }
    }
}

// Finishes the four columns of `quad`.
fn finish(row: u32, quad: u32, sum: vec4<f32>) {
    let column = quad * 4u;
    if column >= params.n {
        return;
    }
    var x = sum;
    if has_bias {
        x += bias_quad(column);
    }
    if has_time_embedding {
        let first = params.time_embedding_offset + row / params.out_pixels * params.time_embedding_stride + column;
        var added = vec4<f32>();
        for (var i = 0u; i < 4u; i += WIDTH) {
            if column + i < params.n {
                put(&added, i, time_embedding[(first + i) / WIDTH]);
            }
        }
        x += added;
    }
    store_quad(row, column, params.n, activate(activation, x));
}

// Finishes four values and their gates, which become the columns of `quad`.
fn finish_geglu(row: u32, quad: u32, value: vec4<f32>, gate: vec4<f32>) {
    let n = params.n / 2u;
    let column = quad * 4u;
    if column >= n {
        return;
    }
    var v = value;
    var g = gate;
    if has_bias {
        v += bias_quad(column);
        g += bias_quad(n + column);
    }
    store_quad(row, column, n, v * gelu(g));
}
