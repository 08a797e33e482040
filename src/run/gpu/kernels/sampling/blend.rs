//! `blend`: mask·a + (1 - mask)·b for latents, with one mask value a pixel.

use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, count, params, refuse, spread_cells};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// \[pixels\].
        mask: ReadWrite T,
        /// \[pixels,C\].
        a: ReadWrite T,
        /// \[pixels,C\].
        b: ReadWrite T,
        /// \[pixels,C\].
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "blend",
    wgsl: include_str!("blend.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: &[],
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &[],
    elements: Element::ALL,
    widths: &[Width::One],
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        n_values: u32,
        channels: u32,
        padding_0: u32,
        padding_1: u32,
    }
}

/// Blends `pixels` pixels, those of all batch items together, of `channels` channels.
///
/// # Errors
/// [`crate::Error::Shape`] when there are no channels or too many values to address.
pub fn launch(pixels: u32, channels: u32, element: Element) -> Result<Launch> {
    if channels == 0 {
        return Err(refuse(KERNEL.name, "has no channels".into()));
    }
    let n_values = count(KERNEL.name, &[pixels, channels])?;
    let params = Params { n_values, channels, padding_0: 0, padding_1: 0 };
    Ok(Launch::new(&KERNEL, element, Width::One, &[], &params, spread_cells(KERNEL.name, n_values)?))
}

/// The same in plain Rust.
#[must_use]
pub fn reference(mask: &[f32], a: &[f32], b: &[f32], channels: usize) -> Vec<f32> {
    a.iter().zip(b).enumerate().map(|(i, (a, b))| mask[i / channels] * a + (1.0 - mask[i / channels]) * b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_takes_a_where_the_mask_is_one() {
        assert_eq!(reference(&[1.0, 0.25], &[1.0, 2.0, 4.0, 4.0], &[9.0, 9.0, 8.0, 0.0], 2), [1.0, 2.0, 7.0, 1.0]);
    }
}
