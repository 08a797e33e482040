//! `group_norm`: group normalisation of small pictures in one dispatch, and the formula of all kernels of the family.

use super::shared::IMPORTS;
use super::sizes::{GroupNorm, Params, Sums, launch_of};
use crate::Result;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, bindings};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// \[B,H,W,C0\].
        source_0: ReadWrite T,
        /// \[B,H,W,C1\]; `None` when C1 is 0.
        source_1: ReadWrite Option<T>,
        /// f32 \[C0+C1\].
        weight: Read T,
        /// f32 \[C0+C1\].
        bias: Read T,
        /// \[B,H,W,C0+C1\].
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "group_norm",
    wgsl: include_str!("group_norm.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: IMPORTS,
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &["with_silu"],
    elements: Element::ALL,
    widths: Width::ALL,
};

/// Normalises in one dispatch.
///
/// # Errors
/// As [`GroupNorm::n_chunks`].
pub fn launch(norm: &GroupNorm, element: Element, silu: bool) -> Result<Launch> {
    let constants = [("with_silu", f64::from(u8::from(silu)))];
    launch_of(&KERNEL, norm, None, element, norm.whole_cut()?, &constants, Sums::default())
}

/// Group normalisation in plain Rust, of the concatenated input \[B, pixels, C\], with silu behind it if asked for.
/// Statistics are f64 and in two passes.
#[must_use]
pub fn reference(norm: &GroupNorm, x: &[f32], weight: &[f32], bias: &[f32], silu: bool) -> Vec<f32> {
    let channels = weight.len();
    let group_channels = channels / norm.groups as usize;
    let pixels = norm.pixels as usize;
    let mut out = vec![0.0; x.len()];
    for b in 0..norm.batch as usize {
        for group in 0..norm.groups as usize {
            let indices = (0..pixels).flat_map(|pixel| {
                let first = (b * pixels + pixel) * channels + group * group_channels;
                first..first + group_channels
            });
            let n_values = (pixels * group_channels) as f64;
            let mean = indices.clone().map(|i| f64::from(x[i])).sum::<f64>() / n_values;
            let variance = indices.clone().map(|i| (f64::from(x[i]) - mean).powi(2)).sum::<f64>() / n_values;
            let inverse = (variance + f64::from(norm.eps)).sqrt().recip();
            for i in indices {
                let c = i % channels;
                let y = (f64::from(x[i]) - mean) * inverse * f64::from(weight[c]) + f64::from(bias[c]);
                out[i] = (if silu { y / (1.0 + (-y).exp()) } else { y }) as f32;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_gives_mean_zero_and_variance_one() {
        let norm = GroupNorm { batch: 2, pixels: 4, channels: [4, 0], groups: 2, eps: 1e-5 };
        let x: Vec<f32> = (0..32).map(|i| 1e4 + (i * 7 % 11) as f32).collect();
        let y = reference(&norm, &x, &[1.0; 4], &[0.0; 4], false);
        let group: Vec<f32> = y.chunks(4).take(4).flat_map(|pixel| pixel[..2].to_vec()).collect();
        assert!(group.iter().sum::<f32>().abs() < 1e-5);
        assert!((group.iter().map(|v| v * v).sum::<f32>() - 8.0).abs() < 1e-3);
    }
}
