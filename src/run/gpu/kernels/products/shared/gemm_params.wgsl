// The parameters of the matrix products; gemm.rs fills them.

struct Params {
    // Rows, and columns before GEGLU halves them.
    m: u32,
    n: u32,
    // Pixels of one batch item of the output, and of its rows.
    out_pixels: u32,
    out_w: u32,
    in_h: u32,
    in_w: u32,
    // Channels of the two sources.
    channels_0: u32,
    channels_1: u32,
    // Side of the kernel, its step, and the zeros above and to the left.
    kernel: u32,
    stride: u32,
    pad_top: u32,
    pad_left: u32,
    // Tiles in all, and of one row of tiles.
    n_tiles: u32,
    n_tile_columns: u32,
    // Steps of the sum, in all and of one part of a split sum.
    k_tiles: u32,
    k_tiles_per_split: u32,
    // Elements from one batch item's time embedding to the next, and before the first.
    time_embedding_stride: u32,
    time_embedding_offset: u32,
    // Rows of `out` and `residual` before the first that is computed here.
    first_out_row: u32,
    // Where the layer norm's weight lies behind the bias; its own bias follows it.
    norm_offset: u32,
    norm_eps: f32,
    // The picture that the kernel moves over: in_h and in_w, or enlarged twice that, or one less.
    full_h: u32,
    full_w: u32,
    // The first word of the scales behind the codes of a quantised weight.
    first_scale: u32,
}
