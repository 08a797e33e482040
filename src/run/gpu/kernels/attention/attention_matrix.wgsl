// One workgroup attends for the queries of one head that its subgroups have, 16 each, with cooperative matrices: the scores
// of a block of 32 keys, f16 factors and f32 sums; then their weights, rounded to f16, times the values. There are two walks
// over the keys: the first finds the largest score of each query and the sum of its weights, the second adds up the values.
// The scores are computed twice, and no sums have to be faded, which matrices cannot be row by row.
//
// Rows of q, k and v are multiples of eight values.

#import linear_group
#import matrix_16

// Subgroups, and the invocations of each.
override n_subgroups: u32 = 4u;
override subgroup_size: u32 = 32u;
// Matrices that the head's columns are cut into, at most 10.
override n_parts: u32 = 1u;
// The keys and values of the next block have a room of their own, where the workgroup memory is large enough.
override two_halves: bool = true;
// Keys after the query are hidden.
override causal: bool = false;
// q holds k and v too, in the same rows.
override packed: bool = false;

#import attention_params

// Eight neighbouring values, read at once.
struct eight {
    low: cell,
    high: cell,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> q: array<eight>; // [B,T,q_stride/8]
@group(0) @binding(2) var<storage, read_write> k: array<eight>; // [B,S,k_stride/8]
@group(0) @binding(3) var<storage, read_write> v: array<eight>; // [B,S,v_stride/8]
@group(0) @binding(4) var<storage, read_write> out: array<cell>; // [B,T,heads*head_size]

const N_KEYS = 32u;
// Quads of a row of 32 scores, weights or columns of queries, and a little more than the row has, so that neighbouring rows
// lie in different banks.
const SCORE_STRIDE = 9u;
const WEIGHT_STRIDE = 10u;
// Rows that one invocation has at most, in subgroups of eight.
const MAX_ROWS = 2u;
// Vectors of eight that one invocation brings at most of a block of keys, or of values.
const MAX_LOADS = 20u;
// Below every score; a real infinity is avoided, because a compiler may assume that there is none.
const HIDDEN = -3.0e38;

override n_threads: u32 = n_subgroups * subgroup_size;
override n_queries: u32 = n_subgroups * SIDE;
override own_rows: u32 = (SIDE + subgroup_size - 1u) / subgroup_size;
// Vectors of eight of a padded row of the head, and the cells of its room.
override row_vectors: u32 = n_parts * 2u;
override row_stride: u32 = (row_vectors + 1u) * 2u;
// Of one half of the room for keys, or for values; and what an invocation brings of it.
override tile_cells: u32 = N_KEYS * row_stride;
override tile_room: u32 = (1u + u32(two_halves)) * tile_cells;
override loads: u32 = (N_KEYS * row_vectors + n_threads - 1u) / n_threads;
override score_room: u32 = n_queries * SCORE_STRIDE;
override weight_room: u32 = n_queries * WEIGHT_STRIDE;

var<workgroup> k_tile: array<cell, tile_room>; // [1 or 2][32 keys][row_stride]
var<workgroup> v_tile: array<cell, tile_room>; // [1 or 2][32 keys][row_stride]
var<workgroup> scores: array<vec4<f32>, score_room>; // [n_queries][9]
var<workgroup> weights: array<cell, weight_room>; // [n_queries][10]

// Where a workgroup is: the first elements of the batch item's rows, at the head's first column.
struct Place {
    q_at: u32,
    k_at: u32,
    v_at: u32,
    out_at: u32,
}

fn load_q(at: u32, query: u32, vector: u32) -> eight {
    if query < params.n_queries && vector * 8u < params.head_size {
        return q[(at + query * params.q_stride) / 8u + vector];
    }
    return eight();
}

fn load_k(at: u32, key: u32, vector: u32) -> eight {
    if key < params.n_keys && vector * 8u < params.head_size {
        let i = (at + key * params.k_stride) / 8u + vector;
        if packed { return q[i]; }
        return k[i];
    }
    return eight();
}

fn load_v(at: u32, key: u32, vector: u32) -> eight {
    if key < params.n_keys && vector * 8u < params.head_size {
        let i = (at + key * params.v_stride) / 8u + vector;
        if packed { return q[i]; }
        return v[i];
    }
    return eight();
}

fn store_k(i: u32, half: u32, value: eight) {
    if i < N_KEYS * row_vectors {
        let at = half * tile_cells + i / row_vectors * row_stride + i % row_vectors * 2u;
        k_tile[at] = value.low;
        k_tile[at + 1u] = value.high;
    }
}

fn store_v(i: u32, half: u32, value: eight) {
    if i < N_KEYS * row_vectors {
        let at = half * tile_cells + i / row_vectors * row_stride + i % row_vectors * 2u;
        v_tile[at] = value.low;
        v_tile[at + 1u] = value.high;
    }
}

// Four scores of a query with the keys from `key` on, in powers of two.
fn visible(score: vec4<f32>, query: u32, key: u32) -> vec4<f32> {
    let keys = vec4<u32>(key) + vec4<u32>(0u, 1u, 2u, 3u);
    var hidden = keys >= vec4<u32>(params.n_keys);
    if causal {
        hidden |= keys > vec4<u32>(query);
    }
    return select(score * params.scale_log2, vec4<f32>(HIDDEN), hidden);
}

// Brings 32 columns of this subgroup's queries into the weights' room. All invocations call this together.
fn stage_queries(place: Place, first_own: u32, own_weights: u32, sub_lane: u32, first_part: u32) {
    workgroupBarrier();
    for (var i = sub_lane; i < SIDE * 4u; i += subgroup_size) {
        let value = load_q(place.q_at, first_own + i / 4u, first_part * 2u + i % 4u);
        let at = own_weights + i / 4u * WEIGHT_STRIDE + i % 4u * 2u;
        weights[at] = value.low;
        weights[at + 1u] = value.high;
    }
    workgroupBarrier();
}

// The scores of this subgroup's queries with the block of keys, into its part of the room.
fn find_scores(
    own_scores: u32,
    first: u32,
    q0: matrix_a,
    q1: matrix_a,
    q2: matrix_a,
    q3: matrix_a,
    q4: matrix_a,
    q5: matrix_a,
    q6: matrix_a,
    q7: matrix_a,
    q8: matrix_a,
    q9: matrix_a,
) {
    var s00 = matrix_c();
    var s01 = matrix_c();
    if n_parts > 0u {
        let b0 = coopLoad<matrix_b>(&k_tile[first + 0u], row_stride);
        let b1 = coopLoad<matrix_b>(&k_tile[first + SIDE * row_stride + 0u], row_stride);
        s00 = coopMultiplyAdd(q0, b0, s00);
        s01 = coopMultiplyAdd(q0, b1, s01);
    }
    if n_parts > 1u {
        let b0 = coopLoad<matrix_b>(&k_tile[first + 4u], row_stride);
        let b1 = coopLoad<matrix_b>(&k_tile[first + SIDE * row_stride + 4u], row_stride);
        s00 = coopMultiplyAdd(q1, b0, s00);
        s01 = coopMultiplyAdd(q1, b1, s01);
    }
    if n_parts > 2u {
        let b0 = coopLoad<matrix_b>(&k_tile[first + 8u], row_stride);
        let b1 = coopLoad<matrix_b>(&k_tile[first + SIDE * row_stride + 8u], row_stride);
        s00 = coopMultiplyAdd(q2, b0, s00);
        s01 = coopMultiplyAdd(q2, b1, s01);
    }
    if n_parts > 3u {
        let b0 = coopLoad<matrix_b>(&k_tile[first + 12u], row_stride);
        let b1 = coopLoad<matrix_b>(&k_tile[first + SIDE * row_stride + 12u], row_stride);
        s00 = coopMultiplyAdd(q3, b0, s00);
        s01 = coopMultiplyAdd(q3, b1, s01);
    }
    if n_parts > 4u {
        let b0 = coopLoad<matrix_b>(&k_tile[first + 16u], row_stride);
        let b1 = coopLoad<matrix_b>(&k_tile[first + SIDE * row_stride + 16u], row_stride);
        s00 = coopMultiplyAdd(q4, b0, s00);
        s01 = coopMultiplyAdd(q4, b1, s01);
    }
    if n_parts > 5u {
        let b0 = coopLoad<matrix_b>(&k_tile[first + 20u], row_stride);
        let b1 = coopLoad<matrix_b>(&k_tile[first + SIDE * row_stride + 20u], row_stride);
        s00 = coopMultiplyAdd(q5, b0, s00);
        s01 = coopMultiplyAdd(q5, b1, s01);
    }
    if n_parts > 6u {
        let b0 = coopLoad<matrix_b>(&k_tile[first + 24u], row_stride);
        let b1 = coopLoad<matrix_b>(&k_tile[first + SIDE * row_stride + 24u], row_stride);
        s00 = coopMultiplyAdd(q6, b0, s00);
        s01 = coopMultiplyAdd(q6, b1, s01);
    }
    if n_parts > 7u {
        let b0 = coopLoad<matrix_b>(&k_tile[first + 28u], row_stride);
        let b1 = coopLoad<matrix_b>(&k_tile[first + SIDE * row_stride + 28u], row_stride);
        s00 = coopMultiplyAdd(q7, b0, s00);
        s01 = coopMultiplyAdd(q7, b1, s01);
    }
    if n_parts > 8u {
        let b0 = coopLoad<matrix_b>(&k_tile[first + 32u], row_stride);
        let b1 = coopLoad<matrix_b>(&k_tile[first + SIDE * row_stride + 32u], row_stride);
        s00 = coopMultiplyAdd(q8, b0, s00);
        s01 = coopMultiplyAdd(q8, b1, s01);
    }
    if n_parts > 9u {
        let b0 = coopLoad<matrix_b>(&k_tile[first + 36u], row_stride);
        let b1 = coopLoad<matrix_b>(&k_tile[first + SIDE * row_stride + 36u], row_stride);
        s00 = coopMultiplyAdd(q9, b0, s00);
        s01 = coopMultiplyAdd(q9, b1, s01);
    }
    coopStoreT(s00, &scores[own_scores], SCORE_STRIDE);
    coopStoreT(s01, &scores[own_scores + 4u], SCORE_STRIDE);
}

// Divides a part of 16 columns of this subgroup's sums by the sums of the weights, and stores them.
fn store(place: Place, first_own: u32, own_scores: u32, sub_lane: u32, part: u32, total: array<f32, MAX_ROWS>) {
    for (var r = 0u; r < own_rows; r++) {
        let row = r * subgroup_size + sub_lane;
        let query = first_own + row;
        if row < SIDE && query < params.n_queries {
            let inverse = 1.0 / total[r];
            for (var i = 0u; i < 4u; i++) {
                let column = part * SIDE + i * 4u;
                if column < params.head_size {
                    let sums = scores[own_scores + row * SCORE_STRIDE + i];
                    out[(place.out_at + query * params.out_stride + column) / 4u] = narrow(sums * inverse);
                }
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
    // Workgroups beyond the last repeat it.
    let number = min(linear_group(group, n_groups), params.n_workgroups - 1u);
    let head = number / params.n_query_blocks % params.heads;
    let item = number / params.n_query_blocks / params.heads;
    let column = head * params.head_size;
    let first_query = number % params.n_query_blocks * n_queries;
    var place: Place;
    place.q_at = item * params.n_queries * params.q_stride + column;
    place.k_at = item * params.n_keys * params.k_stride + params.k_offset + column;
    place.v_at = item * params.n_keys * params.v_stride + params.v_offset + column;
    place.out_at = item * params.n_queries * params.out_stride + column;
    let first_own = first_query + subgroup * SIDE;
    let own_scores = subgroup * SIDE * SCORE_STRIDE;
    let own_weights = subgroup * SIDE * WEIGHT_STRIDE;

    // A causal workgroup needs no keys after its last query.
    var last_key = params.n_keys;
    if causal {
        last_key = min(last_key, first_query + n_queries);
    }

    // The queries, by way of the weights' room, 32 columns at a time. They and the results are variables of their
    // own, and no arrays, so that nothing keeps them from staying in registers.
    var q0 = matrix_a();
    var q1 = matrix_a();
    var q2 = matrix_a();
    var q3 = matrix_a();
    var q4 = matrix_a();
    var q5 = matrix_a();
    var q6 = matrix_a();
    var q7 = matrix_a();
    var q8 = matrix_a();
    var q9 = matrix_a();
    stage_queries(place, first_own, own_weights, sub_lane, 0u);
    q0 = coopLoadT<matrix_a>(&weights[own_weights], WEIGHT_STRIDE);
    q1 = coopLoadT<matrix_a>(&weights[own_weights + 4u], WEIGHT_STRIDE);
    if n_parts > 2u {
        stage_queries(place, first_own, own_weights, sub_lane, 2u);
        q2 = coopLoadT<matrix_a>(&weights[own_weights], WEIGHT_STRIDE);
        q3 = coopLoadT<matrix_a>(&weights[own_weights + 4u], WEIGHT_STRIDE);
    }
    if n_parts > 4u {
        stage_queries(place, first_own, own_weights, sub_lane, 4u);
        q4 = coopLoadT<matrix_a>(&weights[own_weights], WEIGHT_STRIDE);
        q5 = coopLoadT<matrix_a>(&weights[own_weights + 4u], WEIGHT_STRIDE);
    }
    if n_parts > 6u {
        stage_queries(place, first_own, own_weights, sub_lane, 6u);
        q6 = coopLoadT<matrix_a>(&weights[own_weights], WEIGHT_STRIDE);
        q7 = coopLoadT<matrix_a>(&weights[own_weights + 4u], WEIGHT_STRIDE);
    }
    if n_parts > 8u {
        stage_queries(place, first_own, own_weights, sub_lane, 8u);
        q8 = coopLoadT<matrix_a>(&weights[own_weights], WEIGHT_STRIDE);
        q9 = coopLoadT<matrix_a>(&weights[own_weights + 4u], WEIGHT_STRIDE);
    }

    // Of each query: the largest score, and the sum of the weights.
    var largest: array<f32, MAX_ROWS>;
    var total: array<f32, MAX_ROWS>;
    for (var r = 0u; r < own_rows; r++) {
        largest[r] = HIDDEN;
        total[r] = 0.0;
    }
    var o0 = matrix_c();
    var o1 = matrix_c();
    var o2 = matrix_c();
    var o3 = matrix_c();
    var o4 = matrix_c();
    var o5 = matrix_c();
    var o6 = matrix_c();
    var o7 = matrix_c();
    var o8 = matrix_c();
    var o9 = matrix_c();

    var next_k: array<eight, MAX_LOADS>;
    var next_v: array<eight, MAX_LOADS>;

    // The first walk. While the scores of a block are looked at, the keys of the next are on their way.
    var half = 0u;
    for (var j = 0u; j < loads; j++) {
        let i = lane + j * n_threads;
        store_k(i, half, load_k(place.k_at, i / row_vectors, i % row_vectors));
    }
    workgroupBarrier();
    for (var first_key = 0u; first_key < last_key; first_key += N_KEYS) {
        for (var j = 0u; j < loads; j++) {
            let i = lane + j * n_threads;
            next_k[j] = load_k(place.k_at, first_key + N_KEYS + i / row_vectors, i % row_vectors);
        }
        find_scores(own_scores, half * tile_cells, q0, q1, q2, q3, q4, q5, q6, q7, q8, q9);
        workgroupBarrier();
        for (var r = 0u; r < own_rows; r++) {
            let row = r * subgroup_size + sub_lane;
            if row < SIDE {
                let query = first_own + row;
                let at = own_scores + row * SCORE_STRIDE;
                var block = vec4<f32>(HIDDEN);
                for (var i = 0u; i < 8u; i++) {
                    block = max(block, visible(scores[at + i], query, first_key + i * 4u));
                }
                let new_largest = max(max(max(block.x, block.y), max(block.z, block.w)), largest[r]);
                var sum = vec4<f32>();
                for (var i = 0u; i < 8u; i++) {
                    sum += exp2(visible(scores[at + i], query, first_key + i * 4u) - new_largest);
                }
                total[r] = total[r] * exp2(largest[r] - new_largest) + sum.x + sum.y + sum.z + sum.w;
                largest[r] = new_largest;
            }
        }
        if two_halves { half = 1u - half; } else { workgroupBarrier(); }
        for (var j = 0u; j < loads; j++) {
            store_k(lane + j * n_threads, half, next_k[j]);
        }
        workgroupBarrier();
    }

    // The second walk.
    half = 0u;
    for (var j = 0u; j < loads; j++) {
        let i = lane + j * n_threads;
        store_k(i, half, load_k(place.k_at, i / row_vectors, i % row_vectors));
        store_v(i, half, load_v(place.v_at, i / row_vectors, i % row_vectors));
    }
    workgroupBarrier();
    for (var first_key = 0u; first_key < last_key; first_key += N_KEYS) {
        for (var j = 0u; j < loads; j++) {
            let i = lane + j * n_threads;
            next_k[j] = load_k(place.k_at, first_key + N_KEYS + i / row_vectors, i % row_vectors);
            next_v[j] = load_v(place.v_at, first_key + N_KEYS + i / row_vectors, i % row_vectors);
        }
        find_scores(own_scores, half * tile_cells, q0, q1, q2, q3, q4, q5, q6, q7, q8, q9);
        workgroupBarrier();
        for (var r = 0u; r < own_rows; r++) {
            let row = r * subgroup_size + sub_lane;
            if row < SIDE {
                let at = own_scores + row * SCORE_STRIDE;
                for (var i = 0u; i < 8u; i++) {
                    let weight = exp2(visible(scores[at + i], first_own + row, first_key + i * 4u) - largest[r]);
                    weights[own_weights + row * WEIGHT_STRIDE + i] = narrow(weight);
                }
            }
        }
        workgroupBarrier();
        let a00 = coopLoadT<matrix_a>(&weights[own_weights], WEIGHT_STRIDE);
        let a01 = coopLoadT<matrix_a>(&weights[own_weights + 4u], WEIGHT_STRIDE);
        if n_parts > 0u {
            let b0 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + 0u], row_stride);
            let b1 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + SIDE * row_stride + 0u], row_stride);
            o0 = coopMultiplyAdd(a01, b1, coopMultiplyAdd(a00, b0, o0));
        }
        if n_parts > 1u {
            let b0 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + 4u], row_stride);
            let b1 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + SIDE * row_stride + 4u], row_stride);
            o1 = coopMultiplyAdd(a01, b1, coopMultiplyAdd(a00, b0, o1));
        }
        if n_parts > 2u {
            let b0 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + 8u], row_stride);
            let b1 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + SIDE * row_stride + 8u], row_stride);
            o2 = coopMultiplyAdd(a01, b1, coopMultiplyAdd(a00, b0, o2));
        }
        if n_parts > 3u {
            let b0 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + 12u], row_stride);
            let b1 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + SIDE * row_stride + 12u], row_stride);
            o3 = coopMultiplyAdd(a01, b1, coopMultiplyAdd(a00, b0, o3));
        }
        if n_parts > 4u {
            let b0 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + 16u], row_stride);
            let b1 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + SIDE * row_stride + 16u], row_stride);
            o4 = coopMultiplyAdd(a01, b1, coopMultiplyAdd(a00, b0, o4));
        }
        if n_parts > 5u {
            let b0 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + 20u], row_stride);
            let b1 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + SIDE * row_stride + 20u], row_stride);
            o5 = coopMultiplyAdd(a01, b1, coopMultiplyAdd(a00, b0, o5));
        }
        if n_parts > 6u {
            let b0 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + 24u], row_stride);
            let b1 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + SIDE * row_stride + 24u], row_stride);
            o6 = coopMultiplyAdd(a01, b1, coopMultiplyAdd(a00, b0, o6));
        }
        if n_parts > 7u {
            let b0 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + 28u], row_stride);
            let b1 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + SIDE * row_stride + 28u], row_stride);
            o7 = coopMultiplyAdd(a01, b1, coopMultiplyAdd(a00, b0, o7));
        }
        if n_parts > 8u {
            let b0 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + 32u], row_stride);
            let b1 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + SIDE * row_stride + 32u], row_stride);
            o8 = coopMultiplyAdd(a01, b1, coopMultiplyAdd(a00, b0, o8));
        }
        if n_parts > 9u {
            let b0 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + 36u], row_stride);
            let b1 = coopLoadT<matrix_b>(&v_tile[half * tile_cells + SIDE * row_stride + 36u], row_stride);
            o9 = coopMultiplyAdd(a01, b1, coopMultiplyAdd(a00, b0, o9));
        }
        if two_halves { half = 1u - half; } else { workgroupBarrier(); }
        for (var j = 0u; j < loads; j++) {
            store_k(lane + j * n_threads, half, next_k[j]);
            store_v(lane + j * n_threads, half, next_v[j]);
        }
        workgroupBarrier();
    }

    // The results, by way of the scores' room, one matrix of columns at a time.
    if n_parts > 0u {
        coopStoreT(o0, &scores[own_scores], SCORE_STRIDE);
        workgroupBarrier();
        store(place, first_own, own_scores, sub_lane, 0u, total);
        workgroupBarrier();
    }
    if n_parts > 1u {
        coopStoreT(o1, &scores[own_scores], SCORE_STRIDE);
        workgroupBarrier();
        store(place, first_own, own_scores, sub_lane, 1u, total);
        workgroupBarrier();
    }
    if n_parts > 2u {
        coopStoreT(o2, &scores[own_scores], SCORE_STRIDE);
        workgroupBarrier();
        store(place, first_own, own_scores, sub_lane, 2u, total);
        workgroupBarrier();
    }
    if n_parts > 3u {
        coopStoreT(o3, &scores[own_scores], SCORE_STRIDE);
        workgroupBarrier();
        store(place, first_own, own_scores, sub_lane, 3u, total);
        workgroupBarrier();
    }
    if n_parts > 4u {
        coopStoreT(o4, &scores[own_scores], SCORE_STRIDE);
        workgroupBarrier();
        store(place, first_own, own_scores, sub_lane, 4u, total);
        workgroupBarrier();
    }
    if n_parts > 5u {
        coopStoreT(o5, &scores[own_scores], SCORE_STRIDE);
        workgroupBarrier();
        store(place, first_own, own_scores, sub_lane, 5u, total);
        workgroupBarrier();
    }
    if n_parts > 6u {
        coopStoreT(o6, &scores[own_scores], SCORE_STRIDE);
        workgroupBarrier();
        store(place, first_own, own_scores, sub_lane, 6u, total);
        workgroupBarrier();
    }
    if n_parts > 7u {
        coopStoreT(o7, &scores[own_scores], SCORE_STRIDE);
        workgroupBarrier();
        store(place, first_own, own_scores, sub_lane, 7u, total);
        workgroupBarrier();
    }
    if n_parts > 8u {
        coopStoreT(o8, &scores[own_scores], SCORE_STRIDE);
        workgroupBarrier();
        store(place, first_own, own_scores, sub_lane, 8u, total);
        workgroupBarrier();
    }
    if n_parts > 9u {
        coopStoreT(o9, &scores[own_scores], SCORE_STRIDE);
        workgroupBarrier();
        store(place, first_own, own_scores, sub_lane, 9u, total);
        workgroupBarrier();
    }
}
