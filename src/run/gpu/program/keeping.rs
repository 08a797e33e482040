//! How much of each cut value is kept: less of those that are alive where the most is, as far as computing them again is
//! within the work that may be added.
//!
//! Found by trial: a portion less of the value that lowers what is too much by the most for the work that it adds, again
//! and again. Trials are emissions with few bands, which take milliseconds.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::super::arena::{Span, alive};
use super::super::bands::{BandSizes, Cuts};
use super::super::emit::Keeping;
use super::super::kernel::Element;
use super::Emitted;
use crate::error::Result;
use crate::graph::Graph;

/// Steps in which the bytes are lowered, in thousandths of those that are alive together when all is kept.
const STEP: u64 = 20;

/// Answers that a thread keeps: about those of one picture's plan.
const MAX_KNOWN: usize = 8;

/// A graph with how it is cut, and the answer.
type Known = (Graph, Element, BandSizes, Cuts);

thread_local! {
    /// The answers found last: a plan asks the same several times, and then the picture does.
    static KNOWN: RefCell<VecDeque<Known>> = const { RefCell::new(VecDeque::new()) };
}

/// As [`frugal`] found it for the same graph before, or finds it now.
pub(super) fn known_or(
    graph: &Graph,
    element: Element,
    sizes: BandSizes,
    find: impl FnOnce() -> Result<Cuts>,
) -> Result<Cuts> {
    let is_same = |known: &&Known| known.1 == element && known.2 == sizes && known.0 == *graph;
    if let Some(cuts) = KNOWN.with_borrow(|known| known.iter().find(is_same).map(|known| known.3.clone())) {
        return Ok(cuts);
    }
    let cuts = find()?;
    KNOWN.with_borrow_mut(|known| {
        known.truncate(MAX_KNOWN - 1);
        known.push_front((graph.clone(), element, sizes, cuts.clone()));
    });
    Ok(cuts)
}

/// What is to be kept of each value, where more than `sizes.enough_bytes` would be alive at once and work may be added.
/// `emit` emits a graph.
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

    /// Keeps a portion less of the value for which that pays the most.
    fn cheapest(&self, target: u64, emit: &mut impl FnMut(&Cuts) -> Result<Emitted>) -> Result<Option<Self>> {
        let excess = self.excess(target);
        let is_too_much = |span: &Span| self.alive[span.first..=span.last].iter().any(|&n_bytes| n_bytes > target);
        let mut best: Option<(f64, Self)> = None;
        for Keeping { root, slots } in &self.keepings {
            if !slots.iter().any(|&slot| is_too_much(&self.spans[slot])) {
                continue;
            }
            let mut cuts = self.cuts.clone();
            let Some(portions) = cuts.portions.get_mut(root) else { continue };
            *portions = portions.saturating_sub(1);
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
