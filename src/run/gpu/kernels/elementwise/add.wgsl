// One invocation adds one cell of b to one of a. A workgroup covers 256 of them.

#import linear_group

// b has size 1 in dimensions where a has more.
override repeats: bool = false;

struct Params {
    n_cells: u32,
    // Cells of b from one entry of a dimension to the next; 0 where it repeats.
    stride_0: u32,
    stride_1: u32,
    stride_2: u32,
    // Sizes of a, in cells; that of dimension 0 is not needed.
    size_1: u32,
    size_2: u32,
    size_3: u32,
    stride_3: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> a: array<cell>; // [n_cells]
@group(0) @binding(2) var<storage, read_write> b: array<cell>; // as a, or with ones
@group(0) @binding(3) var<storage, read_write> out: array<cell>; // [n_cells]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * 256u + lane;
    if i >= params.n_cells {
        return;
    }
    var at = i;
    if repeats {
        var rest = i;
        at = rest % params.size_3 * params.stride_3;
        rest /= params.size_3;
        at += rest % params.size_2 * params.stride_2;
        rest /= params.size_2;
        at += rest % params.size_1 * params.stride_1;
        rest /= params.size_1;
        at += rest * params.stride_0;
    }
    out[i] = narrow(widen(a[i]) + widen(b[at]));
}
