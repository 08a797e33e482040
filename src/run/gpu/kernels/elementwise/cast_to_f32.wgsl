// One invocation converts one value. A workgroup covers 256 of them.

#import linear_group

struct Params {
    n_values: u32,
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<elem>; // [n_values]
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [n_values]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * 256u + lane;
    if i < params.n_values {
        out[i] = f32(x[i]);
    }
}
