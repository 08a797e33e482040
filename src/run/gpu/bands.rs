//! Pictures too large for one range of memory, cut into bands of whole rows.
//!
//! Which values are cut is decided by their size and by who reads them; a band is computed exactly as the same rows of the
//! whole would be, so nothing shows where they meet.

use std::collections::{HashMap, HashSet};

use super::kernels::Element;
use super::lower::{Lowered, TaskKind};
use crate::graph::{Graph, NodeId};

/// Values of fewer bytes stay whole.
const MIN_BYTES: u64 = 48 << 20;
/// Bytes of a band, as far as [`MAX_BANDS`] allows: what it costs beside the value that it is a part of.
const BAND_BYTES: u64 = 8 << 20;
/// Bands of a value: each is a few dispatches.
const MAX_BANDS: u64 = 16;

/// How values are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BandSizes {
    /// Values of more bytes are cut.
    pub min_bytes: u64,
    /// Into bands of about so many.
    pub band_bytes: u64,
}

impl BandSizes {
    /// What costs little and saves much.
    pub const DEFAULT: BandSizes = BandSizes { min_bytes: MIN_BYTES, band_bytes: BAND_BYTES };

    /// Rows of a band of a picture \[H,W,C\] in `n_bytes` bytes; the last band may have fewer.
    #[must_use]
    pub fn rows(&self, height: usize, n_bytes: u64) -> usize {
        let n_bands = n_bytes.div_ceil(self.band_bytes).clamp(1, MAX_BANDS.max(n_bytes.div_ceil(self.min_bytes)));
        // Whole pairs, so that a band of a doubled picture comes from whole rows.
        let rows = height.div_ceil(n_bands as usize);
        rows.next_multiple_of(2).min(height)
    }
}

/// The storages that are cut: pictures of one batch item that only convolutions and norms make and read.
#[must_use]
pub fn banded(graph: &Graph, lowered: &Lowered, element: Element, sizes: BandSizes) -> HashSet<NodeId> {
    let mut can: HashMap<NodeId, bool> = HashMap::new();
    for task in &lowered.tasks {
        let (reads, spatial): (Vec<NodeId>, bool) = match &task.kind {
            TaskKind::Gemm(gemm) => {
                let rows = gemm.time_embedding.map(|rows| rows.root);
                let reads = gemm.x.iter().copied().chain(rows).chain(gemm.residual).collect();
                (reads, gemm.conv.is_some() && gemm.x.len() == 1)
            }
            TaskKind::GroupNorm { x, .. } => (x.clone(), x.len() == 1),
            TaskKind::PackedAttention { qkv } => (vec![*qkv], false),
            TaskKind::Embedding { .. } => (Vec::new(), false),
            TaskKind::Plain => {
                let inputs = &graph.node(task.node).inputs;
                (inputs.iter().map(|input| lowered.roots[input.idx()]).collect(), false)
            }
        };
        let out = graph.node(task.out);
        let is_picture = out.shape.len() == 4 && out.shape[0] == 1;
        *can.entry(task.out).or_insert(true) &= spatial && is_picture;
        for root in reads {
            let picture = graph.node(root).shape.len() == 4;
            *can.entry(root).or_insert(true) &= spatial && picture;
        }
    }
    for (_, id) in &graph.outputs {
        can.insert(lowered.roots[id.idx()], false);
    }
    // A norm of a cut picture is done as a convolution asks for its rows; nothing else can ask for them.
    let norms: HashSet<NodeId> =
        lowered.tasks.iter().filter(|t| matches!(t.kind, TaskKind::GroupNorm { .. })).map(|t| t.out).collect();
    for task in &lowered.tasks {
        let others: Vec<NodeId> = match &task.kind {
            TaskKind::Gemm(gemm) => gemm.residual.into_iter().collect(),
            TaskKind::GroupNorm { x, .. } => x.clone(),
            _ => continue,
        };
        for norm in others.iter().filter(|id| norms.contains(id)) {
            can.insert(*norm, false);
        }
    }
    // A residual is added band by band, so it is cut if and only if the sum is.
    loop {
        let mut changed = false;
        for task in &lowered.tasks {
            let TaskKind::Gemm(gemm) = &task.kind else { continue };
            let Some(residual) = gemm.residual else { continue };
            let both = can.get(&task.out) == Some(&true) && can.get(&residual) == Some(&true);
            for id in [task.out, residual] {
                changed |= !both && can.insert(id, false) == Some(true);
            }
        }
        if !changed {
            break;
        }
    }
    let is_large = |id: &NodeId| graph.node(*id).n_elements() as u64 * element.bytes() > sizes.min_bytes;
    let is_made = |id: &NodeId| lowered.tasks.iter().any(|task| task.out == *id);
    can.into_iter().filter(|(id, can)| *can && is_large(id) && is_made(id)).map(|(id, _)| id).collect()
}
