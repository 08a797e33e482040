//! Group norms of pictures in bands of rows: statistics band by band, values as a convolution asks for their rows.

use std::rc::Rc;

use super::fuse::Normed;
use super::sizes::{Band, MAX_CHUNKS};
use super::{group_norm_apply, group_norm_stats};
use crate::error::Result;
use crate::graph::NodeId;
use crate::run::gpu::bands::Rows;
use crate::run::gpu::emit::{Deferred, Emitter, Operand, Storage};
use crate::run::gpu::kernels::elementwise::rows::{exactly, rows_of};

/// A measured picture whose rows are normalised on request.
struct Measured {
    normed: Normed,
    node: NodeId,
    x: NodeId,
    partials: Operand,
    partial_pixels: usize,
}

/// The statistics of all bands now, the normalisation as rows are asked for; or at once, where the result is whole.
pub(super) fn emit<'a>(emitter: &mut Emitter<'a>, normed: &Normed, node: NodeId, out: NodeId, x: NodeId) -> Result<()> {
    let &[_, height, width, channels] = emitter.shape(x) else {
        return emitter.refuse("group_norm", "wants a picture");
    };
    let bands = match emitter.bands_of(x) {
        Some(bands) => bands.rows.clone(),
        None => vec![Rows { first: 0, n: height }],
    };
    // Bands are whole parts: one, or as many as there may be in all and divide a band's rows.
    let rows = bands[0].n;
    let most = (MAX_CHUNKS as usize / bands.len()).max(1);
    let n_parts = (1..=most.min(rows)).rev().find(|n| rows.is_multiple_of(*n)).unwrap_or(1);
    let partial_pixels = rows / n_parts * width;
    let flops = emitter.flops(node);
    let mut measured = None;
    for rows in bands {
        let sizes = normed.sizes(emitter.graph, node, rows.n * width);
        let band = Band {
            total_pixels: (height * width) as u32,
            partial_pixels: partial_pixels as u32,
            pixels_before: (rows.first * width) as u32,
            from_pixel: 0,
            to_pixel: 0,
        };
        let source_0 = exactly(emitter, x, rows)?;
        let partials = match &measured {
            Some(partials) => Operand::clone(partials),
            None => measured.insert(emitter.slot(sizes.partial_bytes_of(&band))).clone(),
        };
        let launch = group_norm_stats::launch_band(&sizes, &band, emitter.element)?;
        let bindings = group_norm_stats::Bindings { source_0, source_1: None, partials };
        let share = flops * rows.n as u64 / height as u64;
        emitter.emit(launch, bindings, format!("{}x{channels}", rows.n * width), share);
    }
    let Some(partials) = measured else { return emitter.refuse("group_norm", "has no bands") };
    let measured = Measured { normed: normed.clone(), node, x, partials, partial_pixels };
    let storage: Storage<'a> = if emitter.is_cut(out) {
        Storage::Deferred(Rc::new(measured))
    } else {
        // All rows into the place of the result.
        Storage::Whole(measured.rows(emitter, Rows { first: 0, n: height })?)
    };
    emitter.store(out, storage);
    Ok(())
}

impl Measured {
    /// Where rows of the input can be read: bands that are kept as they are, and what is gathered of the others.
    fn pieces(&self, emitter: &Emitter<'_>, wanted: Rows) -> Vec<Rows> {
        let Some(bands) = emitter.bands_of(self.x) else { return vec![wanted] };
        let mut pieces: Vec<(Rows, bool)> = Vec::new();
        for (&rows, place) in bands.rows.iter().zip(&bands.places) {
            let part = rows.and(wanted);
            if part.n == 0 {
                continue;
            }
            let is_there = place.is_some() && !bands.is_packed;
            match pieces.last_mut() {
                Some((last, false)) if !is_there => last.n += part.n,
                _ => pieces.push((part, is_there)),
            }
        }
        pieces.into_iter().map(|(rows, _)| rows).collect()
    }
}

impl<'a> Deferred<'a> for Measured {
    fn source(&self) -> NodeId {
        self.x
    }

    fn rows(&self, emitter: &mut Emitter<'a>, wanted: Rows) -> Result<Operand> {
        let &[_, height, width, channels] = emitter.shape(self.x) else {
            return emitter.refuse("group_norm", "wants a picture");
        };
        let sources = self.pieces(emitter, wanted).into_iter();
        let sources = sources.map(|part| Ok((part, rows_of(emitter, self.x, part)?))).collect::<Result<Vec<_>>>()?;
        let gathered = emitter.slot_of_rows(self.x, wanted.n);
        for (part, (source_0, at)) in sources {
            let sizes = self.normed.sizes(emitter.graph, self.node, part.n * width);
            let band = Band {
                total_pixels: (height * width) as u32,
                partial_pixels: self.partial_pixels as u32,
                pixels_before: 0,
                from_pixel: ((part.first - at.first) * width) as u32,
                to_pixel: ((part.first - wanted.first) * width) as u32,
            };
            let launch = group_norm_apply::launch_band(&sizes, &band, emitter.element, self.normed.silu)?;
            let inputs = &emitter.node(self.node).inputs;
            let (weight, bias) = (emitter.weight(inputs[1]), emitter.weight(inputs[2]));
            let (partials, out) = (self.partials.clone(), gathered.clone());
            let bindings = group_norm_apply::Bindings { source_0, source_1: None, partials, weight, bias, out };
            emitter.emit(launch, bindings, format!("{}x{channels}", part.n * width), 0);
        }
        Ok(gathered)
    }
}
