//! `rgba`: pictures and previews as bytes, four to a pixel, opaque.
//!
//! Every colour is a weighted sum of a pixel's first four channels: of a decoded picture's own colour, or for a preview of
//! the latents.

use super::{Binding, Element, Kernel, Launch, Width, count, refuse};
use crate::Result;

/// The kernel's entry in the table.
///
/// Bindings after the parameters: 1. x, \[pixels,C\]; 2. out, u32 \[pixels\]: red in the lowest byte.
pub const KERNEL: Kernel = Kernel {
    name: "rgba",
    wgsl: include_str!("rgba.wgsl"),
    bindings: &[Binding::Uniform, Binding::ReadWrite, Binding::ReadWrite],
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &[],
    elements: Element::ALL,
    widths: &[Width::One],
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        n_pixels: u32,
        channels: u32,
        padding_0: u32,
        padding_1: u32,
        red: [f32; 4],
        green: [f32; 4],
        blue: [f32; 4],
        constant: [f32; 4],
    }
}

/// How channels become colours between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Colours {
    /// For red, green and blue the weights of the first four channels.
    pub weights: [[f32; 4]; 3],
    /// What is added.
    pub constant: [f32; 3],
}

impl Colours {
    /// A decoded picture, whose three channels go from -1 to 1.
    pub const PICTURE: Colours =
        Colours { weights: [[0.5, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.0]], constant: [0.5; 3] };
}

/// Converts `n_pixels` pixels, those of all batch items together, of `channels` channels.
///
/// # Errors
/// [`crate::Error::Shape`] when there are no channels or too many values to address.
pub fn launch(n_pixels: u32, channels: u32, colours: &Colours, element: Element) -> Result<Launch> {
    if channels == 0 {
        return Err(refuse(KERNEL.name, "has no channels".into()));
    }
    count(KERNEL.name, &[n_pixels, channels])?;
    let [red, green, blue] = colours.weights;
    let [r, g, b] = colours.constant;
    let params = Params { n_pixels, channels, padding_0: 0, padding_1: 0, red, green, blue, constant: [r, g, b, 0.0] };
    Ok(Launch::new(&KERNEL, element, Width::One, &[], &params, super::spread_cells(KERNEL.name, n_pixels)?))
}

/// The same in plain Rust.
#[must_use]
pub fn reference(x: &[f32], channels: usize, colours: &Colours) -> Vec<u32> {
    let colour = |pixel: &[f32], i: usize| {
        let sum = pixel.iter().zip(colours.weights[i]).map(|(x, weight)| x * weight).sum::<f32>() + colours.constant[i];
        (sum.clamp(0.0, 1.0) * 255.0).round_ties_even() as u32
    };
    let pixel = |pixel| colour(pixel, 0) | colour(pixel, 1) << 8 | colour(pixel, 2) << 16 | 0xff00_0000;
    x.chunks_exact(channels).map(pixel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_clamps_and_rounds() {
        let pixels = reference(&[-1.0, 0.0, 1.0, 7.0, -7.0, 0.5], 3, &Colours::PICTURE);
        assert_eq!(pixels, [0xffff_8000, 0xffbf_00ff]);
    }
}
