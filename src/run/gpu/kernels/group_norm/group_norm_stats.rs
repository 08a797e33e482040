//! `group_norm_stats`: mean and sum of squared deviations of parts of each group, the first half of a group
//! normalisation. See [`super`].

use super::shared::IMPORTS;
use super::sizes::{Band, GroupNorm, Params, Sums, launch_of};
use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// \[B,H,W,C0\].
        source_0: ReadWrite T,
        /// \[B,H,W,C1\]; `None` when C1 is 0.
        source_1: ReadWrite Option<T>,
        /// f32 of [`GroupNorm::partial_bytes`].
        partials: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "group_norm_stats",
    wgsl: include_str!("group_norm_stats.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: IMPORTS,
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
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
