//! `splitk_group_norm`: what [`super::splitk_reduce`] does and the group norm behind it in one dispatch, for small pictures.
//! The norm's workgroups add the parts as they measure.

use super::gemm::{Gemm, RowVector};
use super::group_norm::{GroupNorm, PARAMS_BYTES, PARAMS_FIELDS, Sums, launch_of};
use super::{Binding, Element, Kernel, Launch, Width, refuse};
use crate::Result;

/// The kernel's entry in the table.
///
/// Bindings after the parameters: 1. partial sums, as [`super::gemm`] stored them; 2. bias, 3. time embedding, 4. residual,
/// 5. the product's result, each as `bias`, `time_embedding`, `residual` and `out` of [`super::splitk_reduce::KERNEL`];
/// 6. the norm's weight and 7. bias, 8. out, as for [`super::group_norm::KERNEL`].
pub const KERNEL: Kernel = Kernel {
    name: "splitk_group_norm",
    wgsl: include_str!("splitk_group_norm.wgsl"),
    bindings: &[
        Binding::Uniform,
        Binding::ReadWrite,
        Binding::Read,
        Binding::ReadWrite,
        Binding::ReadWrite,
        Binding::ReadWrite,
        Binding::Read,
        Binding::Read,
        Binding::ReadWrite,
    ],
    params_bytes: PARAMS_BYTES,
    params_fields: PARAMS_FIELDS,
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
    let is_whole = norm.channels == [gemm.n, 0] && norm.batch * norm.pixels == gemm.m()? && gemm.first_out_row == 0;
    let only_adds = !gemm.epilogue.geglu && gemm.epilogue.activation.is_none();
    Ok(splits > 1
        && is_whole
        && only_adds
        && gemm.width() == Width::Four
        && norm.batch == gemm.source.batch
        && norm.fits_one_dispatch_of_parts(splits)?)
}

/// The second half of [`super::gemm::launch`] with more than one split, and the norm of its result.
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
    let time_embedding = gemm.epilogue.time_embedding.unwrap_or(RowVector { stride: 0, offset: 0 });
    let sums = Sums { n_splits: splits, time_embedding };
    launch_of(&KERNEL, norm, None, element, norm.whole_cut()?, &constants, sums)
}
