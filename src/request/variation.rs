//! A variation: the noise of one seed, turned towards that of another. The arithmetic is [`crate::rng::variation`].

use super::{Request, refuse};
use crate::error::Result;

/// What the noise of a picture is mixed with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variation {
    /// The other seed; it counts on with the pictures, and theirs stays.
    pub seed: u64,
    /// How far towards it, above 0 to 1.
    pub strength: f64,
}

impl Request {
    /// The request with a random variation seed where it asks for a variation and names none.
    #[must_use]
    pub fn with_variation_seed(mut self, random: impl FnOnce() -> u64) -> Self {
        if self.variation_seed.is_none() && self.variation_strength.is_some_and(|strength| strength != 0.0) {
            self.variation_seed = Some(random());
        }
        self
    }

    /// What the noise is mixed with; nothing at a strength of 0. Without a variation seed ([`Request::with_variation_seed`]
    /// has not been asked), the bits of `seed` turned over are one.
    ///
    /// # Errors
    /// [`crate::Error::Request`] for a variation seed without a strength, which would have no effect.
    pub(super) fn variation(&self, seed: u64) -> Result<Option<Variation>> {
        match (self.variation_seed, self.variation_strength) {
            (Some(seed), None) => {
                let expected =
                    "without a strength it has no effect: give --variation-strength (variation_strength) too, 0 to 1";
                refuse("variation seed", seed, expected)
            }
            (None, None) | (_, Some(0.0)) => Ok(None),
            (variation_seed, Some(strength)) => {
                Ok(Some(Variation { seed: variation_seed.unwrap_or(!seed & u64::from(u32::MAX)), strength }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::version::SDVersion;
    use crate::request::{Defaults, SDConfig};

    fn resolved(asked: &Request) -> Result<SDConfig> {
        asked.resolve(&Defaults::of(SDVersion::V1_5), None, false, 7)
    }

    #[test]
    fn a_variation_keeps_the_seed_and_counts_its_own() {
        let asked = Request {
            prompt: "a fox".into(),
            seed: Some(5),
            count: Some(3),
            variation_seed: Some(90),
            variation_strength: Some(0.25),
            ..Request::default()
        };
        let config = resolved(&asked).unwrap();
        assert_eq!(config.seeds().unwrap().collect::<Vec<_>>(), [5, 5, 5]);
        let seeds: Vec<u64> = (0..3).filter_map(|idx| config.variation_of(idx)).map(|v| v.seed).collect();
        assert_eq!(seeds, [90, 91, 92]);
        config.validate().unwrap();
        let chosen = Request { prompt: "a {fox|owl|cat}".into(), ..asked.clone() }.expanded(None, 0).unwrap().requests;
        let seeds: Vec<_> = chosen.iter().map(|request| (request.seed, request.variation_seed)).collect();
        assert_eq!(seeds, [(Some(5), Some(90)), (Some(5), Some(91)), (Some(5), Some(92))]);
        // At 0 there is none, and seeds count on as ever.
        let none = resolved(&Request { variation_strength: Some(0.0), ..asked.clone() }).unwrap();
        assert_eq!(
            none,
            resolved(&Request { variation_seed: None, variation_strength: None, ..asked.clone() }).unwrap()
        );
        assert_eq!(none.seeds().unwrap().last(), Some(7));
        let last = Request { variation_seed: Some(u64::MAX - 1), ..asked.clone() };
        let error = resolved(&last).unwrap().validate().unwrap_err().to_string();
        assert!(error.contains("variation seed"), "{error}");
    }

    #[test]
    fn a_variation_without_a_seed_has_a_random_one_and_without_a_strength_none() {
        let asked = Request { prompt: "a fox".into(), variation_strength: Some(0.5), ..Request::default() };
        assert_eq!(asked.clone().with_variation_seed(|| 33).variation_seed, Some(33));
        assert_ne!(resolved(&asked).unwrap().variation.unwrap().seed, 7, "not the seed itself");
        let given = Request { variation_seed: Some(4), ..asked.clone() };
        assert_eq!(given.clone().with_variation_seed(|| 33), given);
        let silent = Request { variation_strength: None, ..asked.clone() };
        assert_eq!(silent.clone().with_variation_seed(|| 33), silent);
        let error = resolved(&Request { variation_strength: None, ..given }).unwrap_err().to_string();
        assert!(error.contains("variation seed 4") && error.contains("--variation-strength"), "{error}");
        for strength in [-0.1, 1.5, f64::NAN] {
            let refused =
                resolved(&Request { variation_strength: Some(strength), ..asked.clone() }).unwrap().validate();
            assert!(refused.unwrap_err().to_string().contains("variation strength"));
        }
    }
}
