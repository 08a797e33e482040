// Adds the partial sums of a split matrix product, does what follows the product, stores the result, and normalises it in
// groups. One workgroup has all pixels of a batch item for a slab of whole groups, so that nothing is waited for but its
// own invocations. All of them store their results before any is measured: a compiler may leave out the rounding of a value
// that it still has in a register, and the norm would be of other values than those that are normalised.

#import linear_group
#import group_norm_whole

override has_bias: bool = false;
override has_time_embedding: bool = false;
override has_residual: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> partial_sums: array<vec4<f32>>; // [splits,B·H·W,C/4]
@group(0) @binding(2) var<storage, read> product_bias: array<f32>; // [C]
@group(0) @binding(3) var<storage, read_write> time_embedding: array<cell>; // [B,..]
@group(0) @binding(4) var<storage, read_write> residual: array<cell>; // [B,H,W,C]
@group(0) @binding(5) var<storage, read_write> product: array<cell>; // [B,H,W,C]
@group(0) @binding(6) var<storage, read> weight: array<f32>; // [C]
@group(0) @binding(7) var<storage, read> bias: array<f32>; // [C]
@group(0) @binding(8) var<storage, read_write> out: array<cell>; // [B,H,W,C]

fn add_parts(item: u32, pixel: u32, channel: u32) {
    let channels = params.channels_0;
    let at = ((item * params.pixels + pixel) * channels + channel) / WIDTH;
    // Of all batch items, four in each.
    let n_sums = params.n_workgroups / params.n_slabs * params.pixels * channels / 4u;
    var x = vec4<f32>();
    for (var split = 0u; split < params.n_splits; split++) {
        x += partial_sums[split * n_sums + at];
    }
    if has_bias {
        x += vec4<f32>(
            product_bias[channel],
            product_bias[channel + 1u],
            product_bias[channel + 2u],
            product_bias[channel + 3u],
        );
    }
    if has_time_embedding {
        let first = params.time_embedding_offset + item * params.time_embedding_stride;
        x += widen(time_embedding[(first + channel) / WIDTH]);
    }
    if has_residual {
        x += widen(residual[at]);
    }
    product[at] = narrow(x);
}

fn first_read(item: u32, pixel: u32, channel: u32) -> vec4<f32> {
    return widen(product[((item * params.pixels + pixel) * params.channels_0 + channel) / WIDTH]);
}

fn second_read(item: u32, pixel: u32, channel: u32) -> vec4<f32> {
    return first_read(item, pixel, channel);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = linear_group(group, n_groups);
    if number < params.n_workgroups {
        let part = part_of(number);
        let n_cells = part.n_channels / WIDTH;
        for (var i = lane; i < params.pixels * n_cells; i += 256u) {
            add_parts(part.item, i / n_cells, part.first_channel + i % n_cells * WIDTH);
        }
        storageBarrier();
        normalise(number, lane);
    }
}
