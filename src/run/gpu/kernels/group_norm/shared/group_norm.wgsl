// What the kernels of group normalisation share: their parameters, and which part of the input a workgroup has.

struct Params {
    // Pixels of one batch item; of a picture in bands, those that are normalised here.
    pixels: u32,
    // Channels of the two sources.
    channels_0: u32,
    channels_1: u32,
    groups: u32,
    // A slab is that many whole groups, fewer in the last one.
    groups_per_slab: u32,
    n_slabs: u32,
    // Pixels that a workgroup has under way at once.
    pixels_at_once: u32,
    // A workgroup's share of the pixels, and how many shares there are.
    chunk_pixels: u32,
    n_chunks: u32,
    n_workgroups: u32,
    // The same of the first half, whose shares are larger, over all bands.
    partial_pixels: u32,
    n_partials: u32,
    eps: f32,
    // Pixels of one batch item over all bands.
    total_pixels: u32,
    // Pixels before the first in the input, and in the output.
    from_pixel: u32,
    to_pixel: u32,
    // The share of the first half that comes first here.
    first_partial: u32,
    // Of splitk_group_norm alone: the parts of each sum, and where the time embedding is.
    n_splits: u32,
    time_embedding_stride: u32,
    time_embedding_offset: u32,
}

// The part of the input that a workgroup has.
struct Part {
    item: u32,
    first_group: u32,
    n_groups: u32,
    // First channel, and channels.
    first_channel: u32,
    n_channels: u32,
    first_pixel: u32,
    last_pixel: u32,
    chunk: u32,
}

fn part_of(number: u32) -> Part {
    var part: Part;
    let group_channels = (params.channels_0 + params.channels_1) / params.groups;
    part.chunk = number % params.n_chunks;
    let slab = number / params.n_chunks % params.n_slabs;
    part.item = number / params.n_chunks / params.n_slabs;
    part.first_group = slab * params.groups_per_slab;
    part.n_groups = min(params.groups_per_slab, params.groups - part.first_group);
    part.first_channel = part.first_group * group_channels;
    part.n_channels = part.n_groups * group_channels;
    part.first_pixel = part.chunk * params.chunk_pixels;
    part.last_pixel = min(part.first_pixel + params.chunk_pixels, params.pixels);
    return part;
}
