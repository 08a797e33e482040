//! `rgba`: pictures and previews as bytes, four to a pixel, opaque.
//!
//! Every colour is a weighted sum of a pixel's first four channels: of a decoded picture's own colour, or for a preview of
//! the latents. A preview may leave out pixels.

use crate::Result;
use crate::run::Colours;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings, count, params, refuse, spread_cells};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// \[H,W,C\].
        x: ReadWrite T,
        /// u32 \[pixels\], red in the lowest byte.
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "rgba",
    wgsl: include_str!("rgba.wgsl"),
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
        n_pixels: u32,
        channels: u32,
        out_w: u32,
        in_w: u32,
        step: u32,
        padding_0: u32,
        padding_1: u32,
        padding_2: u32,
        red: [f32; 4],
        green: [f32; 4],
        blue: [f32; 4],
        constant: [f32; 4],
    }
}

/// Pixels of a picture of which every `step`th is converted in either direction, the first one always.
#[must_use]
pub fn out_size(size: [u32; 2], step: u32) -> [u32; 2] {
    size.map(|side| side.div_ceil(step.max(1)))
}

/// Converts a picture of `size` \[H,W\] and `channels` channels; of several batch items, their rows together.
///
/// # Errors
/// [`crate::Error::Shape`] when there are no channels, no step, or too many values to address.
pub fn launch(size: [u32; 2], step: u32, channels: u32, colours: &Colours, element: Element) -> Result<Launch> {
    if channels == 0 || step == 0 {
        return Err(refuse(KERNEL.name, format!("has {channels} channels and a step of {step}")));
    }
    count(KERNEL.name, &[size[0], size[1], channels])?;
    let [out_h, out_w] = out_size(size, step);
    let n_pixels = out_h * out_w;
    let [red, green, blue] = colours.weights;
    let [r, g, b] = colours.constant;
    let params = Params {
        n_pixels,
        channels,
        out_w,
        in_w: size[1],
        step,
        padding_0: 0,
        padding_1: 0,
        padding_2: 0,
        red,
        green,
        blue,
        constant: [r, g, b, 0.0],
    };
    Ok(Launch::new(&KERNEL, element, Width::One, &[], &params, spread_cells(KERNEL.name, n_pixels)?))
}

/// The same in plain Rust, of every pixel.
#[must_use]
pub fn reference(x: &[f32], channels: usize, colours: &Colours) -> Vec<u32> {
    colours.rgba(x, channels).as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect()
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
