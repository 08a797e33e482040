// The invocations share the cells; each counts its own, then a workgroup adds its 256 counts to the result at once.

#import linear_group

struct Params {
    n_cells: u32,
    // Invocations in all.
    n_threads: u32,
    padding_0: u32,
    padding_1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<cell>; // [n_cells]
@group(0) @binding(2) var<storage, read_write> total: array<atomic<u32>>; // [1]

var<workgroup> found: atomic<u32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * 256u + lane;
    if lane == 0u {
        atomicStore(&found, 0u);
    }
    workgroupBarrier();
    var n = 0u;
    for (var at = i; at < params.n_cells; at += params.n_threads) {
        // By the bits of the exponent, since a compiler may assume that comparisons never see a NaN.
        let bits = bitcast<vec4<u32>>(widen(x[at])) & vec4<u32>(0x7f800000u);
        n += dot(select(vec4<u32>(0u), vec4<u32>(1u), bits == vec4<u32>(0x7f800000u)), vec4<u32>(1u));
    }
    if n > 0u {
        atomicAdd(&found, n);
    }
    workgroupBarrier();
    if lane == 0u {
        let n_found = atomicLoad(&found);
        if n_found > 0u {
            atomicAdd(&total[0], n_found);
        }
    }
}
