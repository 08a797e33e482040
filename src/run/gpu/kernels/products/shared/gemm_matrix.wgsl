// One workgroup computes a tile of out[M,N] = A[M,K]·W[K,N] and what follows the product, as `gemm` does, but the subgroups
// multiply with cooperative matrices. Each subgroup has `matrices_m` x `matrices_n` of them, at most 4x4. The sum goes in
// steps of 32 channels of one tap and one source; while the matrices of a step are multiplied, the values of the next one
// are on their way.
//
// Rows of the sources and of W are multiples of eight values, which are read at once.

#import linear_group
#import gemm_params
#import gemm_steps
#import epilogue

// Subgroups along the rows and columns of the tile, and the invocations of each.
override subgroups_m: u32 = 2u;
override subgroups_n: u32 = 2u;
override subgroup_size: u32 = 32u;
// Matrices of a subgroup along the rows and columns, at most 4.
override matrices_m: u32 = 4u;
override matrices_n: u32 = 2u;
// The values of the next step have workgroup memory of their own, or wait for that of this step.
override two_halves: bool = true;
// The picture is enlarged before the convolution, by repeating each pixel 2x2.
override upsample: bool = false;
// Partial sums are stored for splitk_reduce or splitk_group_norm, and the epilogue is left to it.
override split: bool = false;

