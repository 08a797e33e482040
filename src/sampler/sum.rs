//! Linear expressions over slots, and the updates made of them. Deliberately not: any arithmetic on data.

use super::{Limit, Lincomb, Slot};

/// `Σ coefficient · slot`, with each slot at most once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sum(Vec<(Slot, f64)>);

impl Sum {
    pub(super) fn of(coefficient: f64, slot: Slot) -> Self {
        Sum::default().plus(coefficient, slot)
    }

    pub(super) fn plus(mut self, coefficient: f64, slot: Slot) -> Self {
        match self.0.iter_mut().find(|(known, _)| *known == slot) {
            Some((_, sum)) => *sum += coefficient,
            None => self.0.push((slot, coefficient)),
        }
        self
    }

    /// Adds another expression, scaled.
    pub(super) fn plus_sum(self, coefficient: f64, other: &Sum) -> Self {
        other.0.iter().fold(self, |sum, &(slot, inner)| sum.plus(coefficient * inner, slot))
    }

    /// The update that writes this expression. Slots that cancelled out or never counted are left out, so that they are
    /// not read at all.
    pub(super) fn into_update(self, target: Slot) -> Lincomb {
        let terms = self.0.into_iter().filter(|&(_, coefficient)| coefficient != 0.0).collect();
        Lincomb { target, terms, limit: None }
    }

    /// The same with the result limited.
    pub(super) fn into_limited_update(self, target: Slot, limit: Limit) -> Lincomb {
        Lincomb { limit: Some(limit), ..self.into_update(target) }
    }
}
