//! Convolutions whose input or output is cut into bands of rows: the same product for each band.

use super::emit::{Factors, Products};
use super::fuse::Product;
use super::sizes::{Gemm, Source};
use crate::error::Result;
use crate::graph::NodeId;
use crate::run::gpu::bands::Rows;
use crate::run::gpu::emit::{Emitter, Operand, Storage};
use crate::run::gpu::kernels::elementwise::copy;

impl Products<'_> {
    /// The product for each band of the result.
    pub(super) fn emit_in_bands(
        &mut self,
        emitter: &mut Emitter<'_>,
        product: &Product,
        gemm: &Gemm,
        out: NodeId,
        out_bands: Option<Vec<(Rows, Operand)>>,
    ) -> Result<()> {
        let (Some(conv), [x]) = (product.conv, &product.x[..]) else {
            return emitter.refuse("conv2d", "cannot read two pictures in bands");
        };
        let height = gemm.source.out_size[0] as usize;
        let is_cut = out_bands.is_some();
        let parts = match out_bands {
            Some(bands) => bands,
            None => {
                // The result is whole, but no more of the input should be gathered at once than a band.
                let out = emitter.room(out)?;
                let in_bytes = emitter.node(*x).n_elements() as u64 * emitter.element.bytes();
                let rows = emitter.bands.rows(height, in_bytes);
                let bands = (0..height).step_by(rows);
                bands.map(|first| (Rows { first, n: rows.min(height - first) }, out.clone())).collect()
            }
        };
        let residuals = match product.residual {
            Some(residual) if is_cut => emitter.bands_of(residual),
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
            let (source_0, at) = rows_of(emitter, *x, wanted)?;
            let upsample = gemm.source.upsample.map(|[full_h, full_w]| {
                // The rows there, doubled, without what an odd height leaves out below.
                [(full_h - (at.first * scale) as u32).min((at.n * scale) as u32), full_w]
            });
            let source = Source {
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
            let gemm = Gemm { source, first_out_row, ..*gemm };
            let residual = match (&residuals, product.residual) {
                (Some(bands), _) => Some(bands[i].1.clone()),
                (None, Some(residual)) => Some(emitter.whole(residual)?),
                (None, None) => None,
            };
            let factors = Factors { source_0, source_1: None, residual };
            let room = |emitter: &mut Emitter<'_>| {
                emitter.begin(&out);
                Ok(out)
            };
            self.one(emitter, product, &gemm, factors, room, |_, _| Ok(false))?;
        }
        Ok(())
    }
}

/// A place that holds the wanted rows of a picture, and the rows that it holds: the picture itself, one of its bands, or a
/// copy.
fn rows_of(emitter: &mut Emitter<'_>, root: NodeId, wanted: Rows) -> Result<(Operand, Rows)> {
    let &[_, height, width, channels] = emitter.shape(root) else {
        return emitter.refuse("conv2d", "wants a picture");
    };
    let bands = match emitter.storage(root).cloned() {
        None | Some(Storage::Whole(_)) => return Ok((emitter.whole(root)?, Rows { first: 0, n: height })),
        Some(Storage::Deferred(deferred)) => return Ok((deferred.rows(emitter, wanted)?, wanted)),
        Some(Storage::Bands(bands)) => bands,
    };
    if let Some((rows, operand)) = bands.iter().find(|(rows, _)| rows.and(wanted) == wanted) {
        return Ok((operand.clone(), *rows));
    }
    let gathered = emitter.slot_of_rows(root, wanted.n);
    for (rows, source) in bands {
        let part = rows.and(wanted);
        if part.n == 0 {
            continue;
        }
        let size = [1, part.n, width, channels].map(|n| n as u32);
        let copy = copy::Copy::rows(size, (part.first - rows.first) as u32, (part.first - wanted.first) as u32);
        let launch = copy::launch(&copy, emitter.element)?;
        emitter.emit(launch, copy::Bindings { source, out: gathered.clone() }, format!("{size:?}"), 0);
    }
    Ok((gathered, wanted))
}
