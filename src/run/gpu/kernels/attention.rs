//! `attention`: softmax(q kᵀ scale) v for each head, block of keys by block of keys, so that no more scores exist than a
//! workgroup holds (Dao et al. 2022, "FlashAttention", with the running maximum of Milakov and Gimelshein 2018).
//!
//! Serves heads of 40 as well as the VAE's single head of 512. Each invocation keeps its part of the results in registers,
//! which are enough for heads of 160; the results of wider heads are cut into slices that compute the same scores. Scores
//! and softmax are f32.

use super::gemm::{Machine, Matrices};
use super::{Binding, Element, Kernel, Launch, Width, count, refuse};
use crate::Result;

/// The kernel's entry in the table.
///
/// Bindings after the parameters: 1. q, rows of [`Attention::strides`]\[0\]; 2. k; 3. v, both unused when packed; 4. out,
/// \[B,T,heads·head_size\].
pub const KERNEL: Kernel = Kernel {
    name: "attention",
    wgsl: include_str!("attention.wgsl"),
    bindings: &[Binding::Uniform, Binding::ReadWrite, Binding::ReadWrite, Binding::ReadWrite, Binding::ReadWrite],
    params_bytes: PARAMS_BYTES,
    params_fields: PARAMS_FIELDS,
    constants: &["n_parts", "causal", "packed"],
    elements: Element::ALL,
    widths: Width::ALL,
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        n_queries: u32,
        n_keys: u32,
        heads: u32,
        head_size: u32,
        q_stride: u32,
        k_stride: u32,
        v_stride: u32,
        out_stride: u32,
        n_query_blocks: u32,
        n_workgroups: u32,
        scale_log2: f32,
        n_slices: u32,
        k_offset: u32,
        v_offset: u32,
        padding_0: u32,
        padding_1: u32,
    }
}

/// What [`super::attention_matrix`] needs to know of the parameters, which are the same.
pub(super) const PARAMS_BYTES: usize = size_of::<Params>();
pub(super) const PARAMS_FIELDS: &[(&str, usize)] = Params::FIELDS;

/// Columns of a head that a workgroup covers at once: eight invocations, four each.
const PART: u32 = 32;
/// Parts of a slice at most: 20 vectors of four in each invocation.
const MAX_PARTS: u32 = 5;
/// Queries of a workgroup.
const QUERIES: u32 = 32;

/// The most subgroups of a workgroup with cooperative matrices, the side of one, and the most parts of a head that a
/// subgroup has.
const MAX_SUBGROUPS: u32 = 8;
const SIDE: u32 = 16;
const MAX_MATRIX_PARTS: u32 = 10;

/// One attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Batch items B.
    pub batch: u32,
    /// Queries T.
    pub queries: u32,
    /// Keys S, at least 1.
    pub keys: u32,
    /// Heads.
    pub heads: u32,
    /// Columns of one head.
    pub head_size: u32,
    /// Scores are multiplied by it.
    pub scale: f32,
    /// Whether later keys are hidden.
    pub causal: bool,
    /// Elements from one row of q, k and v to the next: `heads * head_size` where rows hold nothing else.
    pub strides: [u32; 3],
    /// Whether the rows of one tensor hold q, k and v, one behind the other.
    pub packed: bool,
}

impl Attention {
    /// q, k and v lie without gaps.
    #[must_use]
    pub fn dense(batch: u32, queries: u32, keys: u32, heads: u32, head_size: u32, scale: f32, causal: bool) -> Self {
        Self { batch, queries, keys, heads, head_size, scale, causal, strides: [heads * head_size; 3], packed: false }
    }

    /// q, k and v lie one behind the other in the rows of one tensor.
    #[must_use]
    pub fn packed(self) -> Self {
        Self { strides: [3 * self.heads * self.head_size; 3], packed: true, ..self }
    }
}

/// How cooperative matrices attend.
#[derive(Clone, Copy)]
struct ByMatrices {
    subgroup_size: u32,
    n_subgroups: u32,
    /// Whether the next keys and values have a room of their own.
    two_halves: bool,
}

impl Attention {
    /// How the machine's cooperative matrices do it, if they can.
    fn matrices(&self, machine: &Machine) -> Option<ByMatrices> {
        let Attention { head_size, strides, .. } = *self;
        let Matrices { side, subgroup_size } = machine.matrices?;
        let in_eights = [head_size, strides[0], strides[1], strides[2]].iter().all(|size| size.is_multiple_of(8));
        let parts = head_size.div_ceil(SIDE);
        let can = machine.element == Element::F16
            && side == SIDE
            && (8..=64).contains(&subgroup_size)
            && in_eights
            && parts <= MAX_MATRIX_PARTS;
        // Eight subgroups of 16 queries each were the fastest on an H200, before four of 32.
        let n_subgroups = MAX_SUBGROUPS.min(256 / subgroup_size);
        let fits = |by: &ByMatrices| {
            let tiles = 2 * (1 + u32::from(by.two_halves)) * 32 * (2 * parts + 1) * 16;
            let of_a_query = 9 * 16 + 10 * 8;
            tiles + by.n_subgroups * SIDE * of_a_query <= machine.workgroup_bytes
        };
        let by = |n_subgroups, two_halves| ByMatrices { subgroup_size, n_subgroups, two_halves };
        let ways =
            [by(n_subgroups, true), by(n_subgroups, false), by(n_subgroups / 2, true), by(n_subgroups / 2, false)];
        ways.into_iter().find(fits).filter(|_| can)
    }
}

