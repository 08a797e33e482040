// One workgroup computes a tile of out[M,N] = A[M,K]·W[K,N] and what follows the product. A row of A is what the kernel
// covers around one output pixel, K = taps x channels; it is read where it lies. The sum goes in steps of 16 channels of
// one tap and one source: the workgroup brings the step's part of A and W into workgroup memory, then each invocation
// adds the step's products for `rows` rows and 4·`quads` columns. The importing file says what multiplies.

#import linear_group
#import gemm_params
#import gemm_steps
#import epilogue

// Invocations along the columns and rows of the tile.
override threads_x: u32 = 8u;
override threads_y: u32 = 8u;
// Rows of one invocation, at most 8, and its groups of four columns, at most 2.
override rows: u32 = 4u;
override quads: u32 = 1u;
// Quads of channels whose products are added before their sums are collected: 1, 2 or 4.
override collect_quads: u32 = 4u;
// The picture is enlarged before the convolution, by repeating each pixel 2x2.
override upsample: bool = false;
// Partial sums are stored for splitk_reduce or splitk_group_norm, and the epilogue is left to it.
override split: bool = false;
// The rows of A, which are those of one source, are layer-normalised as they are read.
override has_norm: bool = false;
// No step of the sum and no tile goes beyond the last channel or column, and the invocations share a step's values evenly.
override is_even: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source_0: array<cell>; // [B,H,W,C0]
@group(0) @binding(2) var<storage, read_write> source_1: array<cell>; // [B,H,W,C1]
@group(0) @binding(4) var<storage, read> bias: array<f32>; // [N], then the layer norm's [K] and [K]
@group(0) @binding(5) var<storage, read_write> time_embedding: array<cell>; // [B,..]
@group(0) @binding(6) var<storage, read_write> residual: array<cell>; // as out
@group(0) @binding(7) var<storage, read_write> out: array<cell>; // [M,N], with GEGLU [M,N/2]
@group(0) @binding(8) var<storage, read_write> partial_sums: array<vec4<f32>>; // [splits,M,N/4]

const TILE_K = 16u;
const TILE_K_QUADS = 4u;
// One more than the row has, so that neighbouring rows lie in different banks.
const A_STRIDE = 5u;
// The most quads of A that one invocation brings in a step.
const MAX_A_LOADS = 4u;
// The place of what is outside the picture.
const NOWHERE = 0xffffffffu;

override tile_m: u32 = threads_y * rows;
override tile_quads: u32 = threads_x * quads;
override n_threads: u32 = threads_x * threads_y;
override a_loads: u32 = (tile_m * TILE_K_QUADS + n_threads - 1u) / n_threads;
override w_loads: u32 = (TILE_K * tile_quads + n_threads - 1u) / n_threads;
override a_cells: u32 = tile_m * A_STRIDE;
override w_cells: u32 = TILE_K * tile_quads;

override norm_parts: u32 = 1u + u32(has_norm) * n_threads;
override norm_rows: u32 = 1u + u32(has_norm) * tile_m;

var<workgroup> a_tile: array<factors, a_cells>; // [tile_m][5], four channels each
var<workgroup> w_tile: array<factors, w_cells>; // [16][tile_quads], the first quads of all invocations first

var<workgroup> row_parts: array<f32, norm_parts>; // one number of each invocation
var<workgroup> row_stats: array<vec2<f32>, norm_rows>; // of each row: mean, one over the standard deviation

// The sum over the invocations of a row of the tile, for each of them.
fn row_sum(lane: u32, value: f32) -> f32 {
    row_parts[lane] = value;
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < threads_x; i++) {
        sum += row_parts[lane / threads_x * threads_x + i];
    }
    // Nobody may begin the next sum before all have this one.
    workgroupBarrier();
    return sum;
}