// Eight neighbouring values, read at once.
struct eight {
    low: cell,
    high: cell,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source_0: array<eight>; // [B,H,W,C0/8]
@group(0) @binding(2) var<storage, read_write> source_1: array<eight>; // [B,H,W,C1/8]
@group(0) @binding(4) var<storage, read> bias: array<f32>; // [N]
@group(0) @binding(5) var<storage, read_write> time_embedding: array<cell>; // [B,..]
@group(0) @binding(6) var<storage, read_write> residual: array<cell>; // as out
@group(0) @binding(7) var<storage, read_write> out: array<cell>; // [M,N], with GEGLU [M,N/2]
@group(0) @binding(8) var<storage, read_write> partial_sums: array<vec4<f32>>; // [splits,M,N/4]

// Channels of a step, and the vectors of eight that they are.
const TILE_K = 32u;
const TILE_K_VECTORS = 4u;
// Cells of a row, and eight values more than it has, so that neighbouring rows lie in different banks.
const A_STRIDE = 10u;
// The place of what is outside the picture.
const NOWHERE = 0xffffffffu;
// The most vectors of A, and of W, that one invocation brings in a step.
const MAX_LOADS = 8u;
// Quads of a row of one matrix.
const SIDE_QUADS = SIDE / 4u;

override tile_m: u32 = subgroups_m * matrices_m * SIDE;
override tile_n: u32 = subgroups_n * matrices_n * SIDE;
override tile_vectors: u32 = tile_n / 8u;
override w_stride: u32 = (tile_vectors + 1u) * 2u;
override n_subgroups: u32 = subgroups_m * subgroups_n;
override n_threads: u32 = n_subgroups * subgroup_size;
override a_loads: u32 = (tile_m * TILE_K_VECTORS + n_threads - 1u) / n_threads;
override w_loads: u32 = (TILE_K * tile_vectors + n_threads - 1u) / n_threads;
// Of one half of the workgroup memory.
override a_cells: u32 = tile_m * A_STRIDE;
override w_cells: u32 = TILE_K * w_stride;
override a_room: u32 = (1u + u32(two_halves)) * a_cells;
override w_room: u32 = (1u + u32(two_halves)) * w_cells;
override sums_room: u32 = n_subgroups * SIDE * SIDE_QUADS;

var<workgroup> a_tile: array<cell, a_room>; // [1 or 2][tile_m][A_STRIDE], four channels each
var<workgroup> w_tile: array<cell, w_room>; // [1 or 2][32][w_stride], four columns each
var<workgroup> sums_tile: array<vec4<f32>, sums_room>; // one matrix of each subgroup: [SIDE][SIDE_QUADS]

// Where a row of A lies for the tap and the source of a step, in eights; `origin` is the first row of the batch item's
// picture, and the place of the kernel's corner.
fn place_of(origin: vec3<i32>, step: Step) -> u32 {
    let shift = select(0u, 1u, upsample);
    // Negative places become large ones.
    let y = u32(origin.y + i32(step.tap_y));
    let x = u32(origin.z + i32(step.tap_x));
    if y < params.full_h && x < params.full_w {
        return ((u32(origin.x) + (y >> shift)) * params.in_w + (x >> shift)) * (channels_of(step) / 8u);
    }
    return NOWHERE;
}

// Eight channels of a row of A, zeros beyond the picture and the last channel.
fn load_a(place: u32, step: Step, vector: u32) -> eight {
    let channel = step.channel / 8u + vector;
    if place != NOWHERE && channel < channels_of(step) / 8u {
        if step.source == 0u {
            return source_0[place + channel];
        }
        return source_1[place + channel];
    }
    return eight();
}

// Eight columns of a row of W, zeros beyond the last of the step's source and the last column.
fn load_w(step: Step, k: u32, vector: u32) -> eight {
    if step.channel + k < channels_of(step) && vector * 8u < params.n {
        return weight_eight(step.first_k + k, vector);
    }
    return eight();
}

fn store_a(item: u32, half: u32, value: eight) {
    if item < tile_m * TILE_K_VECTORS {
        let at = half * a_cells + item / TILE_K_VECTORS * A_STRIDE + item % TILE_K_VECTORS * 2u;
        a_tile[at] = value.low;
        a_tile[at + 1u] = value.high;
    }
}

fn store_w(item: u32, half: u32, value: eight) {
    if item < TILE_K * tile_vectors {
        let at = half * w_cells + item / tile_vectors * w_stride + item % tile_vectors * 2u;
        w_tile[at] = value.low;
        w_tile[at + 1u] = value.high;
    }
}

// Stores or finishes a matrix of sums. All invocations of the workgroup call this together.
fn finish_matrix(sums: matrix_c, subgroup: u32, sub_lane: u32, part: u32, first_row: u32, first_column: u32) {
    let room = subgroup * SIDE * SIDE_QUADS;
    // Nobody may write before all have read the last matrix.
    workgroupBarrier();
    coopStoreT(sums, &sums_tile[room], SIDE_QUADS);
    workgroupBarrier();
    if geglu {
        for (var i = sub_lane; i < SIDE * SIDE_QUADS / 2u; i += subgroup_size) {
            let row = first_row + i / (SIDE_QUADS / 2u);
            let pair = i % (SIDE_QUADS / 2u);
            if row < params.m {
                let at = room + i * 2u;
                finish_geglu(row, first_column / 8u + pair, sums_tile[at], sums_tile[at + 1u]);
            }
        }
        return;
    }
    for (var i = sub_lane; i < SIDE * SIDE_QUADS; i += subgroup_size) {
        let row = first_row + i / SIDE_QUADS;
        let quad = first_column / 4u + i % SIDE_QUADS;
        if row < params.m {
            if split {
                if quad * 4u < params.n {
                    partial_sums[(part * params.m + row) * (params.n / 4u) + quad] = sums_tile[room + i];
                }
            } else {
                finish(row, quad, sums_tile[room + i]);
            }
        }
    }
}

@compute @workgroup_size(n_threads)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) sub_lane: u32,
) {
    // Those beyond the last tile have rows beyond the last, and store nothing.
    let tile = linear_group(group, n_groups);
    let first_row = tile / params.n_tile_columns * tile_m;
    let first_column = tile % params.n_tile_columns * tile_n;

    // The rows of A that this invocation brings: far outside for rows beyond the last.
    var origins: array<vec3<i32>, MAX_LOADS>;
    for (var j = 0u; j < a_loads; j++) {
        origins[j] = origin_of(first_row + (lane + j * n_threads) / TILE_K_VECTORS);
    }

    // Where the first step of this part of the sum is.
    let first_step = group.z * params.k_tiles_per_split;
    let last_step = min(first_step + params.k_tiles_per_split, params.k_tiles);
    var at = step_of(first_step);

    // The first matrices of this subgroup: row of the tile, column of the tile.
    let own_row = subgroup / subgroups_n * matrices_m * SIDE;
    let own_column = subgroup % subgroups_n * matrices_n * SIDE;

    // Variables of their own, and not an array, so that nothing keeps them from staying in registers.
    var c00 = matrix_c();
    var c01 = matrix_c();
    var c02 = matrix_c();
    var c03 = matrix_c();
    var c10 = matrix_c();
    var c11 = matrix_c();
    var c12 = matrix_c();
    var c13 = matrix_c();
    var c20 = matrix_c();
    var c21 = matrix_c();
    var c22 = matrix_c();
    var c23 = matrix_c();
    var c30 = matrix_c();
    var c31 = matrix_c();
    var c32 = matrix_c();
    var c33 = matrix_c();

    var next_a: array<eight, MAX_LOADS>;
    var next_w: array<eight, MAX_LOADS>;
    var places: array<u32, MAX_LOADS>;
    for (var j = 0u; j < a_loads; j++) {
        places[j] = place_of(origins[j], at);
    }
    var half = 0u;
    if first_step < last_step {
        for (var j = 0u; j < a_loads; j++) {
            next_a[j] = load_a(places[j], at, (lane + j * n_threads) % TILE_K_VECTORS);
        }
        for (var j = 0u; j < w_loads; j++) {
            let item = lane + j * n_threads;
            next_w[j] = load_w(at, item / tile_vectors, first_column / 8u + item % tile_vectors);
        }
        for (var j = 0u; j < a_loads; j++) {
            store_a(lane + j * n_threads, half, next_a[j]);
        }
        for (var j = 0u; j < w_loads; j++) {
            store_w(lane + j * n_threads, half, next_w[j]);
        }
    }
    workgroupBarrier();

    for (var step = first_step; step < last_step; step++) {
        at = next_step(at);
        let has_next = step + 1u < last_step;
        if has_next {
            // Another tap or source.
            if at.channel == 0u {
                for (var j = 0u; j < a_loads; j++) {
                    places[j] = place_of(origins[j], at);
                }
            }
            for (var j = 0u; j < a_loads; j++) {
                next_a[j] = load_a(places[j], at, (lane + j * n_threads) % TILE_K_VECTORS);
            }
            for (var j = 0u; j < w_loads; j++) {
                let item = lane + j * n_threads;
                next_w[j] = load_w(at, item / tile_vectors, first_column / 8u + item % tile_vectors);
            }
        }

        for (var k = 0u; k < TILE_K; k += SIDE) {
            let a = half * a_cells + own_row * A_STRIDE + k / 4u;
            let w = half * w_cells + k * w_stride + own_column / 4u;
            // Matrices that this subgroup does not have repeat the first, and are not multiplied.
            let a0 = coopLoadT<matrix_a>(&a_tile[a], A_STRIDE);
            let a1 = coopLoadT<matrix_a>(&a_tile[a + min(1u, matrices_m - 1u) * SIDE * A_STRIDE], A_STRIDE);
            let a2 = coopLoadT<matrix_a>(&a_tile[a + min(2u, matrices_m - 1u) * SIDE * A_STRIDE], A_STRIDE);
            let a3 = coopLoadT<matrix_a>(&a_tile[a + min(3u, matrices_m - 1u) * SIDE * A_STRIDE], A_STRIDE);
            let b0 = coopLoadT<matrix_b>(&w_tile[w], w_stride);
            c00 = coopMultiplyAdd(a0, b0, c00);
            if matrices_m > 1u { c10 = coopMultiplyAdd(a1, b0, c10); }
            if matrices_m > 2u { c20 = coopMultiplyAdd(a2, b0, c20); }
            if matrices_m > 3u { c30 = coopMultiplyAdd(a3, b0, c30); }
            if matrices_n > 1u {
                let b1 = coopLoadT<matrix_b>(&w_tile[w + 1u * SIDE_QUADS], w_stride);
                c01 = coopMultiplyAdd(a0, b1, c01);
                if matrices_m > 1u { c11 = coopMultiplyAdd(a1, b1, c11); }
                if matrices_m > 2u { c21 = coopMultiplyAdd(a2, b1, c21); }
                if matrices_m > 3u { c31 = coopMultiplyAdd(a3, b1, c31); }
            }
            if matrices_n > 2u {
                let b2 = coopLoadT<matrix_b>(&w_tile[w + 2u * SIDE_QUADS], w_stride);
                c02 = coopMultiplyAdd(a0, b2, c02);
                if matrices_m > 1u { c12 = coopMultiplyAdd(a1, b2, c12); }
                if matrices_m > 2u { c22 = coopMultiplyAdd(a2, b2, c22); }
                if matrices_m > 3u { c32 = coopMultiplyAdd(a3, b2, c32); }
            }
            if matrices_n > 3u {
                let b3 = coopLoadT<matrix_b>(&w_tile[w + 3u * SIDE_QUADS], w_stride);
                c03 = coopMultiplyAdd(a0, b3, c03);
                if matrices_m > 1u { c13 = coopMultiplyAdd(a1, b3, c13); }
                if matrices_m > 2u { c23 = coopMultiplyAdd(a2, b3, c23); }
                if matrices_m > 3u { c33 = coopMultiplyAdd(a3, b3, c33); }
            }
        }

        if two_halves { half = 1u - half; } else { workgroupBarrier(); }
        if has_next {
            for (var j = 0u; j < a_loads; j++) {
                store_a(lane + j * n_threads, half, next_a[j]);
            }
            for (var j = 0u; j < w_loads; j++) {
                store_w(lane + j * n_threads, half, next_w[j]);
            }
        }
        workgroupBarrier();
    }

    let row = first_row + own_row;
    let column = first_column + own_column;
    finish_matrix(c00, subgroup, sub_lane, group.z, row, column);
    if matrices_n > 1u { finish_matrix(c01, subgroup, sub_lane, group.z, row, column + 1u * SIDE); }
    if matrices_n > 2u { finish_matrix(c02, subgroup, sub_lane, group.z, row, column + 2u * SIDE); }
    if matrices_n > 3u { finish_matrix(c03, subgroup, sub_lane, group.z, row, column + 3u * SIDE); }
    if matrices_m > 1u { finish_matrix(c10, subgroup, sub_lane, group.z, row + 1u * SIDE, column); }
    if matrices_m > 1u && matrices_n > 1u { finish_matrix(c11, subgroup, sub_lane, group.z, row + 1u * SIDE, column + 1u * SIDE); }
    if matrices_m > 1u && matrices_n > 2u { finish_matrix(c12, subgroup, sub_lane, group.z, row + 1u * SIDE, column + 2u * SIDE); }
    if matrices_m > 1u && matrices_n > 3u { finish_matrix(c13, subgroup, sub_lane, group.z, row + 1u * SIDE, column + 3u * SIDE); }
    if matrices_m > 2u { finish_matrix(c20, subgroup, sub_lane, group.z, row + 2u * SIDE, column); }
    if matrices_m > 2u && matrices_n > 1u { finish_matrix(c21, subgroup, sub_lane, group.z, row + 2u * SIDE, column + 1u * SIDE); }
    if matrices_m > 2u && matrices_n > 2u { finish_matrix(c22, subgroup, sub_lane, group.z, row + 2u * SIDE, column + 2u * SIDE); }
    if matrices_m > 2u && matrices_n > 3u { finish_matrix(c23, subgroup, sub_lane, group.z, row + 2u * SIDE, column + 3u * SIDE); }
    if matrices_m > 3u { finish_matrix(c30, subgroup, sub_lane, group.z, row + 3u * SIDE, column); }
    if matrices_m > 3u && matrices_n > 1u { finish_matrix(c31, subgroup, sub_lane, group.z, row + 3u * SIDE, column + 1u * SIDE); }
    if matrices_m > 3u && matrices_n > 2u { finish_matrix(c32, subgroup, sub_lane, group.z, row + 3u * SIDE, column + 2u * SIDE); }
    if matrices_m > 3u && matrices_n > 3u { finish_matrix(c33, subgroup, sub_lane, group.z, row + 3u * SIDE, column + 3u * SIDE); }
}
