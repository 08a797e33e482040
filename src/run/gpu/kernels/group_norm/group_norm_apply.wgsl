// One workgroup normalises a chunk of the pixels for a slab of whole groups. First it joins the parts that
// group_norm_stats measured: one invocation a group.

#import linear_group
#import group_norm
#import group_norm_sources
#import group_norm_of
#import activate

// Silu follows.
override with_silu: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source_0: array<cell>; // [B,H,W,C0]
@group(0) @binding(2) var<storage, read_write> source_1: array<cell>; // [B,H,W,C1]
@group(0) @binding(3) var<storage, read_write> partials: array<vec2<f32>>; // [B,G,partials]: mean, squared deviations
@group(0) @binding(4) var<storage, read> weight: array<f32>; // [C0+C1]
@group(0) @binding(5) var<storage, read> bias: array<f32>; // [C0+C1]
@group(0) @binding(6) var<storage, read_write> out: array<cell>; // [B,H,W,C0+C1]

// Of each group of the slab, which has 512 at most: its mean, and one over its standard deviation.
var<workgroup> joined: array<vec2<f32>, 512>;

// Joins the parts of one group.
fn join(first: u32, group_channels: u32) -> vec2<f32> {
    let origin = partials[first].x;
    var sum = 0.0;
    for (var i = 0u; i < params.n_partials; i++) {
        let n = min(params.partial_pixels, params.total_pixels - i * params.partial_pixels);
        sum += (partials[first + i].x - origin) * f32(n);
    }
    let mean = origin + sum / f32(params.total_pixels);
    var deviation = 0.0;
    for (var i = 0u; i < params.n_partials; i++) {
        let n = min(params.partial_pixels, params.total_pixels - i * params.partial_pixels);
        let difference = partials[first + i].x - mean;
        deviation += partials[first + i].y + difference * difference * f32(n * group_channels);
    }
    return vec2<f32>(mean, 1.0 / sqrt(deviation / (f32(params.total_pixels) * f32(group_channels)) + params.eps));
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = linear_group(group, n_groups);
    if number >= params.n_workgroups {
        return;
    }
    let part = part_of(number);
    let channels = params.channels_0 + params.channels_1;
    let group_channels = channels / params.groups;
    for (var g = lane; g < part.n_groups; g += 256u) {
        let first = (part.item * params.groups + part.first_group + g) * params.n_partials;
        joined[g] = join(first, group_channels);
    }
    workgroupBarrier();

    let n_cells = part.n_channels / WIDTH;
    let row = lane / n_cells;
    if row >= params.pixels_at_once {
        return;
    }
    let channel = lane % n_cells * WIDTH;
    let norm = norm_of(part, channel);
    for (var pixel = part.first_pixel + row; pixel < part.last_pixel; pixel += params.pixels_at_once) {
        let x = read_sources(part.item, pixel, part.first_channel + channel);
        var y = (x - norm.mean) * norm.scale + norm.shift;
        if with_silu {
            y = silu(y);
        }
        let to = part.item * params.pixels + params.to_pixel + pixel;
        out[(to * channels + part.first_channel + channel) / WIDTH] = narrow(y);
    }
}
