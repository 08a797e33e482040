// A packed weight in codes of 8 bits, with a scale for each 32 rows.

#import weight_scales

@group(0) @binding(3) var<storage, read> weight: array<u32>; // [K,N/4], by tap, source, channel; then the scales

// Four columns of a row.
fn weight_at(row: u32, quad: u32, n_quads: u32) -> vec4<f32> {
    let word = weight[row * n_quads + quad];
    let codes = vec4<i32>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u);
    return vec4<f32>(codes) * scales_at(row, quad, n_quads);
}