// Measures the rows of the tile: the mean first, then the deviations from it, both from the row's first value on.
fn measure_rows(first_row: u32, thread: vec3<u32>, lane: u32) {
    let n_cells = params.channels_0 / WIDTH;
    let used = select(vec4<f32>(1.0, 0.0, 0.0, 0.0), vec4<f32>(1.0), WIDTH == 4u);
    for (var r = 0u; r < rows; r++) {
        let tile_row = r * threads_y + thread.y;
        // Rows beyond the last repeat it, because all invocations have to meet at the barriers.
        let first = min(first_row + tile_row, params.m - 1u) * n_cells;
        let origin = widen(source_0[first]).x;
        var sum = vec4<f32>();
        for (var i = thread.x; i < n_cells; i += threads_x) {
            sum += (widen(source_0[first + i]) - origin) * used;
        }
        let mean = row_sum(lane, sum.x + sum.y + sum.z + sum.w) / f32(params.channels_0);
        var squares = vec4<f32>();
        for (var i = thread.x; i < n_cells; i += threads_x) {
            let difference = (widen(source_0[first + i]) - origin - mean) * used;
            squares += difference * difference;
        }
        let variance = row_sum(lane, squares.x + squares.y + squares.z + squares.w) / f32(params.channels_0);
        if thread.x == 0u {
            row_stats[tile_row] = vec2<f32>(origin + mean, 1.0 / sqrt(variance + params.norm_eps));
        }
    }
    workgroupBarrier();
}

// Four channels of a row, normalised. Channels beyond the last stay zero.
fn normalise(value: vec4<f32>, tile_row: u32, channel: u32) -> vec4<f32> {
    let stats = row_stats[tile_row];
    var result = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if is_even || channel + i < params.channels_0 {
            let weight = bias[params.norm_offset + channel + i];
            let shift = bias[params.norm_offset + params.channels_0 + channel + i];
            result[i] = (value[i] - stats.x) * stats.y * weight + shift;
        }
    }
    return result;
}

// The first element of a row of A for the tap and the source of a step; `origin` is the first row of the batch item's
// picture, and the place of the kernel's corner.
fn place_of(origin: vec3<i32>, step: Step) -> u32 {
    let shift = select(0u, 1u, upsample);
    // Negative places become large ones.
    let y = u32(origin.y + i32(step.tap_y));
    let x = u32(origin.z + i32(step.tap_x));
    if y < params.full_h && x < params.full_w {
        return ((u32(origin.x) + (y >> shift)) * params.in_w + (x >> shift)) * channels_of(step);
    }
    return NOWHERE;
}

// Four channels of a row of A, zeros beyond the picture and the last channel.
fn load_a(place: u32, step: Step, item: u32) -> vec4<f32> {
    var quad = vec4<f32>();
    if place == NOWHERE {
        return quad;
    }
    let channel = step.channel + item % TILE_K_QUADS * 4u;
    let n_channels = channels_of(step);
    for (var i = 0u; i < 4u; i += WIDTH) {
        if is_even || channel + i < n_channels {
            let at = (place + channel + i) / WIDTH;
            if step.source == 0u {
                put(&quad, i, source_0[at]);
            } else {
                put(&quad, i, source_1[at]);
            }
        }
    }
    if has_norm {
        return normalise(quad, item / TILE_K_QUADS, channel);
    }
    return quad;
}

fn store_a(item: u32, value: vec4<f32>) {
    if is_even || item < tile_m * TILE_K_QUADS {
        a_tile[item / TILE_K_QUADS * A_STRIDE + item % TILE_K_QUADS] = factors_of(value);
    }
}

// Four columns of a row of W, zeros beyond the last of the step's source and the last column.
fn load_w(step: Step, item: u32, first_quad: u32, n_quads: u32) -> vec4<f32> {
    let k = item / tile_quads;
    let quad = first_quad + item % tile_quads;
    if is_even || (k < TILE_K && step.channel + k < channels_of(step) && quad < n_quads) {
        return weight_at(step.first_k + k, quad, n_quads);
    }
    return vec4<f32>();
}

fn store_w(item: u32, value: vec4<f32>) {
    let k = item / tile_quads;
    let quad = item % tile_quads;
    if is_even || k < TILE_K {
        w_tile[k * tile_quads + quad % quads * threads_x + quad / quads] = factors_of(value);
    }
}

