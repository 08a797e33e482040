// A packed weight in codes of 4 bits, with a scale for each 32 rows. A word has two rows, the first in its lower half.

#import weight_scales

@group(0) @binding(3) var<storage, read> weight: array<u32>; // [K/2,N/4], by tap, source, channel; then the scales

// Four columns of a row.
fn weight_at(row: u32, quad: u32, n_quads: u32) -> vec4<f32> {
    let word = weight[row / 2u * n_quads + quad] >> (row % 2u * 16u);
    let codes = vec4<i32>(vec4<u32>(word) << vec4<u32>(28u, 24u, 20u, 16u)) >> vec4<u32>(28u);
    return vec4<f32>(codes) * scales_at(row, quad, n_quads);
}
