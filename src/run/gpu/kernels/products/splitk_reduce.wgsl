// One invocation adds the parts of four neighbouring sums of a matrix product (with GEGLU of four values and their four
// gates), in order, in f32, and does what follows the product. A workgroup covers 256 of them.

#import linear_group
#import epilogue

struct Params {
    m: u32,
    n: u32,
    out_pixels: u32,
    n_splits: u32,
    time_embedding_stride: u32,
    time_embedding_offset: u32,
    // As in gemm.
    first_out_row: u32,
    padding: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> partial_sums: array<vec4<f32>>; // [splits,M,N/4]
@group(0) @binding(2) var<storage, read> bias: array<f32>; // [N]
@group(0) @binding(3) var<storage, read_write> time_embedding: array<cell>; // [B,..]
@group(0) @binding(4) var<storage, read_write> residual: array<cell>; // as out
@group(0) @binding(5) var<storage, read_write> out: array<cell>; // [M,N], with GEGLU [M,N/2]

fn sum_of_parts(at: u32, n_values: u32) -> vec4<f32> {
    var sum = vec4<f32>();
    for (var split = 0u; split < params.n_splits; split++) {
        sum += partial_sums[split * n_values + at];
    }
    return sum;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let item = linear_group(group, n_groups) * 256u + lane;
    let n_quads = (params.n + 3u) / 4u;
    let n_values = params.m * n_quads;
    if geglu {
        let n_pairs = n_quads / 2u;
        if item < params.m * n_pairs {
            let value = sum_of_parts(item * 2u, n_values);
            let gate = sum_of_parts(item * 2u + 1u, n_values);
            finish_geglu(item / n_pairs, item % n_pairs, value, gate);
        }
    } else if item < n_values {
        finish(item / n_quads, item % n_quads, sum_of_parts(item, n_values));
    }
}
