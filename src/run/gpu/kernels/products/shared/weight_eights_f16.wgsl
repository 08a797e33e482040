// A packed weight in f16 that is read by eights, as it is.

@group(0) @binding(3) var<storage, read> weight: array<eight>; // [K,N/8], by tap, source, channel

// Eight columns of a row.
fn weight_eight(row: u32, vector: u32) -> eight {
    return weight[row * (params.n / 8u) + vector];
}
