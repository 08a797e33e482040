//! The noise of the training steps: `alphas_cumprod`, rounded where diffusers rounds.
//!
//! diffusers keeps betas and their products in f32. Rounding differently would move every later number by about 1e-7,
//! which is not visible, but it would hide real mistakes of that size; so torch's order of operations is followed. The
//! methods that choose steps from the table are in `timesteps` and `sigmas`.

use crate::error::Result;

use super::Settings;

/// `beta_schedule` of a scheduler config, or the betas themselves.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Betas {
    Linear,
    ScaledLinear,
    SquaredCosine,
    /// Of DDPM alone.
    Sigmoid,
    /// Of DDPM alone.
    Laplace,
    Trained(Vec<f64>),
}

/// `alphas_cumprod`, one value per training step. f32 values, widened.
#[derive(Clone, Debug)]
pub(super) struct AlphasCumprod(pub(super) Vec<f64>);

/// What replaces an `alphas_cumprod` of zero, so that sigma stays finite; diffusers' value.
const SMALLEST_ALPHA: f32 = 1.0 / 16_777_216.0;

impl AlphasCumprod {
    /// The table of a config. `keep_signal` is for samplers that work with sigmas, which a last value of zero would
    /// make infinite.
    pub(super) fn new(settings: &Settings, keep_signal: bool) -> Result<Self> {
        let n = settings.num_train_timesteps;
        let (start, end) = (settings.beta_start, settings.beta_end);
        let mut betas: Vec<f32> = match &settings.betas {
            Betas::Linear => torch_linspace(start, end, n),
            Betas::ScaledLinear => torch_linspace(start.sqrt(), end.sqrt(), n).into_iter().map(|b| b * b).collect(),
            Betas::SquaredCosine => (0..n).map(|i| beta_of(squared_cosine, i, n)).collect(),
            Betas::Laplace => (0..n).map(|i| beta_of(laplace, i, n)).collect(),
            Betas::Sigmoid => sigmoid(start, end, n),
            Betas::Trained(betas) => betas.iter().map(|&beta| beta as f32).collect(),
        };
        // NaN lies in no range either.
        if betas.iter().any(|beta| !(0.0..=1.0).contains(beta)) {
            let what = format!("a beta outside of 0 to 1 (beta_start {start}, beta_end {end})");
            return Err(settings.unsupported(&what, "beta_start 0.00085 with beta_end 0.012 works"));
        }
        if settings.rescale_betas_zero_snr {
            betas = rescale_zero_terminal_snr(&betas);
        }
        let mut products = cumulative_products(betas.iter().map(|beta| 1.0 - beta));
        if settings.rescale_betas_zero_snr
            && keep_signal
            && let Some(last) = products.last_mut()
        {
            *last = SMALLEST_ALPHA;
        }
        Ok(AlphasCumprod(products.into_iter().map(f64::from).collect()))
    }

    /// `sqrt((1 - a) / a)` of every training step, computed and rounded in f32.
    pub(super) fn sigmas(&self) -> Vec<f64> {
        self.0.iter().map(|&a| f64::from(((1.0 - a as f32) / a as f32).sqrt())).collect()
    }
}

/// torch's `linspace` in f32: from both ends towards the middle, with one rounding per value because its CPU kernels
/// fuse the multiplication and the addition.
pub(super) fn torch_linspace(start: f64, end: f64, n: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    if n == 1 {
        return vec![start];
    }
    let step = f64::from((end - start) / (n - 1) as f32);
    let from_start = |i: usize| (f64::from(start) + step * i as f64) as f32;
    let from_end = |i: usize| (f64::from(end) - step * (n - 1 - i) as f64) as f32;
    (0..n).map(|i| if i < n / 2 { from_start(i) } else { from_end(i) }).collect()
}

/// torch's `cumprod` of f32: the running product is f64, and each result is rounded.
fn cumulative_products(factors: impl Iterator<Item = f32>) -> Vec<f32> {
    let running = factors.scan(1.0_f64, |product, factor| {
        *product *= f64::from(factor);
        Some(*product as f32)
    });
    running.collect()
}

