// One workgroup attends for a block of queries of one head: for each block of keys it computes the scores, keeps a running
// maximum and a running sum of every query, and adds the block's values. Of threads_x by threads_y invocations, (x,y) has
// four queries of the workgroup, threads_y apart, four keys of the block, threads_x apart, and four columns of each part
// that the head's columns are cut into. The results of wide heads are cut into slices of a few parts, each with a workgroup
// of its own that computes the scores again, because no invocation has registers for more.
//
// The importing file says what multiplies, and how the invocations of a query find their largest score and their sum.

#import linear_group

// Invocations along the keys and the columns, and along the queries.
override threads_x: u32 = 8u;
override threads_y: u32 = 8u;
// Parts in a slice, at most 5.
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

// Queries of one invocation.
const ROWS = 4u;
// Below every score; a real infinity is avoided, because a compiler may assume that there is none.
const HIDDEN = -3.0e38;

override n_queries: u32 = ROWS * threads_y;
override n_keys: u32 = 4u * threads_x;
// The quads of a row and one more, so that neighbouring rows lie in different banks.
override stride: u32 = threads_x + 1u;
override query_cells: u32 = n_queries * stride;
override key_cells: u32 = n_keys * stride;

// [n_queries][stride]: one part of the columns of q; then the weights, of which quad x has four keys, threads_x apart.
var<workgroup> query_tile: array<factors, query_cells>;
var<workgroup> key_tile: array<factors, key_cells>; // [n_keys][stride]: one part of the columns of k, then of v

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

fn largest_of(score: vec4<f32>) -> f32 {
    return max(max(score.x, score.y), max(score.z, score.w));
}

// Where an invocation is.
struct Place {
    x: u32,
    y: u32,
    first_query: u32,
    // First elements of the batch item's rows, at the head's first column.
    q_at: u32,
    k_at: u32,
    v_at: u32,
    out_at: u32,
}

// Each invocation brings one quad of every threads_y-th row.

fn bring_queries(place: Place, part: u32) {
    for (var row = place.y; row < n_queries; row += threads_y) {
        let query = place.first_query + row;
        var value = vec4<f32>();
        if query < params.n_queries {
            value = load_q(place.q_at + query * params.q_stride, (part * threads_x + place.x) * 4u) * params.scale_log2;
        }
        query_tile[row * stride + place.x] = factors_of(value);
    }
}

fn bring_keys(place: Place, first_key: u32, part: u32) {
    for (var row = place.y; row < n_keys; row += threads_y) {
        let key = first_key + row;
        var value = vec4<f32>();
        if key < params.n_keys {
            value = load_k(place.k_at + key * params.k_stride, (part * threads_x + place.x) * 4u);
        }
        key_tile[row * stride + place.x] = factors_of(value);
    }
}

fn bring_values(place: Place, first_key: u32, part: u32) {
    for (var row = place.y; row < n_keys; row += threads_y) {
        let key = first_key + row;
        var value = vec4<f32>();
        if key < params.n_keys {
            value = load_v(place.v_at + key * params.v_stride, (part * threads_x + place.x) * 4u);
        }
        key_tile[row * stride + place.x] = factors_of(value);
    }
}

// Adds the values that were brought to the results of their part, after fading what is there. The results of each part are
// a variable of their own and this function is called once for each, because an array that is indexed by a loop around a
// barrier would not stay in registers.
fn add_values(sums: ptr<function, array<vec4<f32>, 4>>, fade: array<f32, 4>, place: Place) {
    workgroupBarrier();
    for (var r = 0u; r < ROWS; r++) {
        (*sums)[r] *= fade[r];
    }
    for (var i = 0u; i < threads_x; i++) {
        let v0 = key_tile[i * stride + place.x];
        let v1 = key_tile[(i + threads_x) * stride + place.x];
        let v2 = key_tile[(i + 2u * threads_x) * stride + place.x];
        let v3 = key_tile[(i + 3u * threads_x) * stride + place.x];
        for (var r = 0u; r < ROWS; r++) {
            let w = query_tile[(r * threads_y + place.y) * stride + i];
            (*sums)[r] = add_to_sums((*sums)[r], w, v0, v1, v2, v3);
        }
    }
    workgroupBarrier();
}

