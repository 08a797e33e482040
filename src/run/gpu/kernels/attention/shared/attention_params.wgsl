// The parameters of the attentions; attention.rs fills them.

struct Params {
    n_queries: u32,
    n_keys: u32,
    heads: u32,
    head_size: u32,
    // Elements from one row to the next.
    q_stride: u32,
    k_stride: u32,
    v_stride: u32,
    out_stride: u32,
    n_query_blocks: u32,
    n_workgroups: u32,
    // The scale of the scores times log2(e), since powers of two are what the hardware has.
    scale_log2: f32,
    n_slices: u32,
    // Where a row's first key and first value are.
    k_offset: u32,
    v_offset: u32,
    padding_0: u32,
    padding_1: u32,
}
