//! `lincomb`: the linear combination that every sampler step, the guidance and the input scaling come down to.
//!
//! Applies coefficients that others computed; it does not know what a sampler is.

use crate::Result;
use crate::run::gpu::kernel::{Bind, Binding, Element, Kernel, Launch, Width, params, refuse, spread_cells};

/// The terms and the result, of \[n_values\] each.
#[derive(Clone, Debug)]
pub struct Bindings<T> {
    /// As many as there are coefficients, at most [`MAX_TERMS`].
    pub terms: Vec<T>,
    /// The combination.
    pub result: T,
}

impl<T> Bind for Bindings<T> {
    type Operand = T;

    const BINDINGS: &'static [(&'static str, Binding)] = &[
        ("params", Binding::Uniform),
        ("term_0", Binding::ReadWrite),
        ("term_1", Binding::ReadWrite),
        ("term_2", Binding::ReadWrite),
        ("term_3", Binding::ReadWrite),
        ("term_4", Binding::ReadWrite),
        ("term_5", Binding::ReadWrite),
        ("term_6", Binding::ReadWrite),
        ("result", Binding::ReadWrite),
    ];

    fn list(self) -> Vec<Option<T>> {
        let mut list: Vec<Option<T>> = self.terms.into_iter().map(Some).collect();
        list.resize_with(MAX_TERMS, || None);
        list.push(Some(self.result));
        list
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "lincomb",
    wgsl: include_str!("lincomb.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: &[],
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &[],
    elements: Element::ALL,
    widths: Width::ALL,
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        n_cells: u32,
        n_terms: u32,
        has_clamp: u32,
        padding: u32,
        low: f32,
        high: f32,
        padding_0: u32,
        padding_1: u32,
        coefficients: [f32; 8],
    }
}

/// The most terms of one dispatch: what the result leaves of the eight storage buffers that WebGPU guarantees.
pub const MAX_TERMS: usize = 7;

/// `Σ cᵢ·xᵢ` of tensors of `n_values` values, held between the bounds of `clamp` if there are any.
///
/// # Errors
/// [`crate::Error::Shape`] with no terms, with more than [`MAX_TERMS`], or with more values than a dispatch can cover.
pub fn launch(coefficients: &[f32], n_values: u32, clamp: Option<(f32, f32)>, element: Element) -> Result<Launch> {
    let n_terms = coefficients.len();
    if n_terms == 0 || n_terms > MAX_TERMS {
        return Err(refuse(KERNEL.name, format!("takes 1 to {MAX_TERMS} terms, not {n_terms}")));
    }
    let width = Width::of(&[n_values]);
    let n_cells = n_values / width.elements();
    let mut slots = [0.0; 8];
    slots[..n_terms].copy_from_slice(coefficients);
    let (low, high) = clamp.unwrap_or_default();
    let params = Params {
        n_cells,
        n_terms: n_terms as u32,
        has_clamp: u32::from(clamp.is_some()),
        padding: 0,
        low,
        high,
        padding_0: 0,
        padding_1: 0,
        coefficients: slots,
    };
    Ok(Launch::new(&KERNEL, element, width, &[], &params, spread_cells(KERNEL.name, n_cells)?))
}

/// The same sum in plain Rust: terms added in order, in f32.
///
/// Each term holds as many values as the first; with no terms the result is empty.
#[must_use]
pub fn reference(terms: &[(f32, &[f32])], clamp: Option<(f32, f32)>) -> Vec<f32> {
    let n_values = terms.first().map_or(0, |(_, values)| values.len());
    let sum = |i: usize| terms.iter().map(|(c, x)| c * x[i]).sum::<f32>();
    (0..n_values).map(|i| clamp.map_or(sum(i), |(low, high)| sum(i).clamp(low, high))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_is_the_sum_of_scaled_terms() {
        let terms: &[(f32, &[f32])] = &[(2.0, &[1.0, -3.0]), (0.5, &[4.0, 8.0])];
        assert_eq!(reference(terms, None), [4.0, -2.0]);
        assert_eq!(reference(terms, Some((-1.0, 1.0))), [1.0, -1.0]);
        assert!(reference(&[], None).is_empty());
    }

    #[test]
    fn what_cannot_be_combined_is_refused() {
        assert!(launch(&[], 1, None, Element::F32).is_err());
        assert!(launch(&[1.0; 8], 1, None, Element::F32).is_err());
        assert!(launch(&[1.0; 7], 1, None, Element::F32).is_ok());
    }
}
