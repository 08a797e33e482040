// The sum over the invocations of a row through workgroup memory; `sum_by_subgroup` has the same name.

var<workgroup> sums: array<f32, 128>;

// The sum over the invocations of a row, for each of them.
fn row_sum(lane: u32, value: f32) -> f32 {
    sums[lane] = value;
    workgroupBarrier();
    for (var half = threads_per_row / 2u; half > 0u; half /= 2u) {
        if lane % threads_per_row < half {
            sums[lane] += sums[lane + half];
        }
        workgroupBarrier();
    }
    let sum = sums[lane - lane % threads_per_row];
    // Nobody may begin the next sum before all have this one.
    workgroupBarrier();
    return sum;
}
