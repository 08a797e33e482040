//! Pictures in bands of rows: where the bands lie, and the same kernels on each of them.

use super::super::arena::Span;
use super::super::kernels::{copy, gemm, group_norm, group_norm_apply, group_norm_stats};
use super::super::lower::{GemmTask, Task};
use super::{Builder, Operand, Storage};
use crate::error::Result;
use crate::graph::NodeId;

/// Rows of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) first: usize,
    pub(super) n: usize,
}

impl Rows {
    fn end(self) -> usize {
        self.first + self.n
    }

    fn and(self, other: Rows) -> Rows {
        let first = self.first.max(other.first);
        Rows { first, n: self.end().min(other.end()).saturating_sub(first) }
    }
}

impl<'a> Builder<'a> {
    /// The bands that a value is cut into; made now where it has none.
    pub(super) fn bands(&mut self, root: NodeId) -> Option<Vec<(Rows, Operand)>> {
        match self.storages.get(&root) {
            Some(Storage::Bands(bands)) => return Some(bands.clone()),
            Some(_) => return None,
            None => {}
        }
        if !self.banded.contains(&root) {
            return None;
        }
        let &[_, height, width, channels] = self.shape(root) else { return None };
        let row_bytes = (width * channels) as u64 * self.element.bytes();
        let rows = self.settings.bands.rows(height, height as u64 * row_bytes);
        let mut bands = Vec::new();
        for first in (0..height).step_by(rows) {
            let n = rows.min(height - first);
            // Its life begins with the dispatch that writes it.
            self.spans.push(Span { n_bytes: n as u64 * row_bytes, first: usize::MAX, last: 0 });
            bands.push((Rows { first, n }, Operand::Slot(self.spans.len() - 1)));
        }
        self.storages.insert(root, Storage::Bands(bands.clone()));
        Some(bands)
    }

    /// A slot that was made early is alive from now on.
    fn begin(&mut self, operand: &Operand) {
        if let Operand::Slot(slot) = operand {
            let at = self.dispatches.len();
            let span = &mut self.spans[*slot];
            span.first = span.first.min(at);
        }
    }

    /// A convolution whose picture is cut, before or behind it: the same product for each band of the result.
    pub(super) fn product_in_bands(
        &mut self,
        task: &Task,
        fused: &GemmTask,
        gemm: &gemm::Gemm,
        out_bands: Option<Vec<(Rows, Operand)>>,
    ) -> Result<()> {
        let (Some(conv), [x]) = (fused.conv, &fused.x[..]) else {
            return self.refuse("conv2d", "cannot read two pictures in bands");
        };
        let height = gemm.source.out_size[0] as usize;
        let parts = match out_bands {
            Some(bands) => bands,
            None => {
                // The result is whole, but no more of the input should be gathered at once than a band.
                let out = self.room(task.out)?;
                let rows = self.settings.bands.rows(height, self.node(*x).n_elements() as u64 * self.element.bytes());
                (0..height)
                    .step_by(rows)
                    .map(|first| (Rows { first, n: rows.min(height - first) }, out.clone()))
                    .collect()
            }
        };
        let is_cut = self.banded.contains(&task.out);
        let residuals = match fused.residual {
            Some(residual) if is_cut => self.bands(residual),
            _ => None,
        };
        let out_width = gemm.source.out_size[1] as usize;
        let scale = if conv.upsample.is_some() { 2 } else { 1 };
        let in_height = gemm.source.in_size[0] as usize;
        for (i, (rows, out)) in parts.into_iter().enumerate() {
            // The rows of the input, doubled where that comes first, that the kernel covers.
            let from = (rows.first * conv.stride).saturating_sub(conv.pad[0]) / scale;
            let to = ((rows.end() - 1) * conv.stride + conv.kernel).saturating_sub(conv.pad[0]).div_ceil(scale);
            let wanted = Rows { first: from, n: to.min(in_height) - from };
            let (x, at) = self.rows_of(*x, wanted)?;
            let upsample = gemm.source.upsample.map(|[full_h, full_w]| {
                // The rows there, doubled, without what an odd height leaves out below.
                [(full_h - (at.first * scale) as u32).min((at.n * scale) as u32), full_w]
            });
            let source = gemm::Source {
                in_size: [at.n as u32, gemm.source.in_size[1]],
                upsample,
                out_size: [rows.n as u32, gemm.source.out_size[1]],
                pad: [
                    conv.pad[0] as i32 - (rows.first * conv.stride) as i32 + (at.first * scale) as i32,
                    gemm.source.pad[1],
                ],
                ..gemm.source
            };
            let first_out_row = if is_cut { 0 } else { (rows.first * out_width) as u32 };
            let gemm = gemm::Gemm { source, first_out_row, ..*gemm };
            let residual = match (&residuals, fused.residual) {
                (Some(bands), _) => Some(bands[i].1.clone()),
                (None, Some(residual)) => Some(self.whole(residual)?),
                (None, None) => None,
            };
            self.product(fused, &gemm, vec![x], residual, |builder| {
                builder.begin(&out);
                Ok(out)
            })?;
        }
        Ok(())
    }

