//! Group normalisation: the sizes that its two kernels share and the formula that both are compared with.
//!
//! [`super::group_norm_stats`] measures parts of each group with many workgroups, since 32 groups alone would leave a
//! GPU idle; [`super::group_norm_apply`] joins the parts and normalises. The input may be two tensors that stand for
//! their concatenation along the channels.

use super::{Element, Width, count, refuse};
use crate::Result;

/// Invocations of a workgroup of either kernel.
pub(super) const THREADS: u32 = 256;
/// Cells of a pixel that a workgroup covers at most: half its invocations, so that it reads two pixels at once or more.
const MAX_SLAB_CELLS: u32 = 128;
/// Parts of a group at most. Every workgroup of the second kernel joins them all.
const MAX_CHUNKS: u32 = 64;
/// Pixels that an invocation measures at least, unless there are fewer.
const PIXELS_PER_THREAD: u32 = 16;
/// Pixels that an invocation normalises.
const PIXELS_PER_THREAD_APPLY: u32 = 8;

/// One group normalisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// Batch items B.
    pub batch: u32,
    /// Pixels H·W.
    pub pixels: u32,
    /// Channels of the first and of the second source; 0 when there is one.
    pub channels: [u32; 2],
    /// Groups G, which divide the channels of both together.
    pub groups: u32,
    /// Added to the variance.
    pub eps: f32,
}

/// How the work is cut. A workgroup covers a slab, which is a number of whole groups, and a chunk of the pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub width: Width,
    pub groups_per_slab: u32,
    pub n_slabs: u32,
    /// Pixels that a workgroup has under way at once.
    pub pixels_at_once: u32,
    pub chunk_pixels: u32,
    pub n_chunks: u32,
}

impl GroupNorm {
    /// Parts of each group that the first kernel measures.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when the groups do not divide the channels, or a group is wider than 512 channels (128
    /// when the channels are not multiples of four).
    pub fn n_chunks(&self) -> Result<u32> {
        Ok(self.cut(PIXELS_PER_THREAD, MAX_CHUNKS)?.n_chunks)
    }

    /// Bytes of the first kernel's result: mean and sum of squared deviations of each part, f32 \[B, G, chunks, 2\].
    ///
    /// # Errors
    /// As [`GroupNorm::n_chunks`].
    pub fn partial_bytes(&self) -> Result<u64> {
        Ok(u64::from(self.batch) * u64::from(self.groups) * u64::from(self.n_chunks()?) * 8)
    }

    pub(super) fn stats_cut(&self) -> Result<Cut> {
        self.cut(PIXELS_PER_THREAD, MAX_CHUNKS)
    }

    pub(super) fn apply_cut(&self) -> Result<Cut> {
        self.cut(PIXELS_PER_THREAD_APPLY, u32::MAX)
    }

