// One workgroup attends for 32 queries of one head: for each block of 32 keys it computes the scores, keeps a running
// maximum and a running sum of every query, and adds the block's values. 8x8 invocations; invocation (x,y) has the queries
// y, y+8, y+16, y+24 of the workgroup, the keys x, x+8, x+16, x+24 of the block, and four columns of each part of 32 that the
// head's columns are cut into. The results of wide heads are cut into slices of a few parts, each with a workgroup of its own
// that computes the scores again, because no invocation has registers for more.

#import linear_group

// Parts of 32 columns in a slice, at most 5.
override n_parts: u32 = 1u;
// Keys after the query are hidden.
override causal: bool = false;
// q holds k and v too, in the same rows.
override packed: bool = false;

#import attention_params

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> q: array<cell>; // [B,T,q_stride]
@group(0) @binding(2) var<storage, read_write> k: array<cell>; // [B,S,k_stride]
@group(0) @binding(3) var<storage, read_write> v: array<cell>; // [B,S,v_stride]
@group(0) @binding(4) var<storage, read_write> out: array<cell>; // [B,T,heads*head_size]

const N_THREADS = 64u;
const N_QUERIES = 32u;
const N_KEYS = 32u;
// Queries of one invocation.
const ROWS = 4u;
// Eight quads of a row and one more, so that neighbouring rows lie in different banks.
const STRIDE = 9u;
// Below every score; a real infinity is avoided, because a compiler may assume that there is none.
const HIDDEN = -3.0e38;

var<workgroup> q_tile: array<vec4<f32>, 288>; // [32 queries][9]: one part of the columns
var<workgroup> kv_tile: array<vec4<f32>, 288>; // [32 keys][9]: one part of the columns of k, then of v
var<workgroup> weights: array<vec4<f32>, 288>; // [32 queries][9]: quad x has keys x, x+8, x+16, x+24
var<workgroup> by_thread: array<f32, 256>; // [32 queries][8]: one number of each invocation of a query

// Four columns of a row that begins at `first`, zeros beyond the head.
fn load_q(first: u32, column: u32) -> vec4<f32> {
    var quad = vec4<f32>();
    for (var i = 0u; i < 4u; i += WIDTH) {
        if column + i < params.head_size { put(&quad, i, q[(first + column + i) / WIDTH]); }
    }
    return quad;
}

fn load_k(first: u32, column: u32) -> vec4<f32> {
    var quad = vec4<f32>();
    for (var i = 0u; i < 4u; i += WIDTH) {
        if column + i < params.head_size {
            let at = (first + column + i) / WIDTH;
            if packed { put(&quad, i, q[at]); } else { put(&quad, i, k[at]); }
        }
    }
    return quad;
}

fn load_v(first: u32, column: u32) -> vec4<f32> {
    var quad = vec4<f32>();
    for (var i = 0u; i < 4u; i += WIDTH) {
        if column + i < params.head_size {
            let at = (first + column + i) / WIDTH;
            if packed { put(&quad, i, q[at]); } else { put(&quad, i, v[at]); }
        }
    }
    return quad;
}

// Adds four products to a sum, one after the other.
fn add_dot(sum: f32, a: vec4<f32>, b: vec4<f32>) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

// Where a workgroup is.
struct Place {
    lane: u32,
    x: u32,
    y: u32,
    first_query: u32,
    // First elements of the batch item's rows, at the head's first column.
    q_at: u32,
    k_at: u32,
    v_at: u32,
    out_at: u32,
}

