// Packs a weight in blocks of 4-bit codes from -8 to 7.

#import repack_blocks

const ROWS_OF_A_WORD = 2u;

// What the value of largest magnitude is divided by for a scale: the plain one first, then what may be closer.
const N_DIVISORS = 8u;
const DIVISORS = array<f32, 8>(-8.0, -7.0, -7.25, -7.5, -7.75, -8.25, -8.5, -8.75);

// What a later scale's squared error has to be below, as a part of the best before.
const BETTER = 0.999;

// The f16 of the scales with the least squared errors, by the values of largest magnitude.
fn scales_for(largest: vec4<f32>, output: u32, rows: vec2<u32>) -> vec4<u32> {
    var divisors = DIVISORS;
    var scales: array<vec4<f32>, N_DIVISORS>;
    var errors: array<vec4<f32>, N_DIVISORS>;
    for (var i = 0u; i < N_DIVISORS; i++) {
        scales[i] = f32_of(f16_of(largest / divisors[i] * SCALE_FACTOR)) * (1.0 / SCALE_FACTOR);
        errors[i] = vec4<f32>();
    }
    for (var row = rows.x; row < rows.y; row++) {
        let values = values_of(output, row);
        for (var i = 0u; i < N_DIVISORS; i++) {
            let differences = codes_in(values, not_zero(scales[i])) * scales[i] - values;
            errors[i] += differences * differences;
        }
    }
    var best = scales[0];
    var least = errors[0];
    for (var i = 1u; i < N_DIVISORS; i++) {
        let is_better = errors[i] < least * BETTER;
        best = select(best, scales[i], is_better);
        least = select(least, errors[i], is_better);
    }
    return f16_of(best * SCALE_FACTOR);
}

fn codes_in(values: vec4<f32>, scales: vec4<f32>) -> vec4<f32> {
    return clamp(round(values / scales), vec4<f32>(-8.0), vec4<f32>(7.0));
}

// The codes of four outputs, four bits each.
fn codes_of(values: vec4<f32>, scales: vec4<f32>) -> u32 {
    let codes = vec4<u32>(vec4<i32>(codes_in(values, scales))) & vec4<u32>(0xfu);
    return codes.x | (codes.y << 4u) | (codes.z << 8u) | (codes.w << 12u);
}
