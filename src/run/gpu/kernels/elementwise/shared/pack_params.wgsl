// The parameters of `pack`, `unpack` and `round_packed`; pack.rs fills them.

struct Params {
    // Cells of four values.
    n_cells: u32,
    // Where the first is in the source, and where it goes.
    from_cell: u32,
    to_cell: u32,
    padding_0: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
