//! Which tile serves which matrix product, and what attentions multiply in: what was measured on this adapter, or a guess that
//! is never bad.
//!
//! Choices are kept by class of shape, since neighbouring sizes want the same. Measuring is the runner's business
//! (`GpuRunner::tune`); where choices are kept between runs is the caller's: they go to and from JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::sizes::Gemm;
use super::tile::{TILES, Tile};
use crate::error::Result;
use crate::run::gpu::kernel::{Element, Machine, Multiply};
use crate::weights::WeightType;

/// What stands in the place of a tile where only what is multiplied in is chosen.
pub const IN_F32: &str = "f32";
/// Likewise.
pub const IN_F16: &str = "f16";

/// How many times as fast as f32 products in f16 have to be, because they cost precision.
const F16_HANDICAP: f64 = 1.15;

/// Whether what is chosen under a name multiplies in f16.
fn in_f16(name: &str) -> bool {
    name == IN_F16 || TILES.iter().any(|tile| tile.name == name && tile.multiplies_in_f16())
}

/// Stands for every class that has no choice of its own.
const EVERY: &str = "*";

/// Choices for one adapter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Tiles(BTreeMap<String, Choice>);

/// A tile by its name, with the parts that the sums are cut into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct Choice {
    tile: String,
    splits: u32,
}

/// What one shape was cut into and how long that took.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Measured {
    /// The class of shape.
    pub class: String,
    /// The tile's name, or what an attention multiplied in.
    pub tile: &'static str,
    /// Parts of the sums.
    pub splits: u32,
    /// Seconds of one run.
    pub secs: f64,
    /// 10⁹ floating-point operations a second.
    pub gflops: f64,
}

impl Tiles {
    /// The class that a product belongs to: kind of kernel, powers of two of its sizes, type of activations and
    /// of weights.
    ///
    /// # Errors
    /// When the product has more rows than can be addressed.
    pub fn class(gemm: &Gemm, element: Element) -> Result<String> {
        let kind = match (gemm.source.kernel, gemm.epilogue.geglu) {
            (1, true) => "geglu",
            (1, false) => "linear",
            _ => "conv",
        };
        let power = |n: u32| (f64::from(n.max(1))).log2().round() as u32;
        // The usual type goes without saying.
        let weight = match gemm.weight {
            WeightType::F16 => "",
            other => &format!(" {}", other.name()),
        };
        Ok(format!("{kind} m{} n{} k{} {element:?}{weight}", power(gemm.m()?), power(gemm.n), power(gemm.k())))
    }

    /// Every product and every attention multiplies in f16 where it can, products with as many added in f16 as there are tiles
    /// for: for comparing pictures, since nothing says that it is fast.
    #[must_use]
    pub fn in_f16() -> Self {
        Tiles(BTreeMap::from([(EVERY.into(), Choice { tile: "32x64 half/16".into(), splits: 1 })]))
    }

    fn choice(&self, class: &str) -> Option<&Choice> {
        self.0.get(class).or_else(|| self.0.get(EVERY))
    }

    /// The tile and the parts of the sums for a product.
    ///
    /// # Errors
    /// As [`Gemm::m`].
    pub fn choose(&self, gemm: &Gemm, machine: &Machine) -> Result<(Tile, u32)> {
        if let Some(choice) = self.choice(&Self::class(gemm, machine.element)?)
            && let Some(&tile) = TILES.iter().find(|tile| tile.name == choice.tile)
            && gemm.allows(tile, choice.splits, machine)
        {
            return Ok((tile, choice.splits));
        }
        gemm.default_plan(machine)
    }

    /// What the members of a class multiply in that have no tiles, such as attentions.
    #[must_use]
    pub fn multiply(&self, class: &str) -> Multiply {
        let is_f16 = self.choice(class).is_some_and(|choice| in_f16(&choice.tile));
        if is_f16 { Multiply::F16 } else { Multiply::F32 }
    }

    /// Whether such a class was measured.
    #[must_use]
    pub fn knows_class(&self, class: &str) -> bool {
        self.0.contains_key(class)
    }

    /// Whether a class was measured.
    ///
    /// # Errors
    /// As [`Tiles::class`].
    pub fn knows(&self, gemm: &Gemm, element: Element) -> Result<bool> {
        Ok(self.0.contains_key(&Self::class(gemm, element)?))
    }