    /// Rows of a picture in one place, and which rows that place holds: the picture itself, one of its bands, or a copy
    /// made now.
    fn rows_of(&mut self, root: NodeId, wanted: Rows) -> Result<(Operand, Rows)> {
        let &[_, height, width, channels] = self.shape(root) else {
            return self.refuse("conv2d", "wants a picture");
        };
        let row_bytes = (width * channels) as u64 * self.element.bytes();
        let all = Rows { first: 0, n: height };
        match self.storages.get(&root).cloned() {
            None | Some(Storage::Whole(_)) => Ok((self.whole(root)?, all)),
            Some(Storage::Bands(bands)) => {
                if let Some((rows, operand)) = bands.iter().find(|(rows, _)| rows.and(wanted) == wanted) {
                    return Ok((operand.clone(), *rows));
                }
                let gathered = self.slot(wanted.n as u64 * row_bytes);
                for (rows, operand) in bands {
                    let part = rows.and(wanted);
                    if part.n == 0 {
                        continue;
                    }
                    let size = [1, part.n, width, channels].map(|n| n as u32);
                    let copy =
                        copy::Copy::rows(size, (part.first - rows.first) as u32, (part.first - wanted.first) as u32);
                    let launch = copy::launch(&copy, self.element)?;
                    self.emit(launch, vec![operand, gathered.clone()], format!("{size:?}"), 0);
                }
                Ok((gathered, wanted))
            }
            Some(Storage::Normed { norm, x, partials, partial_pixels, silu }) => {
                let gathered = self.slot(wanted.n as u64 * row_bytes);
                let bands = match self.storages.get(&x).cloned() {
                    Some(Storage::Bands(bands)) => bands,
                    _ => vec![(all, self.whole(x)?)],
                };
                let node = self.node(norm);
                for (rows, operand) in bands {
                    let part = rows.and(wanted);
                    if part.n == 0 {
                        continue;
                    }
                    let sizes = self.norm_sizes(norm, [channels as u32, 0], part.n * width)?;
                    let band = group_norm::Band {
                        total_pixels: (height * width) as u32,
                        partial_pixels: partial_pixels as u32,
                        pixels_before: 0,
                        from_pixel: ((part.first - rows.first) * width) as u32,
                        to_pixel: ((part.first - wanted.first) * width) as u32,
                    };
                    let launch = group_norm_apply::launch_band(&sizes, &band, self.element, silu)?;
                    let (weight, bias) = (self.weight(&[node.inputs[1]]), self.weight(&[node.inputs[2]]));
                    let operands = vec![operand, Operand::Unused, partials.clone(), weight, bias, gathered.clone()];
                    self.emit(launch, operands, format!("{}x{channels}", part.n * width), 0);
                }
                Ok((gathered, wanted))
            }
        }
    }

    /// The statistics of all bands now, the normalisation as rows are asked for; or at once, where the result is whole.
    pub(super) fn group_norm_in_bands(&mut self, task: &Task, x: NodeId, silu: bool, flops: u64) -> Result<()> {
        let &[_, height, width, channels] = self.shape(x) else {
            return self.refuse("group_norm", "wants a picture");
        };
        let bands = match self.storages.get(&x).cloned() {
            Some(Storage::Bands(bands)) => bands,
            _ => vec![(Rows { first: 0, n: height }, self.whole(x)?)],
        };
        // Bands are whole parts: one, or as many as there may be in all and divide a band's rows.
        let rows = bands[0].0.n;
        let most = (group_norm::MAX_CHUNKS as usize / bands.len()).max(1);
        let n_parts = (1..=most.min(rows)).rev().find(|n| rows.is_multiple_of(*n)).unwrap_or(1);
        let partial_pixels = rows / n_parts * width;
        let total_pixels = (height * width) as u32;
        let band_at = |rows: Rows| group_norm::Band {
            total_pixels,
            partial_pixels: partial_pixels as u32,
            pixels_before: (rows.first * width) as u32,
            from_pixel: 0,
            to_pixel: 0,
        };
        let mut partials = None;
        for (rows, operand) in &bands {
            let sizes = self.norm_sizes(task.node, [channels as u32, 0], rows.n * width)?;
            let band = band_at(*rows);
            let partials = match &partials {
                Some(operand) => Operand::clone(operand),
                None => {
                    let slot = self.slot(sizes.partial_bytes_of(&band));
                    partials.insert(slot).clone()
                }
            };
            let launch = group_norm_stats::launch_band(&sizes, &band, self.element)?;
            let operands = vec![operand.clone(), Operand::Unused, partials];
            let share = flops * rows.n as u64 / height as u64;
            self.emit(launch, operands, format!("{}x{channels}", rows.n * width), share);
        }
        let Some(partials) = partials else { return self.refuse("group_norm", "has no bands") };
        let normed = Storage::Normed { norm: task.node, x, partials, partial_pixels, silu };
        if self.banded.contains(&task.out) {
            self.storages.insert(task.out, normed);
            return Ok(());
        }
        // All rows into the place of the result.
        self.storages.insert(task.out, normed);
        let (gathered, _) = self.rows_of(task.out, Rows { first: 0, n: height })?;
        self.storages.insert(task.out, Storage::Whole(gathered));
        Ok(())
    }
}
