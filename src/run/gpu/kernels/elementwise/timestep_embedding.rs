//! `timestep_embedding`: cosines and sines of a number times a geometric range of frequencies (Vaswani et al. 2017), as in
//! diffusers' `get_timestep_embedding`.
//!
//! The shader has its own exponential, sine and cosine: WGSL promises nothing for arguments beyond π, and steps go to 999.

use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, count, params, refuse, spread_cells};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// f32 \[B\].
        t: ReadWrite T,
        /// \[B,dim\].
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "timestep_embedding",
    wgsl: include_str!("timestep_embedding.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: &[],
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &["flip_sin_to_cos"],
    elements: Element::ALL,
    widths: &[Width::One],
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        batch: u32,
        half: u32,
        exponent_divisor: f32,
        padding: u32,
    }
}

/// Embeds `batch` numbers in `dim` values each.
///
/// # Errors
/// [`crate::Error::Shape`] when `dim` is not a positive even number, or there are too many values to address.
pub fn launch(batch: u32, dim: u32, flip_sin_to_cos: bool, freq_shift: f64, element: Element) -> Result<Launch> {
    if dim == 0 || !dim.is_multiple_of(2) {
        return Err(refuse(KERNEL.name, format!("has {dim} values, which are not pairs")));
    }
    let half = dim / 2;
    let n_items = count(KERNEL.name, &[batch, half])?;
    let params = Params { batch, half, exponent_divisor: (f64::from(half) - freq_shift) as f32, padding: 0 };
    let constants = [("flip_sin_to_cos", f64::from(u8::from(flip_sin_to_cos)))];
    Ok(Launch::new(&KERNEL, element, Width::One, &constants, &params, spread_cells(KERNEL.name, n_items)?))
}

/// The same in plain Rust. Frequencies and angles are rounded to f32 as diffusers rounds them; sines are f64.
#[must_use]
pub fn reference(t: &[f32], dim: usize, flip_sin_to_cos: bool, freq_shift: f64) -> Vec<f32> {
    let half = dim / 2;
    let angle = |t: f32, i: usize| {
        let exponent = -(10_000f64.ln()) as f32 * i as f32 / (half as f64 - freq_shift) as f32;
        f64::from(t * f64::from(exponent).exp() as f32)
    };
    let row = |t: f32| {
        let sines = (0..half).map(move |i| angle(t, i).sin() as f32);
        let cosines = (0..half).map(move |i| angle(t, i).cos() as f32);
        let (first, second): (Vec<f32>, Vec<f32>) =
            if flip_sin_to_cos { (cosines.collect(), sines.collect()) } else { (sines.collect(), cosines.collect()) };
        first.into_iter().chain(second)
    };
    t.iter().flat_map(|t| row(*t)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_begins_with_the_angle_itself() {
        assert_eq!(reference(&[0.0], 4, true, 0.0), [1.0, 1.0, 0.0, 0.0]);
        let row = reference(&[500.0], 2, false, 0.0);
        assert_eq!(row, [500f64.sin() as f32, 500f64.cos() as f32]);
    }
}
