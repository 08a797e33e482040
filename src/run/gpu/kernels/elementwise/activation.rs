//! `activation`: one of the non-linearities, elementwise, where no matrix product is near to take it along.

use crate::Result;
use crate::graph::Activation;
use crate::run::gpu::kernel::{Bind, Element, Kernel, Launch, Width, activation_code, bindings, params, spread_cells};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// \[n_values\].
        x: ReadWrite T,
        /// Of the same size.
        out: ReadWrite T,
    }
}

/// The kernel's entry in the table.
pub const KERNEL: Kernel = Kernel {
    name: "activation",
    wgsl: include_str!("activation.wgsl"),
    bindings: Bindings::<()>::BINDINGS,
    imports: &[],
    params_bytes: size_of::<Params>(),
    params_fields: Params::FIELDS,
    constants: &["activation"],
    elements: Element::ALL,
    widths: Width::ALL,
};

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        n_cells: u32,
        padding_0: u32,
        padding_1: u32,
        padding_2: u32,
    }
}

/// Applies `activation` to `n_values` values.
///
/// # Errors
/// [`crate::Error::Shape`] when a dispatch cannot cover so many.
pub fn launch(activation: Activation, n_values: u32, element: Element) -> Result<Launch> {
    let width = Width::of(&[n_values]);
    let n_cells = n_values / width.elements();
    let params = Params { n_cells, padding_0: 0, padding_1: 0, padding_2: 0 };
    let constants = [("activation", activation_code(Some(activation)))];
    Ok(Launch::new(&KERNEL, element, width, &constants, &params, spread_cells(KERNEL.name, n_cells)?))
}

/// The same in plain Rust, in f64.
#[must_use]
pub fn reference(activation: Activation, x: &[f32]) -> Vec<f32> {
    let function = match activation {
        Activation::Silu => |x: f64| x / (1.0 + (-x).exp()),
        Activation::Gelu => gelu,
        Activation::QuickGelu => |x: f64| x / (1.0 + (-1.702 * x).exp()),
        Activation::Relu => |x: f64| x.max(0.0),
        Activation::Tanh => f64::tanh,
    };
    x.iter().map(|x| function(f64::from(*x)) as f32).collect()
}

/// `x` times the normal distribution's cumulative probability.
pub(super) fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

/// The error function by its series, which converges everywhere; beyond 6 it is 1 to the last bit.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    // erf(x) = 2/sqrt(pi) exp(-x^2) * sum of 2^n x^(2n+1) / (2n+1)!!, whose terms are all of one sign.
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-17 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_matches_known_values() {
        let close = |activation, x, expected: f32| {
            let got = reference(activation, &[x])[0];
            assert!((got - expected).abs() < 1e-6, "{activation:?}({x}) is {got}, expected {expected}");
        };
        close(Activation::Silu, 1.0, 0.731_058_6);
        close(Activation::Silu, -100.0, 0.0);
        close(Activation::Gelu, 1.0, 0.841_344_7);
        close(Activation::Gelu, -0.5, -0.154_268_77);
        close(Activation::Gelu, 20.0, 20.0);
        close(Activation::QuickGelu, 1.0, 0.845_795_8);
        close(Activation::Tanh, 0.5, 0.462_117_17);
        assert_eq!(reference(Activation::Gelu, &[0.0]), [0.0]);
        assert_eq!(reference(Activation::Relu, &[-2.0, 3.0]), [0.0, 3.0]);
    }
}