// Adds the columns of part `part` of the block's values to the results, after fading what is there. The results of each part are a
// variable of their own and this function is called once for each, because an array that is indexed by a loop around a
// barrier would not stay in registers.
fn add_values(sums: ptr<function, array<vec4<f32>, 4>>, fade: array<f32, 4>, place: Place, first_key: u32, part: u32) {
    for (var item = place.lane; item < N_KEYS * 8u; item += N_THREADS) {
        let key = first_key + item / 8u;
        var value = vec4<f32>();
        if key < params.n_keys {
            value = load_v(place.v_at + key * params.v_stride, part * 32u + item % 8u * 4u);
        }
        kv_tile[item / 8u * STRIDE + item % 8u] = value;
    }
    workgroupBarrier();
    for (var r = 0u; r < ROWS; r++) {
        (*sums)[r] *= fade[r];
    }
    for (var i = 0u; i < 8u; i++) {
        let v0 = kv_tile[i * STRIDE + place.x];
        let v1 = kv_tile[(i + 8u) * STRIDE + place.x];
        let v2 = kv_tile[(i + 16u) * STRIDE + place.x];
        let v3 = kv_tile[(i + 24u) * STRIDE + place.x];
        for (var r = 0u; r < ROWS; r++) {
            let w = weights[(r * 8u + place.y) * STRIDE + i];
            (*sums)[r] = fma(vec4<f32>(w.w), v3, fma(vec4<f32>(w.z), v2, fma(vec4<f32>(w.y), v1, fma(vec4<f32>(w.x), v0, (*sums)[r]))));
        }
    }
    workgroupBarrier();
}

fn store(sums: array<vec4<f32>, 4>, inverse: array<f32, 4>, place: Place, part: u32) {
    let column = part * 32u + place.x * 4u;
    for (var r = 0u; r < ROWS; r++) {
        let query = place.first_query + r * 8u + place.y;
        if query < params.n_queries {
            let value = sums[r] * inverse[r];
            for (var i = 0u; i < 4u; i += WIDTH) {
                if column + i < params.head_size {
                    out[(place.out_at + query * params.out_stride + column + i) / WIDTH] = pick(value, i);
                }
            }
        }
    }
}