    /// Keeps the fastest of one class's measurements; what multiplies in f16 only where it is faster by enough.
    pub fn learn(&mut self, measured: &[Measured]) {
        let cost = |one: &Measured| one.secs * if in_f16(one.tile) { F16_HANDICAP } else { 1.0 };
        if let Some(best) = measured.iter().min_by(|a, b| cost(a).total_cmp(&cost(b))) {
            let choice = Choice { tile: best.tile.to_string(), splits: best.splits };
            self.0.insert(best.class.clone(), choice);
        }
    }

    /// How many classes were measured.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sizes::{Epilogue, Source};
    use super::*;

    const F32: Machine = Machine::plain(Element::F32);

    #[test]
    fn the_fastest_is_chosen_for_its_class_alone() {
        let gemm = Gemm::new(Source::rows(2, 4096, 320), 320, Epilogue::default());
        let small = Gemm::new(Source::rows(2, 64, 320), 320, Epilogue::default());
        let mut tiles = Tiles::default();
        assert_eq!(tiles.choose(&gemm, &F32).unwrap(), gemm.default_plan(&F32).unwrap());
        let class = Tiles::class(&gemm, Element::F32).unwrap();
        let measured =
            |tile: Tile, secs| Measured { class: class.clone(), tile: tile.name, splits: 1, secs, gflops: 0.0 };
        tiles.learn(&[measured(TILES[0], 2.0), measured(TILES[4], 1.0), measured(TILES[1], 3.0)]);
        assert_eq!(tiles.choose(&gemm, &F32).unwrap(), (TILES[4], 1));
        assert_eq!(tiles.choose(&gemm, &Machine::plain(Element::F16)).unwrap(), gemm.default_plan(&F32).unwrap());
        assert_eq!(tiles.choose(&small, &F32).unwrap(), small.default_plan(&F32).unwrap());
        let text = serde_json::to_string(&tiles).unwrap();
        assert_eq!(serde_json::from_str::<Tiles>(&text).unwrap(), tiles);
    }

    #[test]
    fn products_in_f16_have_to_be_faster_by_enough() {
        let machine = Machine::plain(Element::F16);
        let gemm = Gemm::new(Source::rows(2, 4096, 320), 320, Epilogue::default());
        let class = Tiles::class(&gemm, Element::F16).unwrap();
        let halves = *TILES.iter().find(|tile| tile.multiplies_in_f16()).unwrap();
        let chosen = |class: &str, exact: &'static str, half: &'static str, secs: f64| {
            let one = |tile, secs| Measured { class: class.to_string(), tile, splits: 1, secs, gflops: 0.0 };
            let mut tiles = Tiles::default();
            tiles.learn(&[one(exact, 1.0), one(half, secs)]);
            tiles
        };
        for (secs, expected) in [(0.9, TILES[1]), (0.8, halves)] {
            let tiles = chosen(&class, TILES[1].name, halves.name, secs);
            assert_eq!(tiles.choose(&gemm, &machine).unwrap(), (expected, 1), "{secs} of the time");
        }
        for (secs, expected) in [(0.9, Multiply::F32), (0.8, Multiply::F16)] {
            assert_eq!(chosen("attention", IN_F32, IN_F16, secs).multiply("attention"), expected, "{secs} of the time");
        }
        // In f32, and with weights in f32, nothing multiplies in f16.
        let every = Tiles::in_f16();
        let wide = Gemm { weight: WeightType::F32, ..gemm };
        assert!(every.choose(&gemm, &machine).unwrap().0.multiplies_in_f16());
        assert!(!every.choose(&wide, &machine).unwrap().0.multiplies_in_f16());
        assert!(!every.choose(&gemm, &F32).unwrap().0.multiplies_in_f16());
    }

    #[test]
    fn a_tile_that_cannot_do_it_is_not_chosen() {
        let geglu = Gemm::new(Source::rows(1, 64, 320), 2560, Epilogue { geglu: true, ..Epilogue::default() });
        let class = Tiles::class(&geglu, Element::F32).unwrap();
        let mut tiles = Tiles::default();
        tiles.learn(&[Measured { class, tile: TILES[0].name, splits: 1, secs: 1.0, gflops: 0.0 }]);
        assert_eq!(tiles.choose(&geglu, &F32).unwrap(), geglu.default_plan(&F32).unwrap());
    }
}
