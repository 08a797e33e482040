//! The sizes of a group norm, how its work is cut, and the parameters that its kernels share.

use crate::Result;
use crate::run::gpu::kernel::{Element, Kernel, Launch, Width, count, params, refuse, spread};
use crate::run::gpu::kernels::products::RowVector;

/// Values of a slab up to which one workgroup is as fast as many and a second dispatch.
const MAX_WHOLE_VALUES: u32 = 1 << 17;

/// Invocations of a workgroup of every kernel.
pub(super) const THREADS: u32 = 256;
/// Cells of a pixel that a workgroup covers at most: half its invocations, so that it reads two pixels at once or more.
const MAX_SLAB_CELLS: u32 = 128;
/// Parts of a group at most. Every workgroup of the second kernel joins them all.
pub const MAX_CHUNKS: u32 = 256;
/// Bytes of a measured part: mean and sum of squared deviations, f32.
const PARTIAL_BYTES: u64 = size_of::<[f32; 2]>() as u64;
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

/// A part of a picture that lies in bands of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// Pixels of the whole picture.
    pub total_pixels: u32,
    /// Pixels in each part that is measured; only the last one of the picture may be smaller, so bands are whole parts.
    pub partial_pixels: u32,
    /// Pixels of the picture before this band: whole parts.
    pub pixels_before: u32,
    /// Pixels before the first that is read, in the tensor that holds the input.
    pub from_pixel: u32,
    /// Pixels before the first that is written, in the tensor that takes the output.
    pub to_pixel: u32,
}

impl Band {
    fn n_partials(&self) -> u32 {
        self.total_pixels.div_ceil(self.partial_pixels)
    }
}

/// An input that is not there yet but in parts, for [`super::splitk_group_norm`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub n_splits: u32,
    pub time_embedding: RowVector,
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

impl Cut {
    pub(super) fn with_chunks(self, chunk_pixels: u32, n_chunks: u32) -> Self {
        Cut { chunk_pixels, n_chunks, ..self }
    }
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
        Ok(u64::from(self.batch) * u64::from(self.groups) * u64::from(self.n_chunks()?) * PARTIAL_BYTES)
    }

    /// Bytes of the first kernel's result for a picture in bands.
    #[must_use]
    pub fn partial_bytes_of(&self, band: &Band) -> u64 {
        u64::from(self.batch) * u64::from(self.groups) * u64::from(band.n_partials()) * PARTIAL_BYTES
    }

    /// Whether one dispatch of [`KERNEL`](super::KERNEL) is enough.
    ///
    /// # Errors
    /// As [`GroupNorm::n_chunks`].
    pub fn fits_one_dispatch(&self) -> Result<bool> {
        self.fits_one_dispatch_of_parts(1)
    }

    /// The same when every value is the sum of `n_splits` that are read.
    pub(super) fn fits_one_dispatch_of_parts(&self, n_splits: u32) -> Result<bool> {
        let cut = self.whole_cut()?;
        let slab = cut.groups_per_slab * (self.channels[0] + self.channels[1]) / self.groups;
        Ok(u64::from(slab) * u64::from(self.pixels) * u64::from(n_splits) <= u64::from(MAX_WHOLE_VALUES))
    }

    /// Slabs of as few groups as make whole cells, so that there are many workgroups.
    pub(super) fn whole_cut(&self) -> Result<Cut> {
        let any = self.cut(PIXELS_PER_THREAD, MAX_CHUNKS)?;
        let group_channels = (self.channels[0] + self.channels[1]) / self.groups;
        let groups_per_slab = any.width.elements() / gcd(group_channels, any.width.elements());
        let groups_per_slab = groups_per_slab.min(self.groups);
        Ok(Cut {
            groups_per_slab,
            n_slabs: self.groups.div_ceil(groups_per_slab),
            pixels_at_once: THREADS / (groups_per_slab * group_channels / any.width.elements()),
            chunk_pixels: self.pixels,
            n_chunks: 1,
            ..any
        })
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
    /// The uniform buffer of all kernels, field for field as in `shared/group_norm.wgsl`.
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
        total_pixels: u32,
        from_pixel: u32,
        to_pixel: u32,
        first_partial: u32,
        n_splits: u32,
        time_embedding_stride: u32,
        time_embedding_offset: u32,
    }
}

/// The launch of one of the kernels, for a whole picture or a band of one.
pub(super) fn launch_of(
    kernel: &'static Kernel,
    norm: &GroupNorm,
    band: Option<&Band>,
    element: Element,
    cut: Cut,
    constants: &[(&'static str, f64)],
    sums: Sums,
) -> Result<Launch> {
    let band = match band {
        Some(band) if norm.batch == 1 => *band,
        Some(_) => return Err(refuse(kernel.name, "has bands of one picture at a time only".into())),
        None => Band {
            total_pixels: norm.pixels,
            partial_pixels: norm.stats_cut()?.chunk_pixels,
            pixels_before: 0,
            from_pixel: 0,
            to_pixel: 0,
        },
    };
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
        partial_pixels: band.partial_pixels,
        n_partials: band.n_partials(),
        eps: norm.eps,
        total_pixels: band.total_pixels,
        from_pixel: band.from_pixel,
        to_pixel: band.to_pixel,
        first_partial: band.pixels_before / band.partial_pixels,
        n_splits: sums.n_splits,
        time_embedding_stride: sums.time_embedding.stride,
        time_embedding_offset: sums.time_embedding.offset,
    };
    let workgroups = spread(kernel.name, n_workgroups)?;
    Ok(Launch::new(kernel, element, cut.width, constants, &params, workgroups))
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
}
