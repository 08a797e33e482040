// One workgroup measures a chunk of the pixels for a slab of whole groups: the mean and the sum of squared deviations of
// each group. Neighbouring invocations read neighbouring channels; each sums what its channel's values are more than the
// first one that it meets, so that a large common part cannot swallow the differences. Then the means of all are joined,
// and the deviations moved to the joint mean.

#import linear_group
#import group_norm
#import group_norm_sources
#import group_norm_channels

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source_0: array<cell>; // [B,H,W,C0]
@group(0) @binding(2) var<storage, read_write> source_1: array<cell>; // [B,H,W,C1]
@group(0) @binding(3) var<storage, read_write> partials: array<vec2<f32>>; // [B,G,partials]: mean, squared deviations

fn first_read(item: u32, pixel: u32, channel: u32) -> vec4<f32> {
    return read_sources(item, pixel, channel);
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
    let n_rows = params.pixels_at_once;
    let n_pixels = part.last_pixel - part.first_pixel;
    measure_channels(part, lane);
    workgroupBarrier();

    let group_channels = part.n_channels / part.n_groups;
    for (var g = lane; g < part.n_groups; g += 256u) {
        // Relative to one of the means, for the same reason as above.
        let first = means[g * group_channels];
        var sum = 0.0;
        for (var r = 0u; r < min(n_rows, n_pixels); r++) {
            var row_sum = 0.0;
            for (var c = 0u; c < group_channels; c++) {
                row_sum += means[r * part.n_channels + g * group_channels + c] - first;
            }
            sum += row_sum * n_values(n_pixels, n_rows, r);
        }
        let mean = first + sum / f32(n_pixels * group_channels);
        var deviation = 0.0;
        for (var r = 0u; r < min(n_rows, n_pixels); r++) {
            let n = n_values(n_pixels, n_rows, r);
            for (var c = 0u; c < group_channels; c++) {
                let at = r * part.n_channels + g * group_channels + c;
                let difference = means[at] - mean;
                deviation += deviations[at] + n * difference * difference;
            }
        }
        let first_of_group = (part.item * params.groups + part.first_group + g) * params.n_partials;
        partials[first_of_group + params.first_partial + part.chunk] = vec2<f32>(mean, deviation);
    }
}
