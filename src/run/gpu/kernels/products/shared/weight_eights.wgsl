// Eight columns of a row of a packed weight that is read by fours.
fn weight_eight(row: u32, vector: u32) -> eight {
    let n_quads = params.n / 4u;
    let low = weight_at(row, vector * 2u, n_quads);
    let high = weight_at(row, vector * 2u + 1u, n_quads);
    return eight(narrow(low), narrow(high));
}
