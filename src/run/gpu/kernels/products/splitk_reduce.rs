//! `splitk_reduce`: adds the partial sums of a split matrix product and applies the epilogue that it left out.

use super::shared::IMPORTS;
use super::sizes::Gemm;
use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, count, params, refuse, spread_cells};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// As [`gemm`](super::gemm) stored them.
        partial_sums: ReadWrite T,
        /// f32 \[N\].
        bias: Read Option<T>,
        /// Rows of [`RowVector::stride`](super::RowVector::stride), one for each batch item.
        time_embedding: ReadWrite Option<T>,
        /// As the output.
        residual: ReadWrite Option<T>,
        /// \[M,N\], with GEGLU \[M,N/2\].
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "splitk_reduce",
    wgsl: include_str!("splitk_reduce.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: IMPORTS,
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &["has_bias", "has_time_embedding", "has_residual", "relu_last", "activation", "geglu"],
    elements: Element::ALL,
    widths: Width::ALL,
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        m: u32,
        n: u32,
        out_pixels: u32,
        n_splits: u32,
        time_embedding_stride: u32,
        time_embedding_offset: u32,
        first_out_row: u32,
        padding: u32,
    }
}

/// The second half of [`super::gemm::launch`] with more than one split.
///
/// # Errors
/// [`crate::Error::Shape`] with fewer than two splits, or sizes too large to address.
pub fn launch(gemm: &Gemm, element: Element, splits: u32) -> Result<Launch> {
    if splits < 2 {
        return Err(refuse(KERNEL.name, format!("has nothing to do for {splits} parts")));
    }
    let m = gemm.m()?;
    let n_quads = count(KERNEL.name, &[m, gemm.n.div_ceil(4)])?;
    let vector = gemm.epilogue.time_embedding.unwrap_or_default();
    let params = Params {
        m,
        n: gemm.n,
        out_pixels: gemm.source.out_size[0] * gemm.source.out_size[1],
        n_splits: splits,
        time_embedding_stride: vector.stride,
        time_embedding_offset: vector.offset,
        first_out_row: gemm.first_out_row,
        padding: 0,
    };
    let n_items = if gemm.epilogue.geglu { n_quads / 2 } else { n_quads };
    let workgroups = spread_cells(KERNEL.name, n_items)?;
    Ok(Launch::new(&KERNEL, element, gemm.width(), &gemm.epilogue_constants(), &params, workgroups))
}

/// The sum of the partial sums \[splits, values\], in order, in f32. What follows is [`super::reference()`]'s.
#[must_use]
pub fn reference(partial_sums: &[f32], splits: usize) -> Vec<f32> {
    let n_values = partial_sums.len() / splits.max(1);
    (0..n_values).map(|i| (0..splits).map(|split| partial_sums[split * n_values + i]).sum()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_adds_part_by_part() {
        assert_eq!(reference(&[1.0, 2.0, 10.0, 20.0, 100.0, 200.0], 3), [111.0, 222.0]);
    }
}
