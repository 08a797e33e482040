// One invocation blends one value. A workgroup covers 256 of them. Latents are small: nothing is gained by cells of four.

#import linear_group

struct Params {
    n_values: u32,
    channels: u32,
    padding_0: u32,
    padding_1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> mask: array<cell>; // [pixels]
@group(0) @binding(2) var<storage, read_write> a: array<cell>; // [pixels,C]
@group(0) @binding(3) var<storage, read_write> b: array<cell>; // [pixels,C]
@group(0) @binding(4) var<storage, read_write> out: array<cell>; // [pixels,C]

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = linear_group(group, n_groups) * 256u + lane;
    if i < params.n_values {
        let share = widen(mask[i / params.channels]).x;
        // Each product by itself, so that a mask of 0 or 1 gives b or a to the last bit.
        out[i] = narrow(share * widen(a[i]) + (1.0 - share) * widen(b[i]));
    }
}
