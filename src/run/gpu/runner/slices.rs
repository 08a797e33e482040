//! How a matrix is cut into slices of outputs on its way from a checkpoint to its packed place, and what lies where in the room
//! for one slice.
//!
//! A plain slice lies alone in that room. With low-rank terms four operands lie there: the right factor, which all slices of a
//! tensor share, the left one, the pristine values, and the sums, which are packed.

use std::ops::Range as Span;

use super::super::arena::ALIGNMENT;
use super::super::buffer::{Buffer, Range};
use super::super::kernel::{Launch, UNUSED_BYTES};
use super::super::kernels::products::add_low_rank::{self, AddLowRank};
use super::super::kernels::products::repack::{self, Raw, Repack};
use super::super::weight_layout::{WeightBuffer, WeightLayout};
use super::load::PIECE_BYTES;
use crate::error::Result;
use crate::graph::WeightSpec;
use crate::weights::{Dtype, WeightType, Weights};

/// Some outputs of a tensor on their way into a packed matrix.
pub(super) struct Slice {
    /// The first value of the tensor, and how many.
    pub first: u64,
    pub n_values: u64,
    /// What packs them.
    pub repack: Repack,
    /// What is added to them before.
    pub added: Option<Added>,
    /// The type of the values where nothing is added on the device.
    alone: Raw,
}

/// Low-rank terms of a slice, with the offsets of the operands in the room for it.
pub(super) struct Added {
    pub add: AddLowRank,
    pub right: u64,
    pub left: u64,
    pub base: u64,
    sums: u64,
    /// The end of the last.
    end: u64,
}

impl Added {
    /// Operands one behind the other.
    fn place(add: AddLowRank) -> Self {
        let [base_bytes, left_bytes, right_bytes, sums_bytes] = add.operand_bytes();
        let behind = |at: u64, n_bytes: u64| (at + n_bytes.max(UNUSED_BYTES)).next_multiple_of(ALIGNMENT);
        let left = behind(0, right_bytes);
        let base = behind(left, left_bytes);
        let sums = behind(base, base_bytes);
        Added { add, right: 0, left, base, sums, end: sums + sums_bytes.max(UNUSED_BYTES) }
    }

    /// Where the operands are, in the order of the kernel's bindings.
    pub fn ranges<'a>(&self, raw: &'a Buffer) -> [Range<'a>; 4] {
        let [base, left, right, sums] = self.add.operand_bytes();
        let places = [(self.base, base), (self.left, left), (self.right, right), (self.sums, sums)];
        places.map(|(offset, n_bytes)| Range { buffer: raw, offset, n_bytes: n_bytes.max(UNUSED_BYTES) })
    }
}

impl Slice {
    /// Bytes of the room that it takes.
    pub fn n_bytes(&self) -> u64 {
        let plain = self.alone.bytes_of(self.n_values);
        self.added.as_ref().map_or(plain, |added| added.end)
    }

    /// The outputs.
    pub fn outputs(&self) -> Span<usize> {
        let [first, n] = self.repack.slice.map(|outputs| outputs as usize);
        first..first + n
    }

    /// The same outputs as sums that are uploaded, which lie alone in the room: never more bytes than with terms.
    pub fn without_terms(&self) -> Slice {
        let repack = Repack { raw: self.alone, ..self.repack };
        Slice { repack, added: None, ..*self }
    }

    /// What runs for it.
    pub fn launches(&self) -> Result<Vec<Launch>> {
        let add = self.added.iter().map(|added| add_low_rank::launch(&added.add));
        add.chain([repack::launch(&self.repack)]).collect()
    }
}

/// The type that a tensor is uploaded in before it is packed. Blocks of quantised numbers go as they are where they lie along
/// the inputs.
fn raw_for(packed: WeightType, part: &WeightSpec, stored: Option<&Dtype>, weights: &Weights) -> Raw {
    match packed {
        WeightType::F16 => Raw::F16,
        WeightType::F32 => Raw::F32,
        WeightType::Q8_0 | WeightType::Q4_0 => {
            let blocks = weights.blocks_along_inputs(part).and_then(Raw::of_blocks);
            // What is quantised is not rounded before.
            blocks.unwrap_or(if stored == Some(&Dtype::F16) { Raw::F16 } else { Raw::F32 })
        }
    }
}

