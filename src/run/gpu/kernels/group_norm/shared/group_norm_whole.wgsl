// Group normalisation by one workgroup of all pixels of a batch item, for a slab of whole groups. Neighbouring invocations
// have neighbouring channels; each sums what its channel's values are more than the first one that it meets, so that a
// large common part cannot swallow the differences. The sums are joined over the rows of invocations, then over the
// channels of a group.
//
// The importing file declares `weight`, `bias` and `out`, `first_read`, which gives the cell of a pixel and a channel when
// it is measured, and `second_read`, which gives the same to the same invocation when it is normalised.

#import group_norm
#import group_norm_of
#import group_norm_channels
#import activate

// Silu follows.
override with_silu: bool = false;

// Of each channel of the slab.
var<workgroup> channel_means: array<f32, 512>;
var<workgroup> channel_deviations: array<f32, 512>;
// Of each group of the slab: its mean, and one over its standard deviation.
var<workgroup> joined: array<vec2<f32>, 4>;

// What workgroup `number` has to do. All of its invocations call this together.
fn normalise(number: u32, lane: u32) {
    let part = part_of(number);
    let channels = params.channels_0 + params.channels_1;
    let group_channels = channels / params.groups;
    let n_cells = part.n_channels / WIDTH;
    let n_rows = params.pixels_at_once;
    let row = lane / n_cells;
    let channel = lane % n_cells * WIDTH;
    measure_channels(part, lane);
    workgroupBarrier();

    let used_rows = min(n_rows, params.pixels);
    for (var c = lane; c < part.n_channels; c += 256u) {
        let first = means[c];
        var sum = 0.0;
        for (var r = 0u; r < used_rows; r++) {
            sum += (means[r * part.n_channels + c] - first) * n_values(params.pixels, n_rows, r);
        }
        let mean = first + sum / f32(params.pixels);
        var deviation = 0.0;
        for (var r = 0u; r < used_rows; r++) {
            let difference = means[r * part.n_channels + c] - mean;
            deviation += deviations[r * part.n_channels + c] + n_values(params.pixels, n_rows, r) * difference * difference;
        }
        channel_means[c] = mean;
        channel_deviations[c] = deviation;
    }
    workgroupBarrier();

    if lane < part.n_groups {
        let first = lane * group_channels;
        var sum = 0.0;
        for (var c = 0u; c < group_channels; c++) {
            sum += channel_means[first + c] - channel_means[first];
        }
        let mean = channel_means[first] + sum / f32(group_channels);
        var deviation = 0.0;
        for (var c = 0u; c < group_channels; c++) {
            let difference = channel_means[first + c] - mean;
            deviation += channel_deviations[first + c] + f32(params.pixels) * difference * difference;
        }
        let variance = deviation / (f32(params.pixels) * f32(group_channels));
        joined[lane] = vec2<f32>(mean, 1.0 / sqrt(variance + params.eps));
    }
    workgroupBarrier();

    if row >= n_rows {
        return;
    }
    let norm = norm_of(part, channel);
    for (var pixel = row; pixel < params.pixels; pixel += n_rows) {
        let x = second_read(part.item, pixel, part.first_channel + channel);
        var y = (x - norm.mean) * norm.scale + norm.shift;
        if with_silu {
            y = silu(y);
        }
        out[((part.item * params.pixels + pixel) * channels + part.first_channel + channel) / WIDTH] = narrow(y);
    }
}
