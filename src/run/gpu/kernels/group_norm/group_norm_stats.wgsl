// One workgroup measures a chunk of the pixels for a slab of whole groups: the mean and the sum of squared deviations of
// each group. Neighbouring invocations read neighbouring channels; each sums what its channel's values are more than the
// first one that it meets, so that a large common part cannot swallow the differences. Then the means of all are joined,
// and the deviations moved to the joint mean.

#import linear_group
#import group_norm
#import group_norm_sources

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source_0: array<cell>; // [B,H,W,C0]
@group(0) @binding(2) var<storage, read_write> source_1: array<cell>; // [B,H,W,C1]
@group(0) @binding(3) var<storage, read_write> partials: array<vec2<f32>>; // [B,G,partials]: mean, squared deviations

// Of each of the workgroup's rows of invocations and each channel of the slab.
var<workgroup> means: array<f32, 1024>;
var<workgroup> deviations: array<f32, 1024>;

// Values that row `r` of `n_rows` invocations met in each channel of a chunk of `n_pixels`.
fn n_values(n_pixels: u32, n_rows: u32, r: u32) -> f32 {
    return f32((n_pixels + n_rows - 1u - r) / n_rows);
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
    let n_cells = part.n_channels / WIDTH;
    let n_rows = params.pixels_at_once;
    let n_pixels = part.last_pixel - part.first_pixel;
    let row = lane / n_cells;
    let channel = lane % n_cells * WIDTH;
    if row < n_rows {
        var mean = vec4<f32>();
        var deviation = vec4<f32>();
        if row < n_pixels {
            let first = read_sources(part.item, part.first_pixel + row, part.first_channel + channel);
            var sum = vec4<f32>();
            var squares = vec4<f32>();
            var pixel = part.first_pixel + row + n_rows;
            // Four at a time, because the next cannot be asked for before the last has come.
            for (; pixel + 3u * n_rows < part.last_pixel; pixel += 4u * n_rows) {
                let x0 = read_sources(part.item, pixel, part.first_channel + channel);
                let x1 = read_sources(part.item, pixel + n_rows, part.first_channel + channel);
                let x2 = read_sources(part.item, pixel + 2u * n_rows, part.first_channel + channel);
                let x3 = read_sources(part.item, pixel + 3u * n_rows, part.first_channel + channel);
                let d0 = x0 - first;
                let d1 = x1 - first;
                let d2 = x2 - first;
                let d3 = x3 - first;
                sum += d0 + d1 + d2 + d3;
                squares += d0 * d0 + d1 * d1 + d2 * d2 + d3 * d3;
            }
            for (; pixel < part.last_pixel; pixel += n_rows) {
                let x = read_sources(part.item, pixel, part.first_channel + channel) - first;
                sum += x;
                squares += x * x;
            }
            let n = n_values(n_pixels, n_rows, row);
            mean = first + sum / n;
            deviation = max(squares - sum * sum / n, vec4<f32>());
        }
        for (var i = 0u; i < WIDTH; i++) {
            means[row * part.n_channels + channel + i] = mean[i];
            deviations[row * part.n_channels + channel + i] = deviation[i];
        }
    }
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
