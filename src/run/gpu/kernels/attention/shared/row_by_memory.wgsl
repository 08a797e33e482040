// The invocations of a row tell each other a number through workgroup memory; `row_by_subgroup` has the same names.

override n_numbers: u32 = n_queries * threads_x;

var<workgroup> by_thread: array<f32, n_numbers>; // [n_queries][threads_x]

fn tell_row(row: u32, x: u32, value: f32) {
    by_thread[row * threads_x + x] = value;
}

// Between telling and asking. All invocations call this together.
fn meet_in_rows() {
    workgroupBarrier();
}

fn row_max(row: u32, own: f32) -> f32 {
    var largest = own;
    for (var i = 0u; i < threads_x; i++) {
        largest = max(largest, by_thread[row * threads_x + i]);
    }
    return largest;
}

fn row_sum(row: u32, own: f32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < threads_x; i++) {
        sum += by_thread[row * threads_x + i];
    }
    return sum;
}