/// A beta of a schedule that is given by its products, up to 0.999.
fn beta_of(alpha_bar: impl Fn(f64) -> f64, i: usize, n: usize) -> f32 {
    let (from, to) = (i as f64 / n as f64, (i + 1) as f64 / n as f64);
    (1.0 - alpha_bar(to) / alpha_bar(from)).min(0.999) as f32
}

/// The schedule of improved DDPM (arXiv 2102.09672).
fn squared_cosine(t: f64) -> f64 {
    ((t + 0.008) / 1.008 * std::f64::consts::PI / 2.0).cos().powi(2)
}

/// Half the log signal-to-noise ratio follows a Laplace distribution.
fn laplace(t: f64) -> f64 {
    let half = 0.5 - t;
    let lambda = -0.5 * 1.0_f64.copysign(half) * (1.0 - 2.0 * half.abs() + 1e-6).ln();
    let snr = lambda.exp();
    (snr / (1.0 + snr)).sqrt()
}

/// Betas along a sigmoid from -6 to 6.
fn sigmoid(start: f64, end: f64, n: usize) -> Vec<f32> {
    let at = torch_linspace(-6.0, 6.0, n).into_iter();
    let share = at.map(|x| (1.0 / (1.0 + f64::from(-x).exp())) as f32);
    share.map(|share| share * (end - start) as f32 + start as f32).collect()
}

/// Shifts and scales the square roots so that the last training step has no signal left (arXiv 2305.08891, algorithm
/// 1).
fn rescale_zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = cumulative_products(betas.iter().map(|beta| 1.0 - beta)).into_iter().map(f32::sqrt).collect();
    let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else { return Vec::new() };
    let scale = first / (first - last);
    let products: Vec<f32> = roots.into_iter().map(|root| (root - last) * scale).map(|root| root * root).collect();
    let before = std::iter::once(1.0).chain(products.iter().copied());
    products.iter().zip(before).map(|(product, before)| 1.0 - product / before).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::sampler::{RunOptions, SamplerKind, SchedulerConfig};

    const TIMESTEPS: [usize; 8] = [0, 1, 137, 499, 500, 861, 998, 999];

    /// `torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000)` of torch 2.11: some values, and the sum of all bits.
    #[test]
    fn linspace_is_that_of_torch_bit_for_bit() {
        let values = torch_linspace(0.00085_f64.sqrt(), 0.012_f64.sqrt(), 1000);
        let expected =
            [0x3cee_d5f6, 0x3cef_7eb8, 0x3d24_92ec, 0x3d8d_f216, 0x3d8e_1c46, 0x3dc9_9ab6, 0x3de0_2eae, 0x3de0_58df];
        assert_eq!(TIMESTEPS.map(|i| values[i].to_bits()), expected);
        assert_eq!(values.iter().map(|value| u64::from(value.to_bits())).sum::<u64>(), 1_031_781_000_140);
    }

    /// `torch.cumprod(1 - betas, 0)` for the betas of Stable Diffusion, likewise.
    #[test]
    fn alphas_cumprod_is_that_of_torch_bit_for_bit() {
        let text = r#"{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}"#;
        let config = SchedulerConfig::from_json(text, "s.json").unwrap().with_sampler(SamplerKind::Ddim);
        let products = AlphasCumprod::new(&config.settings(&RunOptions::new(10)).unwrap(), false).unwrap().0;
        let bits: Vec<u32> = products.iter().map(|&product| (product as f32).to_bits()).collect();
        let expected =
            [0x3f7f_c84b, 0x3f7f_9054, 0x3f58_8bee, 0x3e8e_2ab0, 0x3e8d_7b73, 0x3cab_a106, 0x3b9a_8e83, 0x3b98_b3b6];
        assert_eq!(TIMESTEPS.map(|i| bits[i]), expected);
        assert_eq!(bits.iter().map(|&bits| u64::from(bits)).sum::<u64>(), 1_043_681_188_921);
    }
}
