//! `affine`: every value times a factor plus an offset, the same for all or one pair for each of four channels.

use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, params, refuse, spread_cells};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// \[n_values\].
        x: ReadWrite T,
        /// Of the same size.
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "affine",
    wgsl: include_str!("affine.wgsl"),
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
        padding_0: u32,
        padding_1: u32,
        padding_2: u32,
        factors: [f32; 4],
        offsets: [f32; 4],
    }
}

/// x \[n_values\], or \[n_values/4, 4\] where there are four factors and offsets, to the same shape.
///
/// # Errors
/// [`crate::Error::Shape`] with other than one or four of both, or when a dispatch cannot cover so many values.
pub fn launch(factors: &[f64], offsets: &[f64], n_values: u32, element: Element) -> Result<Launch> {
    let width = Width::of(&[n_values]);
    let four = |values: &[f64]| match *values {
        [one] => Some([one as f32; 4]),
        [a, b, c, d] if width == Width::Four => Some([a, b, c, d].map(|value| value as f32)),
        _ => None,
    };
    let (Some(factors), Some(offsets)) = (four(factors), four(offsets)) else {
        let counts = format!("{} factors and {} offsets", factors.len(), offsets.len());
        return Err(refuse(KERNEL.name, format!("takes one or four, not {counts} for {n_values} values")));
    };
    let n_cells = n_values / width.elements();
    let params = Params { n_cells, padding_0: 0, padding_1: 0, padding_2: 0, factors, offsets };
    Ok(Launch::new(&KERNEL, element, width, &[], &params, spread_cells(KERNEL.name, n_cells)?))
}

/// The same in plain Rust, in f32.
#[must_use]
pub fn reference(factors: &[f64], offsets: &[f64], x: &[f32]) -> Vec<f32> {
    let of = |values: &[f64], i: usize| values[i % values.len()] as f32;
    x.iter().enumerate().map(|(i, x)| x * of(factors, i) + of(offsets, i)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_takes_one_pair_or_four() {
        assert_eq!(reference(&[2.0], &[-1.0], &[0.0, 1.5]), [-1.0, 2.0]);
        let got = reference(&[1.0, 2.0, 3.0, 4.0], &[0.0, 0.0, 1.0, 0.0], &[1.0; 5]);
        assert_eq!(got, [1.0, 2.0, 4.0, 4.0, 1.0]);
        assert!(launch(&[1.0; 4], &[0.0; 4], 6, Element::F32).is_err());
        assert!(launch(&[1.0; 2], &[0.0; 2], 8, Element::F32).is_err());
    }
}
