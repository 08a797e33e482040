//! How the work of a matrix product is cut: the tiles, and which machine can use which.

use crate::run::gpu::kernel::{Element, Machine, Multiply};

/// Channels of one step of the sum. Steps never cross a tap of the kernel or a source.
pub const TILE_K: u32 = 16;

/// Channels of one step with cooperative matrices, and the most vectors of eight that an invocation brings in it.
const MATRIX_TILE_K: u32 = 32;
const MAX_MATRIX_LOADS: u32 = 8;

/// How the work is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// For files and tables: rows x columns.
    pub name: &'static str,
    /// What a workgroup has.
    pub work: Work,
}

/// What multiplies in a workgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Each of `threads` invocations, along the columns and along the rows, has `rows` rows, at most 8, and `quads` groups of
    /// four columns, 1 or 2. GEGLU needs 2, a value and its gate.
    Invocations {
        /// Along the columns and along the rows.
        threads: [u32; 2],
        /// Rows of one.
        rows: u32,
        /// Groups of four columns of one.
        quads: u32,
        /// What they multiply in.
        multiply: Multiply,
        /// Products that are added in what they are multiplied in, before their sum is added in f32: 4, 8 or 16.
        added: u32,
    },
    /// Each of `subgroups`, along the rows and along the columns, has `matrices` of `side` x `side`, at most 4x4: for adapters
    /// whose [`Matrices`](crate::run::gpu::Matrices) have that side.
    Matrices {
        /// Rows and columns of one matrix.
        side: u32,
        /// Along the rows and along the columns.
        subgroups: [u32; 2],
        /// Of one subgroup, along the rows and along the columns.
        matrices: [u32; 2],
        /// Whether the values of the next step have workgroup memory of their own.
        two_halves: bool,
    },
}

impl Tile {
    /// Rows of the tile.
    #[must_use]
    pub const fn m(self) -> u32 {
        match self.work {
            Work::Invocations { threads, rows, .. } => threads[1] * rows,
            Work::Matrices { side, subgroups, matrices, .. } => subgroups[0] * matrices[0] * side,
        }
    }

    /// Columns of the tile.
    #[must_use]
    pub const fn n(self) -> u32 {
        match self.work {
            Work::Invocations { threads, quads, .. } => threads[0] * quads * 4,
            Work::Matrices { side, subgroups, matrices, .. } => subgroups[1] * matrices[1] * side,
        }
    }

    /// Channels of one step of the sum.
    pub(super) const fn k(self) -> u32 {
        match self.work {
            Work::Invocations { .. } => TILE_K,
            Work::Matrices { .. } => MATRIX_TILE_K,
        }
    }

    /// Whether cooperative matrices multiply.
    #[must_use]
    pub const fn is_of_matrices(self) -> bool {
        matches!(self.work, Work::Matrices { .. })
    }

    /// Whether products are rounded to f16.
    #[must_use]
    pub const fn multiplies_in_f16(self) -> bool {
        matches!(self.work, Work::Invocations { multiply: Multiply::F16, .. })
    }

    /// Whether a value and its gate are in the hands of one invocation.
    pub(super) const fn can_geglu(self) -> bool {
        !matches!(self.work, Work::Invocations { quads: 1, .. })
    }

    /// Whether the invocations of a workgroup bring the same number of A's and of W's vectors of four in each step.
    pub(super) const fn shares_evenly(self) -> bool {
        let Work::Invocations { threads, .. } = self.work else { return false };
        let n_threads = threads[0] * threads[1];
        (self.m() * TILE_K / 4).is_multiple_of(n_threads) && (TILE_K * self.n() / 4).is_multiple_of(n_threads)
    }

