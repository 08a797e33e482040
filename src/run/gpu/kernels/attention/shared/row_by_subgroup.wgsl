// The invocations of a row, which are in one subgroup and a power of two, tell each other a number by themselves;
// `row_by_memory` has the same names.

#import subgroups

fn tell_row(row: u32, x: u32, value: f32) {}

fn meet_in_rows() {}

fn row_max(row: u32, own: f32) -> f32 {
    var largest = own;
    for (var mask = 1u; mask < threads_x; mask *= 2u) {
        largest = max(largest, subgroupShuffleXor(largest, mask));
    }
    return largest;
}

// Both of two invocations add the same two numbers, so that all of a row have the same sum.
fn row_sum(row: u32, own: f32) -> f32 {
    var sum = own;
    for (var mask = 1u; mask < threads_x; mask *= 2u) {
        sum += subgroupShuffleXor(sum, mask);
    }
    return sum;
}
