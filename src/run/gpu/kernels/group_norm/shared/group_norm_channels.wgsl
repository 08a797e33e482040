// What the invocations of a workgroup measure in each channel of their part. Neighbouring invocations have neighbouring
// channels; each sums what its channel's values are more than the first one that it meets, so that a large common part
// cannot swallow the differences.
//
// The importing file declares `first_read`, which gives the cell of a pixel and a channel.

// Of each of the workgroup's rows of invocations and each channel of the slab.
var<workgroup> means: array<f32, 1024>;
var<workgroup> deviations: array<f32, 1024>;

// Values that row `r` of `n_rows` invocations met in each channel of `n_pixels` pixels.
fn n_values(n_pixels: u32, n_rows: u32, r: u32) -> f32 {
    return f32((n_pixels + n_rows - 1u - r) / n_rows);
}

// Fills `means` and `deviations`, which may be read behind the next barrier.
fn measure_channels(part: Part, lane: u32) {
    let n_cells = part.n_channels / WIDTH;
    let n_rows = params.pixels_at_once;
    let n_pixels = part.last_pixel - part.first_pixel;
    let row = lane / n_cells;
    let channel = lane % n_cells * WIDTH;
    if row < n_rows {
        var mean = vec4<f32>();
        var deviation = vec4<f32>();
        if row < n_pixels {
            let first = first_read(part.item, part.first_pixel + row, part.first_channel + channel);
            var sum = vec4<f32>();
            var squares = vec4<f32>();
            var pixel = part.first_pixel + row + n_rows;
            // Four at a time, because the next cannot be asked for before the last has come.
            for (; pixel + 3u * n_rows < part.last_pixel; pixel += 4u * n_rows) {
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
            for (; pixel < part.last_pixel; pixel += n_rows) {
                let x = first_read(part.item, pixel, part.first_channel + channel) - first;
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
}
