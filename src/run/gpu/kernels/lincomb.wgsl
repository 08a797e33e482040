// One invocation computes one value of the linear combination result = c0·x0 + c1·x1 + …, added in that order in f32.
// A workgroup covers 256 neighbouring values; where one row of workgroups is not enough, more rows follow.

struct Params {
    // How many values `result` and each term have.
    n_values: u32,
    // How many of the terms count; the rest are never read, so that a NaN in them does no harm.
    n_terms: u32,
    // Workgroups along x, which is the length of a row in units of 256 values.
    n_workgroups_x: u32,
    padding: u32,
    // c0 … c6, four to a vector because an array in a uniform buffer strides by 16 bytes.
    coefficients: array<vec4<f32>, 2>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> term_0: array<f32>; // [n_values], as all of them
@group(0) @binding(2) var<storage, read> term_1: array<f32>;
@group(0) @binding(3) var<storage, read> term_2: array<f32>;
@group(0) @binding(4) var<storage, read> term_3: array<f32>;
@group(0) @binding(5) var<storage, read> term_4: array<f32>;
@group(0) @binding(6) var<storage, read> term_5: array<f32>;
@group(0) @binding(7) var<storage, read> term_6: array<f32>;
@group(0) @binding(8) var<storage, read_write> result: array<f32>; // [n_values]

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.y * params.n_workgroups_x + group.x) * 256u + lane;
    if i >= params.n_values {
        return;
    }
    let c = params.coefficients;
    var sum = c[0].x * term_0[i];
    if params.n_terms > 1u { sum += c[0].y * term_1[i]; }
    if params.n_terms > 2u { sum += c[0].z * term_2[i]; }
    if params.n_terms > 3u { sum += c[0].w * term_3[i]; }
    if params.n_terms > 4u { sum += c[1].x * term_4[i]; }
    if params.n_terms > 5u { sum += c[1].y * term_5[i]; }
    if params.n_terms > 6u { sum += c[1].z * term_6[i]; }
    result[i] = sum;
}