    /// Whether a machine can multiply this way.
    pub(super) fn suits(self, machine: &Machine) -> bool {
        let Work::Matrices { side, subgroups, two_halves, .. } = self.work else {
            return !self.multiplies_in_f16() || machine.element == Element::F16;
        };
        let Some(has) = machine.matrices else { return false };
        let n_subgroups = subgroups[0] * subgroups[1];
        let n_threads = n_subgroups * has.subgroup_size;
        let vectors = MATRIX_TILE_K / 8;
        let steps = (1 + u32::from(two_halves)) * (self.m() * (vectors + 1) + MATRIX_TILE_K * (self.n() / 8 + 1)) * 16;
        let sums = n_subgroups * side * side * 4;
        machine.element == Element::F16
            && has.side == side
            && n_threads <= 256
            && (self.m() * vectors).max(MATRIX_TILE_K * self.n() / 8).div_ceil(n_threads) <= MAX_MATRIX_LOADS
            && steps + sums <= machine.workgroup_bytes
    }
}

const fn invocations(name: &'static str, threads: [u32; 2], rows: u32, quads: u32) -> Tile {
    Tile { name, work: Work::Invocations { threads, rows, quads, multiply: Multiply::F32, added: TILE_K } }
}

const fn halves(name: &'static str, threads: [u32; 2], rows: u32, quads: u32, added: u32) -> Tile {
    Tile { name, work: Work::Invocations { threads, rows, quads, multiply: Multiply::F16, added } }
}

const fn matrices(name: &'static str, side: u32, subgroups: [u32; 2], matrices: [u32; 2]) -> Tile {
    Tile { name, work: Work::Matrices { side, subgroups, matrices, two_halves: true } }
}

const fn large_matrices(name: &'static str, side: u32, subgroups: [u32; 2], matrices: [u32; 2]) -> Tile {
    Tile { name, work: Work::Matrices { side, subgroups, matrices, two_halves: false } }
}

/// The tiles to choose from. The first six suit any matrix, the next those with very few columns, the eighth those with very few
/// rows, such as a time embedding's. Behind them are three for GPUs with many registers, those of cooperative
/// matrices, and those that multiply in f16.
pub const TILES: &[Tile] = &[
    invocations("32x32", [8, 8], 4, 1),
    invocations("32x64", [8, 8], 4, 2),
    invocations("64x64", [8, 8], 8, 2),
    invocations("64x64/256", [16, 16], 4, 1),
    invocations("128x64", [8, 16], 8, 2),
    invocations("16x64", [8, 8], 2, 2),
    invocations("64x8", [2, 32], 2, 1),
    invocations("4x128", [16, 4], 1, 2),
    invocations("64x128/256", [16, 16], 4, 2),
    invocations("128x64/256", [16, 16], 8, 1),
    invocations("64x128", [16, 8], 8, 2),
    matrices("matrix 128x128", 16, [2, 4], [4, 2]),
    large_matrices("matrix 128x128/4", 16, [2, 2], [4, 4]),
    large_matrices("matrix 128x256", 16, [2, 4], [4, 4]),
    large_matrices("matrix 256x128", 16, [4, 2], [4, 4]),
    matrices("matrix 128x64", 16, [2, 2], [4, 2]),
    matrices("matrix 64x128", 16, [2, 2], [2, 4]),
    matrices("matrix 64x64", 16, [2, 2], [2, 2]),
    matrices("matrix 32x64", 16, [1, 2], [2, 2]),
    matrices("matrix/8 64x64", 8, [2, 2], [4, 4]),
    matrices("matrix/8 32x64", 8, [2, 2], [2, 4]),
    matrices("matrix/8 32x32", 8, [2, 2], [2, 2]),
    halves("32x64 half/4", [8, 8], 4, 2, 4),
    halves("64x64 half/4", [8, 8], 8, 2, 4),
    halves("64x128/256 half/4", [16, 16], 4, 2, 4),
    halves("32x64 half/16", [8, 8], 4, 2, 16),
    halves("64x64 half/16", [8, 8], 8, 2, 16),
    halves("64x128/256 half/16", [16, 16], 4, 2, 16),
];
