//! How much of each cut value is kept: less of those that are alive where memory peaks, as long as computing them again
//! stays within the work that may be added.
//!
//! A greedy search: each step keeps a portion less of the value that saves the most bytes above the target for the work
//! that it adds. Trials are emissions with few bands, which take milliseconds.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::super::arena::{Span, alive};
use super::super::bands::{BandSizes, Cuts};
use super::super::emit::Keeping;
use super::super::kernel::Machine;
use super::Emitted;
use crate::error::Result;
use crate::graph::Graph;

/// Steps in which the bytes are lowered, in thousandths of those that are alive together when all is kept.
const STEP: u64 = 20;

/// Answers that a thread keeps: about those of one picture's plan.
const MAX_KNOWN: usize = 8;

/// A graph with what it is emitted for, and the answer.
struct Known {
    graph: Graph,
    machine: Machine,
    max_binding_bytes: u64,
    bands: BandSizes,
    cuts: Cuts,
}

thread_local! {
    /// The answers found last: a plan asks the same several times, and then the picture does.
    static KNOWN: RefCell<VecDeque<Known>> = const { RefCell::new(VecDeque::new()) };
}

/// As [`frugal`] found it for the same graph, machine and sizes before, or finds it now. The tiles and the type of weights
/// must make no difference to it.
pub(super) fn known_or(
    graph: &Graph,
    machine: Machine,
    max_binding_bytes: u64,
    bands: BandSizes,
    find: impl FnOnce() -> Result<Cuts>,
) -> Result<Cuts> {
    let is_same = |known: &&Known| {
        known.machine == machine
            && known.max_binding_bytes == max_binding_bytes
            && known.bands == bands
            && known.graph == *graph
    };
    if let Some(cuts) = KNOWN.with_borrow(|known| known.iter().find(is_same).map(|known| known.cuts.clone())) {
        return Ok(cuts);
    }
    let cuts = find()?;
    KNOWN.with_borrow_mut(|known| {
        known.truncate(MAX_KNOWN - 1);
        known.push_front(Known { graph: graph.clone(), machine, max_binding_bytes, bands, cuts: cuts.clone() });
    });
    Ok(cuts)
}

/// How much of each value is kept: all, unless more than `sizes.enough_bytes` would be alive at once and work may be added.
/// `emit` emits the graph with some cuts.
pub(super) fn frugal(cuts: Cuts, sizes: BandSizes, mut emit: impl FnMut(&Cuts) -> Result<Emitted>) -> Result<Cuts> {
    let BandSizes { extra_work, enough_bytes, .. } = sizes;
    if extra_work == 0 || cuts.portions.is_empty() {
        return Ok(cuts);
    }
    if alive(&emit(&cuts)?.spans).into_iter().max() <= Some(enough_bytes) {
        return Ok(cuts);
    }
    let mut tried = Tried::of(cuts.coarse(), &mut emit)?;
    let allowed = tried.flops / 1000 * (1000 + extra_work);
    let most = tried.alive.iter().copied().max().unwrap_or(0);
    let mut portions = cuts.portions.clone();
    for step in 1..1000 / STEP {
        let target = most / 1000 * (1000 - step * STEP);
        while tried.excess(target) > 0 {
            let Some(next) = tried.cheapest(target, &mut emit)? else { return Ok(Cuts { portions, ..cuts }) };
            if next.flops > allowed {
                return Ok(Cuts { portions, ..cuts });
            }
            tried = next;
        }
        portions.clone_from(&tried.cuts.portions);
    }
    Ok(Cuts { portions, ..cuts })
}

/// What one emission takes.
struct Tried {
    cuts: Cuts,
    alive: Vec<u64>,
    spans: Vec<Span>,
    keepings: Vec<Keeping>,
    flops: u64,
}

impl Tried {
    fn of(cuts: Cuts, emit: &mut impl FnMut(&Cuts) -> Result<Emitted>) -> Result<Self> {
        let emitted = emit(&cuts)?;
        let flops = emitted.dispatches.iter().map(|dispatch| dispatch.flops).sum();
        let Emitted { spans, keepings, .. } = emitted;
        Ok(Tried { cuts, alive: alive(&spans), spans, keepings, flops })
    }

    /// Bytes over a target, of all dispatches together.
    fn excess(&self, target: u64) -> u64 {
        self.alive.iter().map(|n_bytes| n_bytes.saturating_sub(target)).sum()
    }

    /// The trial with a portion less of the value for which that pays the most; none where nothing helps.
    fn cheapest(&self, target: u64, emit: &mut impl FnMut(&Cuts) -> Result<Emitted>) -> Result<Option<Self>> {
        let excess = self.excess(target);
        let is_too_much = |span: &Span| self.alive[span.first..=span.last].iter().any(|&n_bytes| n_bytes > target);
        let mut best: Option<(f64, Self)> = None;
        for Keeping { root, slots } in &self.keepings {
            if !slots.iter().any(|&slot| is_too_much(&self.spans[slot])) {
                continue;
            }
            let mut cuts = self.cuts.clone();
            let Some(portions) = cuts.portions.get_mut(root).filter(|portions| **portions > 0) else { continue };
            *portions -= 1;
            let next = Self::of(cuts, emit)?;
            let gain = excess as f64 - next.excess(target) as f64;
            let pays = gain / (next.flops.saturating_sub(self.flops).max(1)) as f64;
            if gain > 0.0 && best.as_ref().is_none_or(|(most, _)| pays > *most) {
                best = Some((pays, next));
            }
        }
        Ok(best.map(|(_, next)| next))
    }
}