fn store(sums: array<vec4<f32>, 4>, inverse: array<f32, 4>, place: Place, part: u32) {
    let column = (part * threads_x + place.x) * 4u;
    for (var r = 0u; r < ROWS; r++) {
        let query = place.first_query + r * threads_y + place.y;
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

@compute @workgroup_size(threads_x, threads_y)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
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
    let first_query = block % params.n_query_blocks * n_queries;
    var place: Place;
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
    var last_key = params.n_keys;
    if causal {
        last_key = min(last_key, first_query + n_queries);
    }
    for (var first_key = 0u; first_key < last_key; first_key += n_keys) {
        // Scores of the four queries with four keys.
        var scores: array<vec4<f32>, 4>;
        for (var r = 0u; r < ROWS; r++) {
            scores[r] = vec4<f32>();
        }
        for (var part = 0u; part * threads_x * 4u < params.head_size; part++) {
            bring_queries(place, part);
            bring_keys(place, first_key, part);
            workgroupBarrier();
            // The last part may be narrower.
            let n_quads = min(threads_x, (params.head_size + 3u) / 4u - part * threads_x);
            for (var i = 0u; i < n_quads; i++) {
                let k0 = key_tile[thread.x * stride + i];
                let k1 = key_tile[(thread.x + threads_x) * stride + i];
                let k2 = key_tile[(thread.x + 2u * threads_x) * stride + i];
                let k3 = key_tile[(thread.x + 3u * threads_x) * stride + i];
                for (var r = 0u; r < ROWS; r++) {
                    let x = query_tile[(r * threads_y + thread.y) * stride + i];
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

        // The first values come while the largest scores are found.
        bring_values(place, first_key, first_part);
        let keys = vec4<u32>(first_key + thread.x) + vec4<u32>(0u, threads_x, 2u * threads_x, 3u * threads_x);
        for (var r = 0u; r < ROWS; r++) {
            let row = r * threads_y + thread.y;
            var hidden = keys >= vec4<u32>(params.n_keys);
            if causal {
                hidden |= keys > vec4<u32>(first_query + row);
            }
            let score = select(scores[r], vec4<f32>(HIDDEN), hidden);
            scores[r] = score;
            tell_row(row, thread.x, largest_of(score));
        }
        meet_in_rows();
        for (var r = 0u; r < ROWS; r++) {
            let row = r * threads_y + thread.y;
            let new_largest = max(largest[r], row_max(row, largest_of(scores[r])));
            fade[r] = exp2(largest[r] - new_largest);
            largest[r] = new_largest;
            let w = exp2(scores[r] - new_largest);
            total[r] = total[r] * fade[r] + w.x + w.y + w.z + w.w;
            query_tile[row * stride + thread.x] = factors_of(w);
        }

        add_values(&sums_0, fade, place);
        if n_parts > 1u {
            bring_values(place, first_key, first_part + 1u);
            add_values(&sums_1, fade, place);
        }
        if n_parts > 2u {
            bring_values(place, first_key, first_part + 2u);
            add_values(&sums_2, fade, place);
        }
        if n_parts > 3u {
            bring_values(place, first_key, first_part + 3u);
            add_values(&sums_3, fade, place);
        }
        if n_parts > 4u {
            bring_values(place, first_key, first_part + 4u);
            add_values(&sums_4, fade, place);
        }
    }

    // The sums of all invocations of a query.
    for (var r = 0u; r < ROWS; r++) {
        tell_row(r * threads_y + thread.y, thread.x, total[r]);
    }
    meet_in_rows();
    var inverse: array<f32, 4>;
    for (var r = 0u; r < ROWS; r++) {
        inverse[r] = 1.0 / row_sum(r * threads_y + thread.y, total[r]);
    }
    store(sums_0, inverse, place, first_part);
    if n_parts > 1u { store(sums_1, inverse, place, first_part + 1u); }
    if n_parts > 2u { store(sums_2, inverse, place, first_part + 2u); }
    if n_parts > 3u { store(sums_3, inverse, place, first_part + 3u); }
    if n_parts > 4u { store(sums_4, inverse, place, first_part + 4u); }
}
