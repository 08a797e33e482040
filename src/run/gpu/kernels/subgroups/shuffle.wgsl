// Whether invocations that differ in a low bit of their number in the workgroup, x first, are in one subgroup and hear each
// other there, as kernels with subgroup operations count on.

#import subgroups

override threads_x: u32 = 128u;
override threads_y: u32 = 1u;

struct Params {
    // Invocations that a subgroup has at least.
    least_subgroup: u32,
    padding_1: u32,
    padding_2: u32,
    padding_3: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> out: array<cell>; // [threads_y,threads_x]: 0, or 1 where it fails

@compute @workgroup_size(threads_x, threads_y)
fn main(@builtin(local_invocation_index) lane: u32) {
    var fails = 0u;
    for (var mask = 1u; mask < params.least_subgroup; mask *= 2u) {
        if subgroupShuffleXor(lane, mask) != (lane ^ mask) {
            fails = 1u;
        }
    }
    out[lane] = elem(fails);
}
