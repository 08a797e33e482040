//! `splitk_group_norm`: what [`splitk_reduce`] does and the group norm behind it in one dispatch, for small pictures.
//! The norm's workgroups add the parts as they measure.

use super::shared::IMPORTS;
use super::sizes::{GroupNorm, Params, Sums, launch_of};
use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, refuse};
use crate::run::gpu::kernels::products::{Gemm, Operands, splitk_reduce};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// As [`gemm`](crate::run::gpu::kernels::products::gemm) stored them.
        partial_sums: ReadWrite T,
        /// The product's, f32 \[C\].
        product_bias: Read Option<T>,
        /// The product's rows, one for each batch item.
        time_embedding: ReadWrite Option<T>,
        /// The product's, \[B,H,W,C\].
        residual: ReadWrite Option<T>,
        /// The product's result, \[B,H,W,C\].
        product: ReadWrite T,
        /// The norm's, f32 \[C\].
        weight: Read T,
        /// The norm's, f32 \[C\].
        bias: Read T,
        /// \[B,H,W,C\].
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "splitk_group_norm",
    wgsl: include_str!("splitk_group_norm.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: IMPORTS,
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &["has_bias", "has_time_embedding", "has_residual", "with_silu"],
    elements: Element::ALL,
    widths: &[Width::Four],
};

/// Whether the norm can add the parts of a product: it is of the whole product and nothing else, nothing but additions
/// stands between them, rows are multiples of four, and a workgroup does not have more to read than one should.
///
/// # Errors
/// As [`GroupNorm::n_chunks`] and [`Gemm::m`].
pub fn suits(gemm: &Gemm, splits: u32, norm: &GroupNorm) -> Result<bool> {
    let n_pixels = u64::from(norm.batch) * u64::from(norm.pixels);
    let is_whole = norm.channels == [gemm.n, 0] && n_pixels == u64::from(gemm.m()?) && gemm.first_out_row == 0;
    let only_adds = !gemm.epilogue.geglu && gemm.epilogue.activation.is_none() && !gemm.epilogue.relu_last;
    Ok(splits > 1
        && is_whole
        && only_adds
        && gemm.width() == Width::Four
        && norm.batch == gemm.source.batch
        && norm.fits_one_dispatch_of_parts(splits)?)
}

/// The second half of `gemm` with more than one split, and the norm of its result.
///
/// # Errors
/// [`crate::Error::Shape`] where [`suits`] says no.
pub fn launch(gemm: &Gemm, splits: u32, norm: &GroupNorm, element: Element, silu: bool) -> Result<Launch> {
    if !suits(gemm, splits, norm)? {
        return Err(refuse(KERNEL.name, format!("cannot normalise {splits} parts of {gemm:?} as {norm:?}")));
    }
    let flag = |is_set: bool| f64::from(u8::from(is_set));
    let constants = [
        ("has_bias", flag(gemm.epilogue.bias)),
        ("has_time_embedding", flag(gemm.epilogue.time_embedding.is_some())),
        ("has_residual", flag(gemm.epilogue.residual)),
        ("with_silu", flag(silu)),
    ];
    let time_embedding = gemm.epilogue.time_embedding.unwrap_or_default();
    let sums = Sums { n_splits: splits, time_embedding };
    launch_of(&KERNEL, norm, None, element, norm.whole_cut()?, &constants, sums)
}

/// The product \[B, pixels, C\] of partial sums \[splits, B, pixels, C\], of whose operands the bias, the time embedding and
/// the residual are read. What follows is [`reference`](super::reference)'s.
#[must_use]
pub fn reference(gemm: &Gemm, splits: u32, partial_sums: &[f32], operands: Operands<'_>) -> Vec<f32> {
    let width = gemm.n as usize;
    let pixels = (gemm.source.out_size[0] * gemm.source.out_size[1]) as usize;
    let mut product = splitk_reduce::reference(partial_sums, splits as usize);
    for (i, value) in product.iter_mut().enumerate() {
        let (item, column) = (i / width / pixels, i % width);
        if gemm.epilogue.bias {
            *value += operands.bias[column];
        }
        if let Some(vector) = gemm.epilogue.time_embedding {
            *value += operands.time_embedding[vector.offset as usize + item * vector.stride as usize + column];
        }
        if gemm.epilogue.residual {
            *value += operands.residual[i];
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::gpu::kernels::products::{Epilogue, RowVector, Source};

    #[test]
    fn reference_adds_parts_and_operands() {
        let epilogue = Epilogue {
            bias: true,
            time_embedding: Some(RowVector { stride: 3, offset: 1 }),
            residual: true,
            ..Epilogue::default()
        };
        let gemm = Gemm::new(Source::rows(2, 1, 4), 2, epilogue);
        let operands = Operands {
            source_0: &[],
            source_1: &[],
            weight: &[],
            bias: &[0.25, 0.5],
            time_embedding: &[9.0, 1.0, 2.0, 9.0, 3.0, 4.0],
            residual: &[1000.0, 2000.0, 3000.0, 4000.0],
        };
        let parts = [10.0, 20.0, 30.0, 40.0, 100.0, 200.0, 300.0, 400.0];
        assert_eq!(reference(&gemm, 2, &parts, operands), [1111.25, 2222.5, 3333.25, 4444.5]);
    }
}
