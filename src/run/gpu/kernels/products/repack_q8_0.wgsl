// Packs a weight in blocks of 8-bit codes, from -127 to 127, or with -128 where a file has it.

#import repack_blocks

const ROWS_OF_A_WORD = 1u;

// The f16 of the scales, by the values of largest magnitude.
fn scales_for(largest: vec4<f32>, output: u32, rows: vec2<u32>) -> vec4<u32> {
    return f16_of(abs(largest) / 127.0 * SCALE_FACTOR);
}

// The codes of four outputs, a byte each.
fn codes_of(values: vec4<f32>, scales: vec4<f32>) -> u32 {
    let codes = vec4<u32>(vec4<i32>(clamp(round(values / scales), vec4<f32>(-128.0), vec4<f32>(127.0)))) & vec4<u32>(0xffu);
    return codes.x | (codes.y << 8u) | (codes.z << 16u) | (codes.w << 24u);
}
