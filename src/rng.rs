//! Gaussian noise equal to PyTorch's: the same seed gives the same starting latents as diffusers with a CPU generator, or
//! with a CUDA one ([`Philox`]). [`Noise`] names them, and [`NoiseGenerator`] is either. [`variation`] is between two seeds.
//!
//! [`Generator`] is `torch.Generator("cpu")`: an MT19937 engine seeded with the low 32 bits of the seed, and one cached
//! normal that survives between calls. [`Generator::randn`] is `torch.randn(n, generator=g, dtype=torch.float32)` bit
//! for bit for every `n`, checked against torch 2.11 on an x86-64 processor with AVX2.
//!
//! The bits depend on more than the formula. For blocks of 16 values torch's AVX2 kernel, which processors with AVX-512
//! run too, does not call the C library: it evaluates Cephes polynomials for the logarithm, sine and cosine in f32, and
//! GCC contracts their multiplications and additions into fused ones. Most people who share a seed have such a machine,
//! so that arithmetic is what this module repeats, in scalar code with [`f32::mul_add`] exactly where the compiler
//! fused. Torch without AVX2 (ARM, `ATEN_CPU_CAPABILITY=default`) uses the C library and differs in the last bits: of
//! three million values 38 % differed, by at most 2.3e-6, which no picture shows.
//!
//! It deliberately does not do other distributions, f64, or f16: `torch.randn(..., dtype=torch.float16)` draws
//! *different* numbers, not rounded ones. It is not for secrets.
//!
//! Sources: PyTorch 2.11 `aten/src/ATen/core/MT19937RNGEngine.h`, `ATen/core/DistributionsHelper.h`,
//! `ATen/native/cpu/DistributionTemplates.h` (`normal_fill_AVX2`) and `ATen/native/cpu/avx_mathfun.h`; Matsumoto and
//! Nishimura, "Mersenne Twister" (1998); Moshier's Cephes library for the polynomials.

mod philox;
pub mod variation;

use std::f32::consts::FRAC_1_SQRT_2;

use serde::{Deserialize, Serialize};

pub use philox::Philox;

/// Which of torch's generators the noise of a picture comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum Noise {
    /// The CPU's, as in diffusers' examples and ComfyUI.
    #[default]
    Cpu,
    /// CUDA's, as in AUTOMATIC1111 and Forge unless their settings say otherwise (there "GPU", and "NV" on any device).
    Philox,
}

/// Where the random numbers of one picture come from. Every draw, of the first latents, of a start picture's latents and
/// within the steps, is one call, in diffusers' order.
#[derive(Clone, Debug)]
pub enum NoiseGenerator {
    /// [`Noise::Cpu`].
    Cpu(Box<Generator>),
    /// [`Noise::Philox`].
    Philox(Philox),
}

impl NoiseGenerator {
    /// One at the start of the sequence of `seed`.
    #[must_use]
    pub fn new(noise: Noise, seed: u64) -> Self {
        match noise {
            Noise::Cpu => NoiseGenerator::Cpu(Box::new(Generator::new(seed))),
            Noise::Philox => NoiseGenerator::Philox(Philox::new(seed)),
        }
    }

    /// `n` values of the standard normal distribution; for a tensor in row-major order.
    #[must_use]
    pub fn randn(&mut self, n: usize) -> Vec<f32> {
        match self {
            NoiseGenerator::Cpu(generator) => generator.randn(n),
            NoiseGenerator::Philox(generator) => generator.randn(n),
        }
    }
}

/// Words of engine state.
const STATE_LEN: usize = 624;
/// Distance of the word that is mixed in when the state is renewed.
const STATE_SHIFT: usize = 397;
/// Values that one vectorised Box-Muller step makes: 8 cosines, then 8 sines.
const BLOCK: usize = 16;

/// A generator equal to `torch.Generator("cpu").manual_seed(seed)`.
///
/// The order of draws is part of the result: image-to-image draws the encoder's sample before the noise, and every
/// call moves the generator on.
#[derive(Clone, Debug)]
pub struct Generator {
    state: [u32; STATE_LEN],
    /// Index of the next word of `state` to hand out; `STATE_LEN` when the state is used up.
    next: usize,
    /// The second half of the last Box-Muller pair of a short call, kept for the next short call.
    cached_normal: Option<f64>,
}

