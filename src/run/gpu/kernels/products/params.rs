//! Parameters and bindings of a matrix product, the same for [`gemm`](super::gemm) and [`gemm_matrix`](super::gemm_matrix).

use crate::run::gpu::kernel::{bindings, params};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// \[B,H,W,C0\].
        source_0: ReadWrite T,
        /// \[B,H,W,C1\]; `None` when C1 is 0.
        source_1: ReadWrite Option<T>,
        /// Packed, as [`repack`](super::repack) lays it out.
        weight: Read T,
        /// f32 \[N\] in the checkpoint's order, and behind it the layer norm's weight and bias; `None` without either.
        bias: Read Option<T>,
        /// Rows of [`RowVector::stride`](super::RowVector::stride), one for each batch item.
        time_embedding: ReadWrite Option<T>,
        /// \[M,N\], with GEGLU \[M,N/2\].
        residual: ReadWrite Option<T>,
        /// As the residual; `None` with splits.
        out: ReadWrite Option<T>,
        /// f32 \[splits,M,N rounded up to four\]; `None` without splits.
        partial_sums: ReadWrite Option<T>,
    }
}

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        m: u32,
        n: u32,
        out_pixels: u32,
        out_w: u32,
        in_h: u32,
        in_w: u32,
        channels_0: u32,
        channels_1: u32,
        kernel: u32,
        stride: u32,
        pad_top: u32,
        pad_left: u32,
        n_tiles: u32,
        n_tile_columns: u32,
        k_tiles: u32,
        k_tiles_per_split: u32,
        time_embedding_stride: u32,
        time_embedding_offset: u32,
        first_out_row: u32,
        norm_offset: u32,
        norm_eps: f32,
        full_h: u32,
        full_w: u32,
        first_scale: u32,
    }
}