@compute @workgroup_size(threads_x, threads_y)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = linear_group(group, n_groups);
    if tile >= params.n_tiles {
        return;
    }
    let first_row = tile / params.n_tile_columns * tile_m;
    let first_quad = tile % params.n_tile_columns * tile_quads;
    let n_quads = (params.n + 3u) / 4u;

    // The rows of A that this invocation brings: first row of the batch item's picture, and the place of the kernel's
    // corner, far outside for rows beyond the last.
    var origins: array<vec3<i32>, MAX_A_LOADS>;
    for (var j = 0u; j < a_loads; j++) {
        origins[j] = origin_of(first_row + (lane + j * n_threads) / TILE_K_QUADS);
    }

    if has_norm {
        measure_rows(first_row, thread, lane);
    }

    // Where the first step of this part of the sum is.
    let first_step = group.z * params.k_tiles_per_split;
    let last_step = min(first_step + params.k_tiles_per_split, params.k_tiles);
    var at = step_of(first_step);

    var sums_0: array<vec4<f32>, 8>;
    var sums_1: array<vec4<f32>, 8>;
    var parts_0: array<part_sums, 8>;
    var parts_1: array<part_sums, 8>;
    for (var r = 0u; r < rows; r++) {
        sums_0[r] = vec4<f32>();
        sums_1[r] = vec4<f32>();
        parts_0[r] = part_sums();
        parts_1[r] = part_sums();
    }

    var places: array<u32, MAX_A_LOADS>;
    for (var j = 0u; j < a_loads; j++) {
        places[j] = place_of(origins[j], at);
    }
    for (var step = first_step; step < last_step; step++) {
        // Another tap or source.
        if at.channel == 0u {
            for (var j = 0u; j < a_loads; j++) {
                places[j] = place_of(origins[j], at);
            }
        }
        for (var j = 0u; j < a_loads; j++) {
            store_a(lane + j * n_threads, load_a(places[j], at, lane + j * n_threads));
        }
        for (var j = 0u; j < w_loads; j++) {
            store_w(lane + j * n_threads, load_w(at, lane + j * n_threads, first_quad, n_quads));
        }
        at = next_step(at);
        workgroupBarrier();

        for (var k = 0u; k < TILE_K_QUADS; k++) {
            let w = k * 4u * tile_quads + thread.x;
            let w0 = w_tile[w];
            let w1 = w_tile[w + tile_quads];
            let w2 = w_tile[w + 2u * tile_quads];
            let w3 = w_tile[w + 3u * tile_quads];
            if quads == 2u {
                let v0 = w_tile[w + threads_x];
                let v1 = w_tile[w + threads_x + tile_quads];
                let v2 = w_tile[w + threads_x + 2u * tile_quads];
                let v3 = w_tile[w + threads_x + 3u * tile_quads];
                for (var r = 0u; r < rows; r++) {
                    let a = a_tile[(r * threads_y + thread.y) * A_STRIDE + k];
                    parts_0[r] = add_products(parts_0[r], a, w0, w1, w2, w3);
                    parts_1[r] = add_products(parts_1[r], a, v0, v1, v2, v3);
                }
            } else {
                for (var r = 0u; r < rows; r++) {
                    let a = a_tile[(r * threads_y + thread.y) * A_STRIDE + k];
                    parts_0[r] = add_products(parts_0[r], a, w0, w1, w2, w3);
                }
            }
            if (k + 1u) % collect_quads == 0u {
                for (var r = 0u; r < rows; r++) {
                    sums_0[r] = collected(sums_0[r], parts_0[r]);
                    sums_1[r] = collected(sums_1[r], parts_1[r]);
                    parts_0[r] = after_collecting(parts_0[r]);
                    parts_1[r] = after_collecting(parts_1[r]);
                }
            }
        }

        workgroupBarrier();
    }
    for (var r = 0u; r < rows; r++) {
        sums_0[r] = total(sums_0[r], parts_0[r]);
        sums_1[r] = total(sums_1[r], parts_1[r]);
    }

    let quad = first_quad + thread.x * quads;
    for (var r = 0u; r < rows; r++) {
        let row = first_row + r * threads_y + thread.y;
        if row < params.m {
            if split {
                let at = (group.z * params.m + row) * n_quads;
                if quad < n_quads {
                    partial_sums[at + quad] = sums_0[r];
                }
                if quads == 2u && quad + 1u < n_quads {
                    partial_sums[at + quad + 1u] = sums_1[r];
                }
            } else if geglu {
                finish_geglu(row, quad / 2u, sums_0[r], sums_1[r]);
            } else {
                finish(row, quad, sums_0[r]);
                if quads == 2u {
                    finish(row, quad + 1u, sums_1[r]);
                }
            }
        }
    }
}
