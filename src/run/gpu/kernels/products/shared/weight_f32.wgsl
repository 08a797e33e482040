// A packed weight in f32.

@group(0) @binding(3) var<storage, read> weight: array<vec4<f32>>; // [K,N/4], by tap, source, channel

// Four columns of a row.
fn weight_at(row: u32, quad: u32, n_quads: u32) -> vec4<f32> {
    return weight[row * n_quads + quad];
}
