//! `group_norm_stats`: mean and sum of squared deviations of parts of each group, the first half of a group
//! normalisation. See [`super::group_norm`].

use super::group_norm::{Band, GroupNorm, PARAMS_BYTES, PARAMS_FIELDS, Sums, launch_of};
use super::{Binding, Element, Kernel, Launch, Width};
use crate::Result;

/// The kernel's entry in the table.
///
/// Bindings after the parameters: 1. source 0, \[B,H,W,C0\]; 2. source 1, \[B,H,W,C1\], unused when C1 is 0; 3. the
/// parts, f32 of [`GroupNorm::partial_bytes`].
pub const KERNEL: Kernel = Kernel {
    name: "group_norm_stats",
    wgsl: include_str!("group_norm_stats.wgsl"),
    bindings: &[Binding::Uniform, Binding::ReadWrite, Binding::ReadWrite, Binding::ReadWrite],
    params_bytes: PARAMS_BYTES,
    params_fields: PARAMS_FIELDS,
    constants: &[],
    elements: Element::ALL,
    widths: Width::ALL,
};

/// Measures the parts.
///
/// # Errors
/// As [`GroupNorm::n_chunks`].
pub fn launch(norm: &GroupNorm, element: Element) -> Result<Launch> {
    launch_of(&KERNEL, norm, None, element, norm.stats_cut()?, &[], Sums::default())
}

/// Measures the parts of one band, whose pixels are those of `norm`.
///
/// # Errors
/// As [`launch`], and for more than one batch item.
pub fn launch_band(norm: &GroupNorm, band: &Band, element: Element) -> Result<Launch> {
    let chunk_pixels = band.partial_pixels;
    let cut = norm.stats_cut()?.with_chunks(chunk_pixels, norm.pixels.div_ceil(chunk_pixels));
    launch_of(&KERNEL, norm, Some(band), element, cut, &[], Sums::default())
}

/// Mean and sum of squared deviations of each part in plain Rust, \[B, G, chunks, 2\], of the concatenated input.
///
/// # Errors
/// As [`GroupNorm::n_chunks`].
pub fn reference(norm: &GroupNorm, x: &[f32]) -> Result<Vec<f32>> {
    let cut = norm.stats_cut()?;
    let channels = (norm.channels[0] + norm.channels[1]) as usize;
    let group_channels = channels / norm.groups as usize;
    let (pixels, chunk_pixels) = (norm.pixels as usize, cut.chunk_pixels as usize);
    let mut parts = Vec::new();
    for b in 0..norm.batch as usize {
        for group in 0..norm.groups as usize {
            for first in (0..pixels).step_by(chunk_pixels) {
                let part = (first..(first + chunk_pixels).min(pixels)).flat_map(|pixel| {
                    let at = (b * pixels + pixel) * channels + group * group_channels;
                    x[at..at + group_channels].iter().map(|value| f64::from(*value))
                });
                let mean = part.clone().sum::<f64>() / part.clone().count() as f64;
                parts.push(mean as f32);
                parts.push(part.map(|value| (value - mean).powi(2)).sum::<f64>() as f32);
            }
        }
    }
    Ok(parts)
}
