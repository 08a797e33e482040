//! The type that weights are held in while a model is drawn with, and which weights of a model get it.
//!
//! Quantising everything costs quality and saves little more: small weights, and those that every pixel passes through once,
//! stay in 16 bits. Which matrices tolerate 4 bits was measured (`tools/quantise/measure.py`, README) and is kept here as
//! tables, which `tools/quantise/blocks.py` repeats; tests/quantised.rs compares pictures of both.

use super::blocks::{self, BLOCK};

/// How a weight's values are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), derive(clap::ValueEnum))]
#[cfg_attr(test, derive(ts_rs::TS))]
#[derive(serde::Serialize, serde::Deserialize)]
pub enum WeightType {
    /// 32 bits: what an f32 or a quantised checkpoint has, exactly.
    #[serde(rename = "f32")]
    #[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), value(name = "f32"))]
    F32,
    /// 16 bits.
    #[default]
    #[serde(rename = "f16")]
    #[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), value(name = "f16"))]
    F16,
    /// Matrices in 8 bits with a scale for each 32 values (8.5 bits a value), the rest in 16.
    #[serde(rename = "q8_0")]
    #[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), value(name = "q8_0"))]
    Q8_0,
    /// Matrices in 4 bits with a scale for each 32 values (4.5 bits a value), some in 8, the rest in 16.
    #[serde(rename = "q4_0")]
    #[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), value(name = "q4_0"))]
    Q4_0,
}

/// Outputs or inputs below which a matrix is narrow.
const NARROW: usize = 32;

/// Parts of names of matrices that stay in 16 bits: embeddings of the time, the size and the label of a picture, whose errors
/// change every pixel alike, embeddings of tokens, and projections of texts.
const IN_16_BITS: &[&str] = &["time_embedding", "add_embedding", "class_embedding", "embeddings.", "text_projection"];

/// Beginnings of names of matrices that stay in 16 bits: VAEs are small, and no later step corrects their errors.
const COMPONENTS_IN_16_BITS: &[&str] = &["encoder.", "decoder.", "quant_conv.", "post_quant_conv."];

/// Parts of names of matrices that have 8 bits where others have 4, by what they gain for their bytes.
///
/// Measured on a trained model and three random ones: the gain in PSNR when one kind of layer has 8 bits instead of 4, per
/// 100 MB at SD 1.5's sizes. On the trained one that is 8 to 20 dB for the first three below and 24 for the down blocks
/// [`AT_FULL_SIZE`] (8 to 29 on the others), 4 for the values of cross-attention, 1.4 for the feed-forward layers and nothing
/// for the convolutions of residual blocks. The blocks' time projections lose nothing in 8 bits; what they save against 16
/// pays for most of the rest.
const IN_8_BITS: &[&str] = &["conv_shortcut", "proj_in", "proj_out", "time_emb_proj", "text_model."];

/// Beginnings of names of the blocks that work at the full size of the latents, the first and the last of a UNet with three or
/// four levels: these have 8 bits, too. With four levels `up_blocks.2.` is the last block but one, which
/// [`FULL_SIZE_CHANNELS`] tells apart.
const AT_FULL_SIZE: &[&str] = &["down_blocks.0.", "up_blocks.2.", "up_blocks.3."];

/// The most outputs or inputs, whichever are fewer, of a matrix at the full size.
const FULL_SIZE_CHANNELS: usize = 320;

