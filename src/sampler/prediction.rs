//! What the model predicts, as linear expressions of the latents and the model's output.
//!
//! Noise levels come as (alpha, sigma) with `latents = alpha · picture + sigma · noise`. Samplers that keep their
//! latents unscaled (Euler, Heun) have alpha 1 there, and the model sees the latents divided by `sqrt(1 + sigma²)`.

use super::{Slot, Sum};

/// `prediction_type` of a scheduler config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prediction {
    Epsilon,
    /// `alpha · noise - sigma · picture` (arXiv 2202.00512, appendix D).
    Velocity,
    Sample,
}

impl Prediction {
    /// The picture without noise, for latents with `alpha² + sigma² = 1`.
    pub(super) fn original(self, alpha: f64, sigma: f64) -> Sum {
        match self {
            Prediction::Epsilon => Sum::of(1.0 / alpha, Slot::Latents).plus(-sigma / alpha, Slot::ModelOutput),
            Prediction::Velocity => Sum::of(alpha, Slot::Latents).plus(-sigma, Slot::ModelOutput),
            Prediction::Sample => Sum::of(1.0, Slot::ModelOutput),
        }
    }

    /// The noise, for latents with `alpha² + sigma² = 1`.
    pub(super) fn noise(self, alpha: f64, sigma: f64) -> Sum {
        match self {
            Prediction::Epsilon => Sum::of(1.0, Slot::ModelOutput),
            Prediction::Velocity => Sum::of(alpha, Slot::ModelOutput).plus(sigma, Slot::Latents),
            Prediction::Sample => Sum::of(1.0 / sigma, Slot::Latents).plus(-alpha / sigma, Slot::ModelOutput),
        }
    }

    /// The picture without noise, for latents `picture + sigma · noise`.
    pub(super) fn original_unscaled(self, sigma: f64) -> Sum {
        let variance = sigma * sigma + 1.0;
        match self {
            Prediction::Epsilon => Sum::of(1.0, Slot::Latents).plus(-sigma, Slot::ModelOutput),
            Prediction::Velocity => {
                Sum::of(1.0 / variance, Slot::Latents).plus(-sigma / variance.sqrt(), Slot::ModelOutput)
            }
            Prediction::Sample => Sum::of(1.0, Slot::ModelOutput),
        }
    }
}