    fn cut(&self, pixels_per_thread: u32, max_chunks: u32) -> Result<Cut> {
        let name = "group_norm";
        let [c0, c1] = self.channels;
        let channels = c0 + c1;
        if self.groups == 0 || c0 == 0 || self.pixels == 0 || !channels.is_multiple_of(self.groups) {
            return Err(refuse(name, format!("cannot divide {channels} channels into {} groups", self.groups)));
        }
        count(name, &[self.batch, self.pixels, channels])?;
        let group_channels = channels / self.groups;
        let width = Width::of(&[c0, c1]);
        // Groups until a whole number of cells is reached: 2 of 10 channels in cells of 4.
        let step = width.elements() / gcd(group_channels, width.elements());
        let step_cells = step * group_channels / width.elements();
        if step_cells > MAX_SLAB_CELLS {
            return Err(refuse(name, format!("cannot measure groups of {group_channels} channels")));
        }
        let groups_per_slab = (MAX_SLAB_CELLS / step_cells * step).min(self.groups);
        let slab_cells = groups_per_slab * group_channels / width.elements();
        let pixels_at_once = THREADS / slab_cells;
        let n_chunks = self.pixels.div_ceil(pixels_at_once * pixels_per_thread).clamp(1, max_chunks);
        let chunk_pixels = self.pixels.div_ceil(n_chunks);
        Ok(Cut {
            width,
            groups_per_slab,
            n_slabs: self.groups.div_ceil(groups_per_slab),
            pixels_at_once,
            chunk_pixels,
            n_chunks: self.pixels.div_ceil(chunk_pixels),
        })
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

params! {
    /// The uniform buffer of both kernels, field for field as in their WGSL files.
    struct Params {
        pixels: u32,
        channels_0: u32,
        channels_1: u32,
        groups: u32,
        groups_per_slab: u32,
        n_slabs: u32,
        pixels_at_once: u32,
        chunk_pixels: u32,
        n_chunks: u32,
        n_workgroups: u32,
        partial_pixels: u32,
        n_partials: u32,
        eps: f32,
        padding_0: u32,
        padding_1: u32,
        padding_2: u32,
    }
}

pub(super) const PARAMS_BYTES: usize = size_of::<Params>();
pub(super) const PARAMS_FIELDS: &[(&str, usize)] = Params::FIELDS;

/// The launch of either kernel.
pub(super) fn launch(
    kernel: &'static super::Kernel,
    norm: &GroupNorm,
    element: Element,
    cut: Cut,
    constants: &[(&'static str, f64)],
) -> Result<super::Launch> {
    let stats = norm.stats_cut()?;
    let n_workgroups = count(kernel.name, &[norm.batch, cut.n_slabs, cut.n_chunks])?;
    let params = Params {
        pixels: norm.pixels,
        channels_0: norm.channels[0],
        channels_1: norm.channels[1],
        groups: norm.groups,
        groups_per_slab: cut.groups_per_slab,
        n_slabs: cut.n_slabs,
        pixels_at_once: cut.pixels_at_once,
        chunk_pixels: cut.chunk_pixels,
        n_chunks: cut.n_chunks,
        n_workgroups,
        partial_pixels: stats.chunk_pixels,
        n_partials: stats.n_chunks,
        eps: norm.eps,
        padding_0: 0,
        padding_1: 0,
        padding_2: 0,
    };
    let workgroups = super::spread(kernel.name, n_workgroups)?;
    Ok(super::Launch::new(kernel, element, cut.width, constants, &params, workgroups))
}

/// Group normalisation in plain Rust, of the concatenated input \[B, pixels, C\], with silu behind it if asked for.
/// Statistics are f64 and in two passes.
#[must_use]
pub fn reference(norm: &GroupNorm, x: &[f32], weight: &[f32], bias: &[f32], silu: bool) -> Vec<f32> {
    let channels = weight.len();
    let group_channels = channels / norm.groups as usize;
    let pixels = norm.pixels as usize;
    let mut out = vec![0.0; x.len()];
    for b in 0..norm.batch as usize {
        for group in 0..norm.groups as usize {
            let indices = (0..pixels).flat_map(|pixel| {
                let first = (b * pixels + pixel) * channels + group * group_channels;
                first..first + group_channels
            });
            let n_values = (pixels * group_channels) as f64;
            let mean = indices.clone().map(|i| f64::from(x[i])).sum::<f64>() / n_values;
            let variance = indices.clone().map(|i| (f64::from(x[i]) - mean).powi(2)).sum::<f64>() / n_values;
            let inverse = (variance + f64::from(norm.eps)).sqrt().recip();
            for i in indices {
                let c = i % channels;
                let y = (f64::from(x[i]) - mean) * inverse * f64::from(weight[c]) + f64::from(bias[c]);
                out[i] = (if silu { y / (1.0 + (-y).exp()) } else { y }) as f32;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn norm(pixels: u32, channels: [u32; 2], groups: u32) -> GroupNorm {
        GroupNorm { batch: 2, pixels, channels, groups, eps: 1e-5 }
    }

    #[test]
    fn slabs_are_whole_groups_and_whole_cells() {
        for (pixels, channels, groups) in
            [(4096, [320, 0], 32), (64, [1280, 1280], 32), (1, [16, 0], 4), (7, [9, 0], 3), (262_144, [128, 0], 32)]
        {
            let norm = norm(pixels, channels, groups);
            for cut in [norm.stats_cut().unwrap(), norm.apply_cut().unwrap()] {
                let slab_channels = cut.groups_per_slab * (channels[0] + channels[1]) / groups;
                assert!(slab_channels.is_multiple_of(cut.width.elements()), "{cut:?}");
                assert!(slab_channels / cut.width.elements() * cut.pixels_at_once <= THREADS, "{cut:?}");
                assert!(cut.n_slabs * cut.groups_per_slab >= groups, "{cut:?}");
                assert!(cut.n_chunks * cut.chunk_pixels >= pixels, "{cut:?}");
                assert!((cut.n_chunks - 1) * cut.chunk_pixels < pixels, "{cut:?} has an empty chunk");
            }
        }
    }

    #[test]
    fn what_cannot_be_grouped_is_refused() {
        assert!(norm(4, [10, 0], 3).n_chunks().is_err());
        assert!(norm(4, [513, 0], 1).n_chunks().is_err());
    }

    #[test]
    fn reference_gives_mean_zero_and_variance_one() {
        let x: Vec<f32> = (0..32).map(|i| 1e4 + (i * 7 % 11) as f32).collect();
        let y = reference(&norm(4, [4, 0], 2), &x, &[1.0; 4], &[0.0; 4], false);
        let group: Vec<f32> = y.chunks(4).take(4).flat_map(|pixel| pixel[..2].to_vec()).collect();
        assert!(group.iter().sum::<f32>().abs() < 1e-5);
        assert!((group.iter().map(|v| v * v).sum::<f32>() - 8.0).abs() < 1e-3);
    }
}