impl Generator {
    /// A generator at the start of the sequence of `seed`. Like torch, only the low 32 bits of the seed matter.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = [0_u32; STATE_LEN];
        // The low half is meant: torch masks the seed the same way.
        state[0] = (seed & u64::from(u32::MAX)) as u32;
        for i in 1..STATE_LEN {
            let previous = state[i - 1];
            state[i] = 1_812_433_253_u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: STATE_LEN, cached_normal: None }
    }

    /// `n` values of the standard normal distribution, as `torch.randn(n, generator=g, dtype=torch.float32)`.
    ///
    /// A tensor of any shape with `n` elements gets the same values in row-major order. Mind the layout: diffusers
    /// draws latents as B C H W.
    #[must_use]
    pub fn randn(&mut self, n: usize) -> Vec<f32> {
        if n < BLOCK { (0..n).map(|_| self.next_normal() as f32).collect() } else { self.randn_blocks(n) }
    }

    /// The path for `n` ≥ 16: all uniforms first, then Box-Muller on blocks of 16. What does not fill a block is not
    /// transformed; the *last* 16 values are drawn anew instead, so some of the last whole block is overwritten.
    fn randn_blocks(&mut self, n: usize) -> Vec<f32> {
        let mut values: Vec<f32> = (0..n).map(|_| self.next_uniform_f32()).collect();
        for block in values.chunks_exact_mut(BLOCK) {
            box_muller_block(block);
        }
        if !n.is_multiple_of(BLOCK) {
            let tail = &mut values[n - BLOCK..];
            tail.fill_with(|| self.next_uniform_f32());
            box_muller_block(tail);
        }
        values
    }

    /// One normal of the path for `n` < 16: Box-Muller in f64, whose second value waits for the next call.
    fn next_normal(&mut self) -> f64 {
        if let Some(cached) = self.cached_normal.take() {
            return cached;
        }
        let u1 = self.next_uniform_f64();
        let u2 = self.next_uniform_f64();
        let radius = (-2.0 * (-u2).ln_1p()).sqrt();
        let theta = 2.0 * std::f64::consts::PI * u1;
        self.cached_normal = Some(radius * theta.sin());
        radius * theta.cos()
    }

    /// A uniform of [0, 1) with 24 bits.
    fn next_uniform_f32(&mut self) -> f32 {
        (self.next_u32() & ((1 << 24) - 1)) as f32 * (1.0 / (1_u32 << 24) as f32)
    }

    /// A uniform of [0, 1) with 53 bits, the first word of the engine on top.
    fn next_uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.next_u32());
        let low = u64::from(self.next_u32());
        (((high << 32) | low) & ((1 << 53) - 1)) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// The next tempered word of the engine.
    fn next_u32(&mut self) -> u32 {
        if self.next == STATE_LEN {
            self.renew_state();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn renew_state(&mut self) {
        for i in 0..STATE_LEN {
            let mixed = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % STATE_LEN] & 0x7fff_ffff);
            let odd_mask = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + STATE_SHIFT) % STATE_LEN] ^ (mixed >> 1) ^ odd_mask;
        }
        self.next = 0;
    }
}

/// Turns 16 uniforms into 16 normals in place: radii from the first 8, angles from the last 8.
fn box_muller_block(block: &mut [f32]) {
    let (first, last) = block.split_at_mut(BLOCK / 2);
    for (a, b) in first.iter_mut().zip(last) {
        let radius = (-2.0 * log_cephes(1.0 - *a)).sqrt();
        let (sin, cos) = sin_cos_cephes(std::f32::consts::TAU * *b);
        // Torch scales by the standard deviation and adds the mean, 0, which turns a negative zero into a positive one.
        *a = radius * cos + 0.0;
        *b = radius * sin + 0.0;
    }
}

/// The natural logarithm of a normal number above zero, as `log256_ps` gives it after GCC's contraction.
fn log_cephes(x: f32) -> f32 {
    let bits = x.to_bits();
    // x = mantissa * 2^exponent with the mantissa in [sqrt(1/2), sqrt(2)), then shifted to be around zero.
    let mantissa = f32::from_bits((bits & 0x007f_ffff) | 0.5_f32.to_bits());
    let exponent = (bits >> 23) as f32 - 126.0;
    let (exponent, m) = if mantissa < FRAC_1_SQRT_2 {
        (exponent - 1.0, (mantissa - 1.0) + mantissa)
    } else {
        (exponent, mantissa - 1.0)
    };
    let square = m * m;
    let poly = polynomial(
        m,
        &[
            7.037_683_6e-2,
            -1.151_461e-1,
            1.167_699_84e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_7e-1,
            2.000_071_4e-1,
            -2.499_999_4e-1,
            3.333_333e-1,
        ],
    );
    // ln 2 is split in two, so that the larger part times the exponent is exact.
    let low = (poly * m).mul_add(square, exponent * -2.121_944_4e-4);
    let low = square.mul_add(-0.5, low);
    exponent.mul_add(0.693_359_4, m + low)
}

/// Sine and cosine of an angle of at least zero, as `sincos256_ps` gives them after GCC's contraction.
fn sin_cos_cephes(angle: f32) -> (f32, f32) {
    // The octant, rounded up to an even one; the remainder is then within an eighth of a turn of zero.
    let octant = ((angle * (4.0 / std::f32::consts::PI)) as i32 + 1) & !1;
    let turns = octant as f32;
    // pi/4 in three parts, the first two with few enough bits for exact products.
    let r = turns.mul_add(-0.785_156_25, angle);
    let r = turns.mul_add(-2.418_756_5e-4, r);
    let r = turns.mul_add(-3.774_895e-8, r);
    let square = r * r;

    let cos_poly = polynomial(square, &[2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2]);
    let cos_poly = (cos_poly * square).mul_add(square, -(square * 0.5)) + 1.0;
    let sin_poly = polynomial(square, &[-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1]);
    let sin_poly = (sin_poly * square).mul_add(r, r);

    let (sin, cos) = if octant & 2 == 0 { (sin_poly, cos_poly) } else { (cos_poly, sin_poly) };
    let sin = if octant & 4 == 0 { sin } else { -sin };
    let cos = if (octant - 2) & 4 == 0 { -cos } else { cos };
    (sin, cos)
}

/// Horner's rule with fused steps, the highest coefficient first.
fn polynomial(x: f32, coefficients: &[f32]) -> f32 {
    coefficients[1..].iter().fold(coefficients[0], |sum, &c| sum.mul_add(x, c))
}
