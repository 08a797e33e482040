// Group normalisation by one workgroup of all pixels of a batch item, for a slab of whole groups. Neighbouring invocations
// have neighbouring channels; each sums what its channel's values are more than the first one that it meets, so that a
// large common part cannot swallow the differences. The sums are joined over the rows of invocations, then over the
// channels of a group.
//
// The importing file declares `weight`, `bias` and `out`, `first_read`, which gives the cell of a pixel and a channel when
// it is measured, and `second_read`, which gives the same to the same invocation when it is normalised.

#import group_norm
#import group_norm_of
#import activate

// Silu follows.
override with_silu: bool = false;

// Of each of the workgroup's rows of invocations and each channel of the slab; then of each channel in the first places.
var<workgroup> means: array<f32, 1024>;
var<workgroup> deviations: array<f32, 1024>;
var<workgroup> channel_means: array<f32, 512>;
var<workgroup> channel_deviations: array<f32, 512>;
// Of each group of the slab: its mean, and one over its standard deviation.
var<workgroup> joined: array<vec2<f32>, 4>;

// Values that row `r` of `n_rows` invocations met in each channel.
fn n_values(n_rows: u32, r: u32) -> f32 {
    return f32((params.pixels + n_rows - 1u - r) / n_rows);
}

// What workgroup `number` has to do. All of its invocations call this together.
fn normalise(number: u32, lane: u32) {
    let part = part_of(number);
    let channels = params.channels_0 + params.channels_1;
    let group_channels = channels / params.groups;
    let n_cells = part.n_channels / WIDTH;
    let n_rows = params.pixels_at_once;
    let row = lane / n_cells;
    let channel = lane % n_cells * WIDTH;
    if row < n_rows {
        var mean = vec4<f32>();
        var deviation = vec4<f32>();
        if row < params.pixels {
            let first = first_read(part.item, row, part.first_channel + channel);
            var sum = vec4<f32>();
            var squares = vec4<f32>();
            var pixel = row + n_rows;
            // Four at a time, because the next cannot be asked for before the last has come.
            for (; pixel + 3u * n_rows < params.pixels; pixel += 4u * n_rows) {
                let x0 = first_read(part.item, pixel, part.first_channel + channel);
                let x1 = first_read(part.item, pixel + n_rows, part.first_channel + channel);
                let x2 = first_read(part.item, pixel + 2u * n_rows, part.first_channel + channel);
                let x3 = first_read(part.item, pixel + 3u * n_rows, part.first_channel + channel);
                let d0 = x0 - first;
                let d1 = x1 - first;
                let d2 = x2 - first;
                let d3 = x3 - first;
                sum += d0 + d1 + d2 + d3;
                squares += d0 * d0 + d1 * d1 + d2 * d2 + d3 * d3;
            }
            for (; pixel < params.pixels; pixel += n_rows) {
                let x = first_read(part.item, pixel, part.first_channel + channel) - first;
                sum += x;
                squares += x * x;
            }
            let n = n_values(n_rows, row);
            mean = first + sum / n;
            deviation = max(squares - sum * sum / n, vec4<f32>());
        }
        for (var i = 0u; i < WIDTH; i++) {
            means[row * part.n_channels + channel + i] = mean[i];
            deviations[row * part.n_channels + channel + i] = deviation[i];
        }
    }
    workgroupBarrier();

    let used_rows = min(n_rows, params.pixels);
    for (var c = lane; c < part.n_channels; c += 256u) {
        let first = means[c];
        var sum = 0.0;
        for (var r = 0u; r < used_rows; r++) {
            sum += (means[r * part.n_channels + c] - first) * n_values(n_rows, r);
        }
        let mean = first + sum / f32(params.pixels);
        var deviation = 0.0;
        for (var r = 0u; r < used_rows; r++) {
            let difference = means[r * part.n_channels + c] - mean;
            deviation += deviations[r * part.n_channels + c] + n_values(n_rows, r) * difference * difference;
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
