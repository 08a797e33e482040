//! `attention`: softmax(q kᵀ scale) v for each head, block of keys by block of keys, so that no more scores exist than a
//! workgroup holds (Dao et al. 2022, "FlashAttention", with the running maximum of Milakov and Gimelshein 2018).
//!
//! Serves heads of 40 as well as the VAE's single head of 512. Each invocation keeps its part of the results in registers,
//! which are enough for heads of 160; the results of wider heads are cut into slices that compute the same scores. Sums
//! and softmax are f32; products too, unless they are asked for in f16 ([`Multiply`]).

use super::attention_matrix;
use super::shared::IMPORTS;
use super::sizes::{Attention, Bindings, ByInvocations, ByMatrices, Params, SIDE};
use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Machine, Multiply, Width, count, refuse, spread};

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "attention",
    wgsl: include_str!("attention.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: IMPORTS,
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &["threads_x", "threads_y", "n_parts", "causal", "packed"],
    elements: Element::ALL,
    widths: Width::ALL,
};

/// With the invocations of a query in one subgroup.
pub const KERNEL_SUBGROUPS: Kernel =
    Kernel { name: "attention_subgroups", wgsl: include_str!("attention_subgroups.wgsl"), ..KERNEL };

/// With products in f16.
pub const KERNEL_HALF: Kernel =
    Kernel { name: "attention_half", wgsl: include_str!("attention_half.wgsl"), elements: &[Element::F16], ..KERNEL };

/// With both.
pub const KERNEL_HALF_SUBGROUPS: Kernel =
    Kernel { name: "attention_half_subgroups", wgsl: include_str!("attention_half_subgroups.wgsl"), ..KERNEL_HALF };

/// Attends. Where cooperative matrices do it, `multiply` has no say.
///
/// # Errors
/// [`crate::Error::Shape`] when a size is zero, rows are shorter than the heads, there are too many values to address, or
/// activations in f32 shall be multiplied in f16.
pub fn launch(attention: &Attention, machine: &Machine, multiply: Multiply) -> Result<Launch> {
    let Attention { batch, queries, keys, heads, head_size, scale, causal, strides, packed } = *attention;
    let fault = |reason: String| Err(refuse(KERNEL.name, reason));
    if keys == 0 || heads == 0 || head_size == 0 {
        return fault(format!("has a size of zero: {attention:?}"));
    }
    if multiply == Multiply::F16 && machine.element != Element::F16 {
        return fault("does not multiply values of f32 in f16".into());
    }
    let matrices = attention.matrices(machine);
    let by_invocations = attention.invocations(machine, multiply);
    let n_slices = if matrices.is_some() { 1 } else { by_invocations.n_slices };
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
        None => queries.div_ceil(by_invocations.queries()),
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
    let workgroups = spread(KERNEL.name, n_workgroups)?;
    if let Some(ByMatrices { subgroup_size, n_subgroups, two_halves, .. }) = matrices {
        let constants = [
            ("n_subgroups", f64::from(n_subgroups)),
            ("subgroup_size", f64::from(subgroup_size)),
            ("n_parts", f64::from(head_size.div_ceil(SIDE))),
            ("two_halves", switch(two_halves)),
        ];
        let constants = [&constants[..], &shared].concat();
        let kernel = &attention_matrix::KERNEL;
        return Ok(Launch::new(kernel, machine.element, Width::Four, &constants, &params, workgroups));
    }
    let ByInvocations { threads: [threads_x, threads_y], n_parts, in_subgroups, .. } = by_invocations;
    let kernel = match (multiply, in_subgroups) {
        (Multiply::F32, false) => &KERNEL,
        (Multiply::F32, true) => &KERNEL_SUBGROUPS,
        (Multiply::F16, false) => &KERNEL_HALF,
        (Multiply::F16, true) => &KERNEL_HALF_SUBGROUPS,
    };
    let constants = [("threads_x", threads_x), ("threads_y", threads_y), ("n_parts", n_parts)];
    let constants = [&constants.map(|(name, value)| (name, f64::from(value)))[..], &shared].concat();
    let width = Width::of(&[head_size, strides[0], strides[1], strides[2]]);
    Ok(Launch::new(kernel, machine.element, width, &constants, &params, workgroups))
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
            launch(&attention, &Machine::plain(Element::F32), Multiply::F32).unwrap().workgroups
        };
        assert_eq!(workgroups(40), [2, 1, 1]);
        assert_eq!(workgroups(160), [2, 1, 1]);
        assert_eq!(workgroups(512), [4, 1, 1]);
    }
}