/// Outputs of a slice where each takes so many bytes: whole fours, at least one.
fn most_outputs(of_output: u64, room: u64) -> u32 {
    (room / of_output.max(1) / 4 * 4).max(4) as u32
}

/// Bytes of the largest slice of a buffer's tensors where no low-rank terms are added to them: what loading takes without
/// adapters of that kind.
pub(super) fn least_raw_bytes(wanted: &WeightBuffer, weights: &Weights) -> u64 {
    let WeightLayout::Packed { weight_type, .. } = wanted.layout() else { return 0 };
    let of_part = |part: &WeightSpec| {
        let low_rank = weights.low_rank(&part.name).map(|low_rank| low_rank.base());
        let stored = low_rank.or_else(|| weights.get(&part.name)).map(|info| info.dtype);
        let of_output = part.shape[1..].iter().product::<usize>() as u64;
        let of_output = raw_for(weight_type, part, stored, weights).bytes_of(of_output);
        u64::from(most_outputs(of_output, PIECE_BYTES)).min(part.shape[0] as u64) * of_output
    };
    wanted.parts.iter().map(of_part).max().unwrap_or(0)
}

/// The most outputs of a slice with low-rank terms that fit the room; `None` where not even a few do.
fn most_with_terms(add: AddLowRank, room: u64) -> Option<u32> {
    let bytes = |rows: u32| Added::place(AddLowRank { rows, ..add }).end;
    if bytes(add.rows) <= room {
        return Some(add.rows);
    }
    // Bytes grow with the rows.
    let (mut fits, mut does_not) = (0, add.rows.div_ceil(4));
    while fits + 1 < does_not {
        let fours = u32::midpoint(fits, does_not);
        if bytes(fours * 4) <= room { fits = fours } else { does_not = fours }
    }
    (fits > 0).then_some(fits * 4)
}

/// The slices in which the tensors of a buffer are packed, by tensor; none where they lie as in the checkpoint. What is added
/// on the device fits `room` bytes, and is added before where it does not.
pub(super) fn slices(wanted: &WeightBuffer, weights: &Weights, room: u64) -> Vec<Vec<Slice>> {
    let WeightLayout::Packed { geglu, weight_type } = wanted.layout() else { return Vec::new() };
    let columns = wanted.parts.iter().map(|part| part.shape[0] as u32).sum();
    let mut first_column = 0;
    let mut all = Vec::with_capacity(wanted.parts.len());
    for part in &wanted.parts {
        let (outputs, inputs) = (part.shape[0] as u32, part.shape[1] as u32);
        let taps = part.shape[2..].iter().product::<usize>() as u32;
        let raw = raw_for(weight_type, part, weights.get(&part.name).map(|info| info.dtype), weights);
        let of_output = u64::from(inputs) * u64::from(taps);
        let low_rank = weights.low_rank(&part.name).and_then(|low_rank| {
            let base = if *low_rank.base().dtype == Dtype::F16 { Raw::F16 } else { Raw::F32 };
            let add = AddLowRank { rows: outputs, cols: inputs * taps, rank: low_rank.rank() as u32, base };
            Some((add, most_with_terms(add, room.min(PIECE_BYTES))?))
        });
        let most = match low_rank {
            Some((_, most)) => most,
            None => most_outputs(raw.bytes_of(of_output), PIECE_BYTES),
        };
        let starts = (0..outputs).step_by(most as usize);
        let slice = |first: u32| {
            let n = most.min(outputs - first);
            let added = low_rank.map(|(add, _)| Added::place(AddLowRank { rows: n, ..add }));
            let before = if added.is_some() { Raw::F32 } else { raw };
            let alone = Repack::alone(outputs, inputs, taps, geglu, before);
            let repack = Repack { packed: weight_type, first_column, columns, slice: [first, n], ..alone };
            let (first, n_values) = (u64::from(first) * of_output, u64::from(n) * of_output);
            Slice { first, n_values, repack, added, alone: raw }
        };
        all.push(starts.map(slice).collect());
        first_column += outputs;
    }
    all
}
