// The sum over the invocations of a row, inside subgroups by themselves and between them through workgroup memory;
// `sum_by_memory` has the same name.

#import subgroups

// Invocations that a subgroup has at least, a power of two.
override least_subgroup: u32 = 4u;

var<workgroup> sums: array<f32, 128>;

// The sum over the invocations of a row, for each of them.
fn row_sum(lane: u32, value: f32) -> f32 {
    var sum = value;
    // Both of two invocations add the same two numbers, so that all have the same sum.
    for (var mask = 1u; mask < min(threads_per_row, least_subgroup); mask *= 2u) {
        sum += subgroupShuffleXor(sum, mask);
    }
    if threads_per_row > least_subgroup {
        sums[lane] = sum;
        workgroupBarrier();
        let first = lane - lane % threads_per_row;
        sum = 0.0;
        for (var i = 0u; i < threads_per_row; i += least_subgroup) {
            sum += sums[first + i];
        }
        // Nobody may begin the next sum before all have this one.
        workgroupBarrier();
    }
    return sum;
}
