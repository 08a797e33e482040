// The steps of the sum of a matrix product: TILE_K channels, which the importing file declares, of one tap and one source.

// Where a step of the sum is, and its first row of W.
struct Step {
    tap_y: u32,
    tap_x: u32,
    source: u32,
    channel: u32,
    first_k: u32,
}

// The channels of a step's source.
fn channels_of(step: Step) -> u32 {
    return select(params.channels_0, params.channels_1, step.source == 1u);
}

// On to the next channels, else the next source, else the next tap.
fn next_step(step: Step) -> Step {
    var next = step;
    let n_channels = channels_of(step);
    next.first_k += min(TILE_K, n_channels - step.channel);
    next.channel += TILE_K;
    if next.channel >= n_channels {
        next.channel = 0u;
        if step.source == 0u && params.channels_1 > 0u {
            next.source = 1u;
        } else {
            next.source = 0u;
            next.tap_x += 1u;
            if next.tap_x == params.kernel {
                next.tap_x = 0u;
                next.tap_y += 1u;
            }
        }
    }
    return next;
}

// The step of that number.
fn step_of(number: u32) -> Step {
    let steps_0 = (params.channels_0 + TILE_K - 1u) / TILE_K;
    let steps_of_tap = steps_0 + (params.channels_1 + TILE_K - 1u) / TILE_K;
    let tap = number / steps_of_tap;
    let step_of_tap = number % steps_of_tap;
    var step: Step;
    step.tap_y = tap / params.kernel;
    step.tap_x = tap % params.kernel;
    step.source = select(0u, 1u, step_of_tap >= steps_0);
    step.channel = select(step_of_tap, step_of_tap - steps_0, step.source == 1u) * TILE_K;
    step.first_k = tap * (params.channels_0 + params.channels_1) + step.source * params.channels_0 + step.channel;
    return step;
}

// The first row of the batch item's picture for a row of A, and the place of the kernel's corner: far outside for rows beyond
// the last.
fn origin_of(row: u32) -> vec3<i32> {
    if row >= params.m {
        return vec3<i32>(0, -0x40000000, 0);
    }
    let item = row / params.out_pixels;
    let pixel = row % params.out_pixels;
    let y = i32(pixel / params.out_w * params.stride) - i32(params.pad_top);
    let x = i32(pixel % params.out_w * params.stride) - i32(params.pad_left);
    return vec3<i32>(i32(item * params.in_h), y, x);
}
