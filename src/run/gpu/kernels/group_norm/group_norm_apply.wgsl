// One workgroup normalises a chunk of the pixels for a slab of whole groups. First it joins the parts that
// group_norm_stats measured.

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

// One number of each invocation.
var<workgroup> numbers: array<f32, 256>;

// The sum over `n` neighbouring invocations, from invocation `first` on. All invocations call this together.
fn sum_of(lane: u32, first: u32, n: u32, value: f32) -> f32 {
    numbers[lane] = value;
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < n; i++) {
        sum += numbers[first + i];
    }
    // Nobody may begin the next sum before all have this one.
    workgroupBarrier();
    return sum;
}

fn pixels_of(partial: u32) -> f32 {
    return f32(min(params.partial_pixels, params.total_pixels - partial * params.partial_pixels));
}

// Joins the parts of the slab's groups: of each group by as many neighbouring invocations as there are for it.
fn join(part: Part, lane: u32, group_channels: u32) {
    let n_helpers = max(256u / part.n_groups, 1u);
    let helper = lane % n_helpers;
    for (var first_group = 0u; first_group < part.n_groups; first_group += 256u / n_helpers) {
        let g = first_group + lane / n_helpers;
        // Invocations without a group repeat the last, because all have to meet at the barriers.
        let of_group = min(g, part.n_groups - 1u);
        let at = (part.item * params.groups + part.first_group + of_group) * params.n_partials;
        let origin = partials[at].x;
        var sum = 0.0;
        for (var i = helper; i < params.n_partials; i += n_helpers) {
            sum += (partials[at + i].x - origin) * pixels_of(i);
        }
        let mean = origin + sum_of(lane, lane - helper, n_helpers, sum) / f32(params.total_pixels);
        var deviation = 0.0;
        for (var i = helper; i < params.n_partials; i += n_helpers) {
            let difference = partials[at + i].x - mean;
            deviation += partials[at + i].y + difference * difference * pixels_of(i) * f32(group_channels);
        }
        let all = sum_of(lane, lane - helper, n_helpers, deviation);
        if helper == 0u && g < part.n_groups {
            let variance = all / (f32(params.total_pixels) * f32(group_channels));
            joined[g] = vec2<f32>(mean, 1.0 / sqrt(variance + params.eps));
        }
    }
    workgroupBarrier();
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
    join(part, lane, group_channels);

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
