// One invocation computes one frequency's sine and cosine. A workgroup covers 256 of them.

#import linear_group

// Cosines come first.
override flip_sin_to_cos: bool = false;

struct Params {
    batch: u32,
    // Frequencies.
    half: u32,
    // The last frequency would be 1/10000 at this index.
    exponent_divisor: f32,
    padding: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> t: array<f32>; // [B]
@group(0) @binding(2) var<storage, read_write> out: array<cell>; // [B,2·half]

const LN_10000 = 9.2103403719761836;

// e^x to about one unit in the last place for x from -87 to 0: x = n ln 2 + r with ln 2 in two parts, so that r is
// exact, and the Taylor series for e^r.
fn exact_exp(x: f32) -> f32 {
    let n = round(x * 1.4426950408889634);
    let r = (x - n * 0.693359375) + n * 2.12194440e-4;
    var p = 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    return ldexp(p, i32(n));
}

// Sine and cosine of x up to some thousands: x = n pi/2 + r with pi/2 in three parts (Cody and Waite), so that every
// product with n is exact, and Taylor series on |r| <= pi/4.
fn sin_cos(x: f32) -> vec2<f32> {
    let n = round(x * 0.6366197723675814);
    let r = ((x - n * 1.5703125) - n * 4.837512969970703e-4) - n * 7.549789948768648e-8;
    let r2 = r * r;
    let sine = r + r * r2 * (-1.0 / 6.0 + r2 * (1.0 / 120.0 + r2 * (-1.0 / 5040.0 + r2 * (1.0 / 362880.0))));
    let cosine = 1.0
        + r2 * (-0.5 + r2 * (1.0 / 24.0 + r2 * (-1.0 / 720.0 + r2 * (1.0 / 40320.0 - r2 * (1.0 / 3628800.0)))));
    switch i32(n) & 3 {
        case 0: { return vec2<f32>(sine, cosine); }
        case 1: { return vec2<f32>(cosine, -sine); }
        case 2: { return vec2<f32>(-sine, -cosine); }
        default: { return vec2<f32>(-cosine, sine); }
    }
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * 256u + lane;
    if i >= params.batch * params.half {
        return;
    }
    let row = i / params.half;
    let column = i % params.half;
    let frequency = exact_exp(-LN_10000 * f32(column) / params.exponent_divisor);
    let value = sin_cos(t[row] * frequency);
    let first = row * params.half * 2u + column;
    let sine_at = select(first, first + params.half, flip_sin_to_cos);
    let cosine_at = select(first + params.half, first, flip_sin_to_cos);
    out[sine_at] = narrow(vec4<f32>(value.x));
    out[cosine_at] = narrow(vec4<f32>(value.y));
}
