//! `splitk_reduce`: adds the partial sums of a split matrix product and applies the epilogue that it left out.

use super::gemm::Gemm;
use super::{Binding, Element, Kernel, Launch, Width, count, refuse};
use crate::Result;

/// The kernel's entry in the table.
///
/// Bindings after the parameters: 1. partial sums, as [`super::gemm`] stored them; 2. bias; 3. time embedding;
/// 4. residual; 5. out: each as for [`super::gemm::KERNEL`], and unused where the epilogue lacks it.
pub const KERNEL: Kernel = Kernel {
    name: "splitk_reduce",
    wgsl: include_str!("splitk_reduce.wgsl"),
    bindings: &[
        Binding::Uniform,
        Binding::ReadWrite,
        Binding::Read,
        Binding::ReadWrite,
        Binding::ReadWrite,
        Binding::ReadWrite,
    ],
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
    let workgroups = super::spread_cells(KERNEL.name, n_items)?;
    Ok(Launch::new(&KERNEL, element, gemm.width(), &gemm.epilogue_constants(), &params, workgroups))
}

/// The sum of the partial sums \[splits, values\], in order, in f32. What follows is [`super::gemm::reference()`]'s.
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