@compute @workgroup_size(8, 8)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = linear_group(group, n_groups);
    if number >= params.n_workgroups {
        return;
    }
    // The slices of one block of queries are neighbours, since they read the same keys.
    let first_part = number % params.n_slices * n_parts;
    let block = number / params.n_slices;
    let head = block / params.n_query_blocks % params.heads;
    let item = block / params.n_query_blocks / params.heads;
    let column = head * params.head_size;
    // Kept outside of `place`, which holds things that differ between invocations: the loop below has to be seen to run
    // equally often in all of them.
    let first_query = block % params.n_query_blocks * N_QUERIES;
    var place: Place;
    place.lane = lane;
    place.x = thread.x;
    place.y = thread.y;
    place.first_query = first_query;
    place.q_at = item * params.n_queries * params.q_stride + column;
    place.k_at = item * params.n_keys * params.k_stride + params.k_offset + column;
    place.v_at = item * params.n_keys * params.v_stride + params.v_offset + column;
    place.out_at = item * params.n_queries * params.out_stride + column;

    var sums_0: array<vec4<f32>, 4>;
    var sums_1: array<vec4<f32>, 4>;
    var sums_2: array<vec4<f32>, 4>;
    var sums_3: array<vec4<f32>, 4>;
    var sums_4: array<vec4<f32>, 4>;
    // Of each query: the largest score so far, the sum of this invocation's weights, and the factor for older sums.
    var largest = array<f32, 4>(HIDDEN, HIDDEN, HIDDEN, HIDDEN);
    var total: array<f32, 4>;
    var fade: array<f32, 4>;

    // A causal workgroup needs no keys after its last query.
    var n_keys = params.n_keys;
    if causal {
        n_keys = min(n_keys, first_query + N_QUERIES);
    }
    for (var first_key = 0u; first_key < n_keys; first_key += N_KEYS) {
        // Scores of the four queries with four keys.
        var scores: array<vec4<f32>, 4>;
        for (var r = 0u; r < ROWS; r++) {
            scores[r] = vec4<f32>();
        }
        for (var part = 0u; part * 32u < params.head_size; part++) {
            for (var i = lane; i < N_QUERIES * 8u; i += N_THREADS) {
                let query = first_query + i / 8u;
                var value = vec4<f32>();
                if query < params.n_queries {
                    value = load_q(place.q_at + query * params.q_stride, part * 32u + i % 8u * 4u) * params.scale_log2;
                }
                q_tile[i / 8u * STRIDE + i % 8u] = value;
            }
            for (var i = lane; i < N_KEYS * 8u; i += N_THREADS) {
                let key = first_key + i / 8u;
                var value = vec4<f32>();
                if key < params.n_keys {
                    value = load_k(place.k_at + key * params.k_stride, part * 32u + i % 8u * 4u);
                }
                kv_tile[i / 8u * STRIDE + i % 8u] = value;
            }
            workgroupBarrier();
            // The last part may be narrower: 40 columns are one part and a quarter.
            let n_quads = min(8u, (params.head_size - part * 32u + 3u) / 4u);
            for (var i = 0u; i < n_quads; i++) {
                let k0 = kv_tile[thread.x * STRIDE + i];
                let k1 = kv_tile[(thread.x + 8u) * STRIDE + i];
                let k2 = kv_tile[(thread.x + 16u) * STRIDE + i];
                let k3 = kv_tile[(thread.x + 24u) * STRIDE + i];
                for (var r = 0u; r < ROWS; r++) {
                    let x = q_tile[(r * 8u + thread.y) * STRIDE + i];
                    let sums = scores[r];
                    scores[r] = vec4<f32>(
                        add_dot(sums.x, x, k0),
                        add_dot(sums.y, x, k1),
                        add_dot(sums.z, x, k2),
                        add_dot(sums.w, x, k3),
                    );
                }
            }
            workgroupBarrier();
        }

        let keys = vec4<u32>(first_key + thread.x) + vec4<u32>(0u, 8u, 16u, 24u);
        for (var r = 0u; r < ROWS; r++) {
            let query = first_query + r * 8u + thread.y;
            var hidden = keys >= vec4<u32>(params.n_keys);
            if causal {
                hidden |= keys > vec4<u32>(query);
            }
            let score = select(scores[r], vec4<f32>(HIDDEN), hidden);
            scores[r] = score;
            by_thread[(r * 8u + thread.y) * 8u + thread.x] = max(max(score.x, score.y), max(score.z, score.w));
        }
        workgroupBarrier();
        for (var r = 0u; r < ROWS; r++) {
            var new_largest = largest[r];
            for (var i = 0u; i < 8u; i++) {
                new_largest = max(new_largest, by_thread[(r * 8u + thread.y) * 8u + i]);
            }
            fade[r] = exp2(largest[r] - new_largest);
            largest[r] = new_largest;
            let w = exp2(scores[r] - new_largest);
            total[r] = total[r] * fade[r] + w.x + w.y + w.z + w.w;
            weights[(r * 8u + thread.y) * STRIDE + thread.x] = w;
        }

        add_values(&sums_0, fade, place, first_key, first_part);
        if n_parts > 1u { add_values(&sums_1, fade, place, first_key, first_part + 1u); }
        if n_parts > 2u { add_values(&sums_2, fade, place, first_key, first_part + 2u); }
        if n_parts > 3u { add_values(&sums_3, fade, place, first_key, first_part + 3u); }
        if n_parts > 4u { add_values(&sums_4, fade, place, first_key, first_part + 4u); }
    }

    // The sums of all eight invocations of a query.
    for (var r = 0u; r < ROWS; r++) {
        by_thread[(r * 8u + thread.y) * 8u + thread.x] = total[r];
    }
    workgroupBarrier();
    var inverse: array<f32, 4>;
    for (var r = 0u; r < ROWS; r++) {
        var sum = 0.0;
        for (var i = 0u; i < 8u; i++) {
            sum += by_thread[(r * 8u + thread.y) * 8u + i];
        }
        inverse[r] = 1.0 / sum;
    }
    store(sums_0, inverse, place, first_part);
    if n_parts > 1u { store(sums_1, inverse, place, first_part + 1u); }
    if n_parts > 2u { store(sums_2, inverse, place, first_part + 2u); }
    if n_parts > 3u { store(sums_3, inverse, place, first_part + 3u); }
    if n_parts > 4u { store(sums_4, inverse, place, first_part + 4u); }
}