impl WeightType {
    /// The name in settings and plans.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            WeightType::F32 => "f32",
            WeightType::F16 => "f16",
            WeightType::Q8_0 => "q8_0",
            WeightType::Q4_0 => "q4_0",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [WeightType::F32, WeightType::F16, WeightType::Q8_0, WeightType::Q4_0]
            .into_iter()
            .find(|one| one.name() == name)
    }

    /// Whether values come in blocks with a scale.
    #[must_use]
    pub const fn is_quantised(self) -> bool {
        matches!(self, WeightType::Q8_0 | WeightType::Q4_0)
    }

    /// The type of one weight, by its name in the component and its shape, of a model that is held in this type.
    #[must_use]
    pub fn of_weight(self, name: &str, shape: &[usize]) -> WeightType {
        if !self.is_quantised() {
            return self;
        }
        let is_narrow = shape.len() < 2 || shape[0] < NARROW || shape[1] < NARROW;
        let is_kept = IN_16_BITS.iter().any(|part| name.contains(part))
            || COMPONENTS_IN_16_BITS.iter().any(|begin| name.starts_with(begin));
        if is_narrow || is_kept {
            return WeightType::F16;
        }
        let is_at_full_size =
            AT_FULL_SIZE.iter().any(|begin| name.starts_with(begin)) && shape[0].min(shape[1]) <= FULL_SIZE_CHANNELS;
        if is_at_full_size || IN_8_BITS.iter().any(|part| name.contains(part)) { WeightType::Q8_0 } else { self }
    }

    /// Bits of one value, without scales.
    #[must_use]
    pub const fn bits(self) -> u64 {
        match self {
            WeightType::F32 => 32,
            WeightType::F16 => 16,
            WeightType::Q8_0 => 8,
            WeightType::Q4_0 => 4,
        }
    }

    /// Bytes of a matrix of `k` rows and `n` columns with blocks along k, whose rows end with whole bytes.
    #[must_use]
    pub const fn matrix_bytes(self, k: u64, n: u64) -> u64 {
        let scales = k.div_ceil(BLOCK as u64) * n * blocks::SCALE_BYTES;
        match self {
            WeightType::F32 => 4 * k * n,
            WeightType::F16 => 2 * k * n,
            WeightType::Q8_0 => k * n + scales,
            WeightType::Q4_0 => k.div_ceil(2) * n + scales,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_picture_depends_on_has_more_bits() {
        let of = |name: &str, shape: &[usize]| WeightType::Q4_0.of_weight(name, shape);
        assert_eq!(of("conv_in.weight", &[320, 4, 3, 3]), WeightType::F16);
        assert_eq!(of("conv_out.weight", &[4, 320, 3, 3]), WeightType::F16);
        assert_eq!(of("time_embedding.linear_1.weight", &[1280, 320]), WeightType::F16);
        assert_eq!(of("down_blocks.0.resnets.0.time_emb_proj.weight", &[320, 1280]), WeightType::Q8_0);
        assert_eq!(of("down_blocks.0.resnets.0.norm1.weight", &[320]), WeightType::F16);
        assert_eq!(of("up_blocks.1.resnets.0.conv_shortcut.weight", &[1280, 2560, 1, 1]), WeightType::Q8_0);
        assert_eq!(of("decoder.up_blocks.2.resnets.0.conv_shortcut.weight", &[256, 512, 1, 1]), WeightType::F16);
        assert_eq!(of("decoder.mid_block.resnets.0.conv1.weight", &[512, 512, 3, 3]), WeightType::F16);
        assert_eq!(of("down_blocks.0.resnets.0.conv1.weight", &[320, 320, 3, 3]), WeightType::Q8_0);
        assert_eq!(of("up_blocks.3.resnets.0.conv1.weight", &[320, 960, 3, 3]), WeightType::Q8_0);
        assert_eq!(of("up_blocks.2.resnets.0.conv1.weight", &[640, 1920, 3, 3]), WeightType::Q4_0);
        assert_eq!(of("mid_block.resnets.0.conv1.weight", &[1280, 1280, 3, 3]), WeightType::Q4_0);
        assert_eq!(of("text_model.encoder.layers.0.mlp.fc1.weight", &[3072, 768]), WeightType::Q8_0);
        assert_eq!(WeightType::F32.of_weight("conv_in.weight", &[320, 4, 3, 3]), WeightType::F32);
    }

    #[test]
    fn bytes_of_matrices() {
        assert_eq!(WeightType::Q8_0.matrix_bytes(33, 4), 33 * 4 + 2 * 4 * 2);
        assert_eq!(WeightType::Q4_0.matrix_bytes(33, 4), 17 * 4 + 2 * 4 * 2);
        assert_eq!(WeightType::F16.matrix_bytes(33, 4), 264);
    }
}
