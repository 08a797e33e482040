//! torch's CUDA generator: Philox4x32-10 (Salmon and others, "Parallel random numbers: as easy as 1, 2, 3", 2011), as
//! `torch.randn(n, device="cuda")` uses it.
//!
//! Each value has a counter of its own: (number of the call, 0, index of the value, 0), with the seed as the key. The first
//! two words that come out make one normal value by Box-Muller; the other two are not used. torch gives each thread of the
//! device a counter and lets it write four values, `grid · block` apart. As long as a tensor has no more values than the
//! device runs threads at once (65 536 on the smallest cards of the last years, more than 120 000 on most), each thread
//! writes one, and all cards agree. Beyond that they do not agree with each other; this module goes on as before, as
//! AUTOMATIC1111's `RNG: NV` does.
//!
//! The arithmetic is that of `RNG: NV`: f32 constants, all else in f64, rounded to f32 at the end. CUDA rounds to f32 in
//! between and has a sine of about 21 bits, so its values differ by some 1e-6.

/// Multipliers and key increments of Philox4x32.
const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const KEY_STEPS: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const N_ROUNDS: usize = 10;
/// 2^-32.
const UNIT: f32 = 2.328_306_4e-10;
/// 2^-32 of a turn in radians, rounded once.
#[allow(clippy::cast_possible_truncation, reason = "the f32 constant that cuRAND has")]
const UNIT_TURN: f32 = (2.328_306_4e-10_f64 * 6.283_185_5_f64) as f32;

/// The generator of one picture.
#[derive(Clone, Debug)]
pub struct Philox {
    key: [u32; 2],
    /// Calls so far.
    n_calls: u32,
}

impl Philox {
    /// A generator at the start of the sequence of `seed`, all 64 bits of which count.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Philox { key: [seed as u32, (seed >> 32) as u32], n_calls: 0 }
    }

    /// `n` values of the standard normal distribution, as `torch.randn(n, device="cuda", generator=g)`.
    #[must_use]
    pub fn randn(&mut self, n: usize) -> Vec<f32> {
        let call = self.n_calls;
        self.n_calls = call.wrapping_add(1);
        (0..n).map(|i| normal(philox([call, 0, i as u32, 0], self.key))).collect()
    }
}

/// Philox4x32-10 of a counter.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..N_ROUNDS {
        let [a, b, c, d] = counter;
        let first = u64::from(a) * u64::from(MULTIPLIERS[0]);
        let second = u64::from(c) * u64::from(MULTIPLIERS[1]);
        counter = [(second >> 32) as u32 ^ b ^ key[0], second as u32, (first >> 32) as u32 ^ d ^ key[1], first as u32];
        key = [key[0].wrapping_add(KEY_STEPS[0]), key[1].wrapping_add(KEY_STEPS[1])];
    }
    counter
}

/// The first value of Box-Muller's pair.
fn normal([radius, angle, ..]: [u32; 4]) -> f32 {
    let (unit, unit_turn) = (f64::from(UNIT), f64::from(UNIT_TURN));
    let u = f64::from(radius) * unit + unit / 2.0;
    let v = f64::from(angle) * unit_turn + unit_turn / 2.0;
    ((-2.0 * u.ln()).sqrt() * v.sin()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the authors' library, Random123 (`kat_vectors`, philox4x32 10).
    #[test]
    fn the_block_function_is_that_of_random123() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(philox(pi, [0xa409_3822, 0x299f_31d0]), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn the_whole_seed_counts() {
        assert_ne!(Philox::new((1 << 32) + 5).randn(4), Philox::new(5).randn(4));
    }
}
