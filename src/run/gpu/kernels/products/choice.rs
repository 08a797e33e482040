//! The default tile of a product where nothing was measured, and the tiles that it allows.

use super::sizes::Gemm;
use super::tile::{TILES, Tile};
use crate::Result;
use crate::run::gpu::kernel::Machine;
use crate::weights::WeightType;

/// The defaults for many rows, for fewer, for few and for very few; and those for columns that fill half of these, and for few.
const TILE_LARGE: Tile = TILES[2];
const TILE_SMALL: Tile = TILES[1];
const TILE_HALF: Tile = TILES[0];
const TILE_FLAT: Tile = TILES[5];
const TILE_ROW: Tile = TILES[7];
const TILE_NARROW: Tile = TILES[6];

/// The same with cooperative matrices, the largest first.
const TILES_OF_MATRICES: &[Tile] = &[TILES[11], TILES[15], TILES[17], TILES[19], TILES[21]];

/// Workgroups below which a GPU is not filled, so that the sum is split.
const ENOUGH_GROUPS: u32 = 256;
/// The same for tiles of cooperative matrices, which are larger.
const ENOUGH_GROUPS_OF_MATRICES: u32 = 128;
/// Steps that a part of a sum has at least. Those that cutting saves have to take longer than the dispatch that adds the
/// parts, which is some microseconds; a step is about half a microsecond.
const MIN_STEPS_OF_A_PART: u32 = 16;
/// The most parts of a sum.
const MAX_SPLITS: u32 = 16;

impl Gemm {
    /// A tile and a number of splits that are never bad: large tiles where there is enough work to fill a GPU, small ones
    /// and split sums where there is not.
    ///
    /// # Errors
    /// As [`Gemm::m`].
    pub fn default_plan(&self, machine: &Machine) -> Result<(Tile, u32)> {
        let m = self.m()?;
        if self.n <= 8 && !self.epilogue.geglu {
            return Ok((TILE_NARROW, 1));
        }
        let groups = |tile: Tile| u64::from(m.div_ceil(tile.m())) * u64::from(self.n.div_ceil(tile.n()));
        let mut of_matrices = TILES_OF_MATRICES.iter().filter(|&&tile| self.allows(tile, 1, machine)).copied();
        let tile = if m <= TILE_ROW.m() {
            TILE_ROW
        } else if m <= TILE_FLAT.m() {
            TILE_FLAT
        } else if let Some(largest) = of_matrices.next() {
            // The smallest of them where none fills the device.
            let filling = |tile: &Tile| groups(*tile) >= u64::from(ENOUGH_GROUPS_OF_MATRICES);
            if filling(&largest) {
                largest
            } else {
                let rest: Vec<Tile> = of_matrices.collect();
                rest.iter().find(|tile| filling(tile)).or(rest.last()).copied().unwrap_or(largest)
            }
        } else if self.n <= TILE_HALF.n() && !self.epilogue.geglu {
            TILE_HALF
        } else if groups(TILE_LARGE) >= u64::from(ENOUGH_GROUPS) {
            TILE_LARGE
        } else {
            TILE_SMALL
        };
        let enough = if tile.is_of_matrices() { ENOUGH_GROUPS_OF_MATRICES } else { ENOUGH_GROUPS };
        let lacking = u64::from(enough) / groups(tile).max(1);
        let splits = (lacking as u32).min(self.k_tiles(tile) / MIN_STEPS_OF_A_PART).clamp(1, MAX_SPLITS);
        Ok((tile, splits))
    }

    /// Whether a tile and a number of parts can compute the product on a machine.
    #[must_use]
    pub fn allows(&self, tile: Tile, splits: u32, machine: &Machine) -> bool {
        (!self.epilogue.geglu || tile.can_geglu())
            && (tile != TILE_NARROW || self.n <= 8)
            // Of any number of rows it would read the weight again and again.
            && (tile != TILE_ROW || self.m().is_ok_and(|m| m <= TILE_FLAT.m()))
            && (!tile.is_of_matrices() || self.is_in_eights())
            && (!tile.multiplies_in_f16() || self.weight != WeightType::F32)
            && tile.suits(machine)
            && splits >= 1
            && splits <= MAX_SPLITS.min(self.k_tiles(tile))
    }
}

#[cfg(test)]
mod tests {
    use super::super::gemm::launch;
    use super::super::sizes::{Epilogue, Source};
    use super::*;
    use crate::run::gpu::kernel::Element;

    const MACHINE: Machine = Machine::plain(Element::F32);

    #[test]
    fn plans_fill_the_device_and_fit_the_sum() {
        let conv = |batch, side, channels, n| {
            let source = Source {
                in_size: [side, side],
                out_size: [side, side],
                channels: [channels, 0],
                kernel: 3,
                pad: [1, 1],
                ..Source::rows(batch, 1, 1)
            };
            Gemm::new(source, n, Epilogue::default())
        };
        assert_eq!(conv(2, 64, 320, 320).default_plan(&MACHINE).unwrap(), (TILE_LARGE, 1));
        let (tile, splits) = conv(2, 8, 1280, 1280).default_plan(&MACHINE).unwrap();
        assert_eq!(tile, TILE_SMALL);
        assert!(splits > 1, "80 workgroups leave a GPU idle");
        // As many columns as half a tile has, and fewer: whole ones would multiply zeros for the rest.
        for n in [32, 16, 9] {
            assert_eq!(conv(1, 128, 16, n).default_plan(&MACHINE).unwrap().0, TILE_HALF, "{n} columns");
        }
        assert_eq!(conv(1, 128, 16, 33).default_plan(&MACHINE).unwrap().0, TILE_LARGE);
        let gated = Gemm::new(Source::rows(1, 64, 16), 32, Epilogue { geglu: true, ..Epilogue::default() });
        assert_eq!(gated.default_plan(&MACHINE).unwrap().0, TILE_SMALL, "a value and its gate are in one invocation");
        let vector = Gemm::new(Source::rows(2, 1, 320), 1280, Epilogue::default());
        assert_eq!(vector.default_plan(&MACHINE).unwrap().0, TILE_ROW);
        let rows = Gemm::new(Source::rows(2, 4, 320), 1280, Epilogue::default());
        assert_eq!(rows.default_plan(&MACHINE).unwrap().0, TILE_FLAT);
        for gemm in [conv(1, 1, 1, 1), conv(1, 8, 4, 4), vector] {
            let (tile, splits) = gemm.default_plan(&MACHINE).unwrap();
            launch(&gemm, &MACHINE, tile, splits).unwrap();
        }
    }
}
