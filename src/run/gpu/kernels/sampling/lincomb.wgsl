// One invocation computes one cell of the linear combination result = c0·x0 + c1·x1 + …, added in that order in f32.
// A workgroup covers 256 neighbouring cells.

#import linear_group

struct Params {
    // How many cells `result` and each term have.
    n_cells: u32,
    // How many of the terms count; the rest are never read, so that a NaN in them does no harm.
    n_terms: u32,
    // Not 0 when the sum is held between `low` and `high`.
    has_clamp: u32,
    padding: u32,
    low: f32,
    high: f32,
    padding_0: u32,
    padding_1: u32,
    // c0 … c6, four to a vector because an array in a uniform buffer strides by 16 bytes.
    coefficients: array<vec4<f32>, 2>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> term_0: array<cell>; // [n_cells], as all of them
@group(0) @binding(2) var<storage, read_write> term_1: array<cell>;
@group(0) @binding(3) var<storage, read_write> term_2: array<cell>;
@group(0) @binding(4) var<storage, read_write> term_3: array<cell>;
@group(0) @binding(5) var<storage, read_write> term_4: array<cell>;
@group(0) @binding(6) var<storage, read_write> term_5: array<cell>;
@group(0) @binding(7) var<storage, read_write> term_6: array<cell>;
@group(0) @binding(8) var<storage, read_write> result: array<cell>; // [n_cells]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * 256u + lane;
    if i >= params.n_cells {
        return;
    }
    let c = params.coefficients;
    var sum = c[0].x * widen(term_0[i]);
    if params.n_terms > 1u { sum += c[0].y * widen(term_1[i]); }
    if params.n_terms > 2u { sum += c[0].z * widen(term_2[i]); }
    if params.n_terms > 3u { sum += c[0].w * widen(term_3[i]); }
    if params.n_terms > 4u { sum += c[1].x * widen(term_4[i]); }
    if params.n_terms > 5u { sum += c[1].y * widen(term_5[i]); }
    if params.n_terms > 6u { sum += c[1].z * widen(term_6[i]); }
    if params.has_clamp != 0u {
        sum = clamp(sum, vec4<f32>(params.low), vec4<f32>(params.high));
    }
    result[i] = narrow(sum);
}
