// Packs a weight in blocks of 4-bit codes, from -8, which the value of largest magnitude has, to 7.

#import repack_blocks

const ROWS_OF_A_WORD = 2u;

// What a code of 1 is worth, by the value of largest magnitude.
fn scales_for(largest: vec4<f32>) -> vec4<f32> {
    return largest / -8.0;
}

// The codes of four outputs, four bits each.
fn codes_of(values: vec4<f32>, scales: vec4<f32>) -> u32 {
    let codes = vec4<u32>(vec4<i32>(clamp(round(values / scales), vec4<f32>(-8.0), vec4<f32>(7.0)))) & vec4<u32>(0xfu);
    return codes.x | (codes.y << 4u) | (codes.z << 8u) | (codes.w << 12u);
}