/// Attends.
///
/// # Errors
/// [`crate::Error::Shape`] when a size is zero, rows are shorter than the heads, or there are too many values to address.
pub fn launch(attention: &Attention, machine: &Machine) -> Result<Launch> {
    let Attention { batch, queries, keys, heads, head_size, scale, causal, strides, packed } = *attention;
    let fault = |reason: String| Err(refuse(KERNEL.name, reason));
    if keys == 0 || heads == 0 || head_size == 0 {
        return fault(format!("has a size of zero: {attention:?}"));
    }
    let matrices = attention.matrices(machine);
    let n_slices = if matrices.is_some() { 1 } else { head_size.div_ceil(PART).div_ceil(MAX_PARTS) };
    // Slices of equal width, rather than full ones and a rest.
    let n_parts = head_size.div_ceil(PART).div_ceil(n_slices);
    let width_of_heads = count(KERNEL.name, &[heads, head_size])?;
    if strides.iter().any(|stride| *stride < width_of_heads) {
        return fault(format!("has rows of {strides:?} elements, shorter than {heads} heads of {head_size}"));
    }
    if packed && (queries != keys || strides.iter().any(|stride| *stride < 3 * width_of_heads)) {
        return fault(format!("cannot read queries, keys and values from the same rows: {attention:?}"));
    }
    count(KERNEL.name, &[batch, queries, strides[0]])?;
    count(KERNEL.name, &[batch, keys, strides[1].max(strides[2])])?;
    let n_query_blocks = match matrices {
        Some(by) => queries.div_ceil(by.n_subgroups * SIDE),
        None => queries.div_ceil(QUERIES),
    };
    let n_workgroups = count(KERNEL.name, &[batch, heads, n_query_blocks, n_slices])?;
    let params = Params {
        n_queries: queries,
        n_keys: keys,
        heads,
        head_size,
        q_stride: strides[0],
        k_stride: strides[1],
        v_stride: strides[2],
        out_stride: width_of_heads,
        n_query_blocks,
        n_workgroups,
        scale_log2: scale * std::f32::consts::LOG2_E,
        n_slices,
        k_offset: if packed { width_of_heads } else { 0 },
        v_offset: if packed { 2 * width_of_heads } else { 0 },
        padding_0: 0,
        padding_1: 0,
    };
    let switch = |on| f64::from(u8::from(on));
    let shared = [("causal", switch(causal)), ("packed", switch(packed))];
    let workgroups = super::spread(KERNEL.name, n_workgroups)?;
    if let Some(ByMatrices { subgroup_size, n_subgroups, two_halves, .. }) = matrices {
        let constants = [
            ("n_subgroups", f64::from(n_subgroups)),
            ("subgroup_size", f64::from(subgroup_size)),
            ("n_parts", f64::from(head_size.div_ceil(SIDE))),
            ("two_halves", switch(two_halves)),
        ];
        let constants = [&constants[..], &shared].concat();
        let kernel = &super::attention_matrix::KERNEL;
        return Ok(Launch::new(kernel, machine.element, Width::Four, &constants, &params, workgroups));
    }
    let constants = [&[("n_parts", f64::from(n_parts))], &shared[..]].concat();
    let width = Width::of(&[head_size, strides[0], strides[1], strides[2]]);
    Ok(Launch::new(&KERNEL, machine.element, width, &constants, &params, workgroups))
}

/// The same in plain Rust, one query at a time, in f64. Packed operands are given three times, k and v from their first
/// element on.
#[must_use]
pub fn reference(attention: &Attention, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
    let Attention { batch, queries, keys, heads, head_size, scale, causal, strides, .. } = *attention;
    let [batch, queries, keys, heads, size] = [batch, queries, keys, heads, head_size].map(|n| n as usize);
    let [q_stride, k_stride, v_stride] = strides.map(|n| n as usize);
    let mut out = Vec::with_capacity(batch * queries * heads * size);
    for b in 0..batch {
        for query in 0..queries {
            for head in 0..heads {
                let row = |x: &'_ [f32], row: usize, stride: usize| -> Vec<f64> {
                    let at = row * stride + head * size;
                    x[at..at + size].iter().map(|value| f64::from(*value)).collect()
                };
                let q = row(q, b * queries + query, q_stride);
                let n_seen = if causal { keys.min(query + 1) } else { keys };
                let scores: Vec<f64> = (0..n_seen)
                    .map(|key| {
                        let k = row(k, b * keys + key, k_stride);
                        f64::from(scale) * q.iter().zip(&k).map(|(q, k)| q * k).sum::<f64>()
                    })
                    .collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
                let total: f64 = weights.iter().sum();
                let mut sums = vec![0.0; size];
                for (key, weight) in weights.iter().enumerate() {
                    let v = row(v, b * keys + key, v_stride);
                    sums.iter_mut().zip(&v).for_each(|(sum, v)| *sum += weight / total * v);
                }
                out.extend(sums.iter().map(|sum| *sum as f32));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_weighs_the_values_by_similarity() {
        let one = Attention::dense(1, 2, 2, 1, 1, 1.0, false);
        let even = reference(&one, &[0.0, 0.0], &[5.0, -5.0], &[1.0, 3.0]);
        assert_eq!(even, [2.0, 2.0]);
        let causal = Attention { causal: true, ..one };
        assert_eq!(reference(&causal, &[0.0, 0.0], &[5.0, -5.0], &[1.0, 3.0]), [1.0, 2.0]);
    }

    #[test]
    fn wide_heads_are_cut_into_slices() {
        let workgroups = |head_size| {
            let attention = Attention::dense(1, 64, 64, 1, head_size, 1.0, false);
            launch(&attention, &Machine::plain(Element::F32)).unwrap().workgroups
        };
        assert_eq!(workgroups(40), [2, 1, 1]);
        assert_eq!(workgroups(160), [2, 1, 1]);
        assert_eq!(workgroups(512), [8, 1, 1]);
    }
}
