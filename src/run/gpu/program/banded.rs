//! Which storages are cut into bands of rows.

use std::collections::{HashMap, HashSet};

use super::super::bands::{BandSizes, Cuts};
use super::super::kernel::Element;
use super::super::lower::{Lowered, TaskKind};
use crate::graph::{Graph, NodeId};

/// The storages that are cut: pictures of one batch item that only convolutions and norms make and read.
#[must_use]
pub(super) fn banded(graph: &Graph, lowered: &Lowered, element: Element, sizes: BandSizes) -> Cuts {
    let mut can: HashMap<NodeId, bool> = HashMap::new();
    for task in &lowered.tasks {
        let spatial = task.can_be_cut();
        let out = graph.node(task.out);
        let is_picture = out.shape.len() == 4 && out.shape[0] == 1;
        *can.entry(task.out).or_insert(true) &= spatial && is_picture;
        for root in task.reads(graph, &lowered.values) {
            let picture = graph.node(root).shape.len() == 4;
            *can.entry(root).or_insert(true) &= spatial && picture;
        }
    }
    for output in &graph.outputs {
        can.insert(lowered.values.root(output.id), false);
    }
    // A norm of a cut picture is done as a convolution asks for its rows; nothing else can ask for them.
    let norms: HashSet<NodeId> =
        lowered.tasks.iter().filter(|t| matches!(t.kind, TaskKind::GroupNorm(_))).map(|t| t.out).collect();
    for task in &lowered.tasks {
        let others: Vec<NodeId> = match &task.kind {
            TaskKind::Product(product) => product.residual.into_iter().collect(),
            TaskKind::GroupNorm(normed) => normed.x.clone(),
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
            let TaskKind::Product(product) = &task.kind else { continue };
            let Some(residual) = product.residual else { continue };
            let both = can.get(&task.out) == Some(&true) && can.get(&residual) == Some(&true);
            for id in [task.out, residual] {
                changed |= !both && can.insert(id, false) == Some(true);
            }
        }
        if !changed {
            break;
        }
    }
    let is_made = |id: &NodeId| lowered.tasks.iter().any(|task| task.out == *id);
    let n_bytes = |id: &NodeId| graph.node(*id).n_elements() as u64 * element.bytes();
    let is_large = |id: &NodeId| n_bytes(id) > sizes.min_bytes;
    let cut: Vec<NodeId> =
        can.into_iter().filter(|(id, can)| *can && is_large(id) && is_made(id)).map(|(id, _)| id).collect();
    let sizes = sizes.for_largest(cut.iter().map(n_bytes).max().unwrap_or(0));
    let mut cuts = Cuts::default();
    for id in cut {
        let height = graph.node(id).shape[1];
        cuts.insert(id, height, sizes.rows(height, n_bytes(&id)));
    }
    cuts
}
