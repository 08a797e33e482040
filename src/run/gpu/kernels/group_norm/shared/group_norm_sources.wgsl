// For kernels of group normalisation whose input is `source_0`, or that and `source_1` behind it along the channels.

// The cell of the two sources together that begins at a channel.
fn read_sources(item: u32, pixel: u32, channel: u32) -> vec4<f32> {
    let row = item * params.pixels + params.from_pixel + pixel;
    if channel < params.channels_0 {
        return widen(source_0[(row * params.channels_0 + channel) / WIDTH]);
    }
    return widen(source_1[(row * params.channels_1 + channel - params.channels_0) / WIDTH]);
}
