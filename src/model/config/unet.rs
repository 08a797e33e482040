//! `unet/config.json` (diffusers `UNet2DConditionModel`).

use serde::Deserialize;
use serde_json::Value;

use super::{
    MAX_LAYERS, MAX_LEVELS, MAX_WIDTH, PerLayer, PerLevel, bound, check_fixed, default_true, from_json, refuse,
    spelling,
};
use crate::error::{Error, Result};

/// `unet/config.json`, as written. [`UNet2DConditionConfig`] is the checked form.
#[derive(Deserialize)]
struct RawUNet {
    in_channels: usize,
    out_channels: usize,
    block_out_channels: Vec<usize>,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    #[serde(default = "default_layers_per_block")]
    layers_per_block: PerLevel,
    #[serde(default)]
    transformer_layers_per_block: Option<PerLayer>,
    #[serde(default)]
    reverse_transformer_layers_per_block: Option<PerLayer>,
    #[serde(default)]
    attention_head_dim: Option<PerLevel>,
    #[serde(default)]
    num_attention_heads: Option<PerLevel>,
    #[serde(default)]
    cross_attention_dim: Option<PerLevel>,
    #[serde(default)]
    use_linear_projection: bool,
    #[serde(default)]
    upcast_attention: Option<bool>,
    #[serde(default = "default_norm_num_groups")]
    norm_num_groups: Option<usize>,
    #[serde(default = "default_norm_eps")]
    norm_eps: f64,
    #[serde(default = "default_downsample_padding")]
    downsample_padding: usize,
    #[serde(default = "default_true")]
    flip_sin_to_cos: bool,
    #[serde(default)]
    freq_shift: f64,
    #[serde(default)]
    addition_embed_type: Option<String>,
    #[serde(default)]
    addition_time_embed_dim: Option<usize>,
    #[serde(default)]
    projection_class_embeddings_input_dim: Option<usize>,
    #[serde(default)]
    time_cond_proj_dim: Option<usize>,
    #[serde(default)]
    sample_size: Option<PerLevel>,
    #[serde(default, rename = "_diffusers_version")]
    diffusers_version: Value,
}

/// Whether a version of diffusers, such as `0.8.1` or `0.9.0.dev0`, is before 0.9.
fn is_before_0_9(version: &Value) -> bool {
    let mut numbers = version.as_str().unwrap_or_default().split('.').map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(0)), Some(Ok(minor))) if minor < 9)
}

/// Height and width in a `sample_size`, and whether it is one number.
fn sample_size(size: Option<PerLevel>, file: &str) -> Result<(Option<[usize; 2]>, bool)> {
    let sides = match size {
        None => return Ok((None, false)),
        Some(PerLevel::One(side)) => [side, side],
        Some(PerLevel::Each(ref sides)) => match sides.as_slice() {
            [height, width] => [*height, *width],
            other => return refuse(file, format!("sample_size {other:?} is not supported: a side or two are")),
        },
    };
    if sides.contains(&0) {
        return refuse(file, format!("sample_size {sides:?} is not supported: a side of at least 1 is"));
    }
    bound(file, "sample_size", &sides, MAX_WIDTH)?;
    Ok((Some(sides), matches!(size, Some(PerLevel::One(_)))))
}

fn default_layers_per_block() -> PerLevel {
    PerLevel::One(2)
}

fn default_norm_num_groups() -> Option<usize> {
    Some(32)
}

fn default_norm_eps() -> f64 {
    1e-5
}

fn default_downsample_padding() -> usize {
    1
}

/// SDXL's conditioning on pooled text and picture sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextTime {
    /// Width of the embedding of each of the six numbers.
    pub addition_time_embed_dim: usize,
    /// Width of pooled text and six embeddings together.
    pub projection_class_embeddings_input_dim: usize,
}

/// One level of the UNet: the pictures of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UNetLevel {
    /// Channels C.
    pub out_channels: usize,
    /// Residual blocks on the way down; one more on the way up.
    pub layers: usize,
    /// Transformer blocks behind each residual block, on the way down and on the way up, which has one more. None leaves
    /// the projections around them.
    pub transformer_layers: [Vec<usize>; 2],
    /// Attention heads.
    pub heads: usize,
    /// Whether there is cross-attention on the way down, and on the way up.
    pub cross_attention: [bool; 2],
}

/// What lies between the way down and the way up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MidBlock {
    /// Nothing: tiny-sd and KOALA.
    None,
    /// `UNetMidBlock2D`, which is one residual block: SSD-1B and Vega.
    Resnet,
    /// `UNetMidBlock2DCrossAttn`: a transformer of so many blocks between two residual blocks.
    CrossAttention {
        /// Transformer blocks.
        transformer_layers: usize,
    },
}

/// `unet/config.json`, checked: an UNet2DConditionModel of SD 1, 2 or XL.
#[derive(Clone, Debug, PartialEq)]
pub struct UNet2DConditionConfig {
    /// Latent channels in: 4, or 9 with a mask and a masked picture.
    pub in_channels: usize,
    /// Latent channels out, 4.
    pub out_channels: usize,
    /// The levels, from the widest picture down.
    pub levels: Vec<UNetLevel>,
    /// What lies between the way down and the way up.
    pub mid_block: MidBlock,
    /// Width of the text's tokens.
    pub cross_attention_dim: usize,
    /// Whether transformers begin and end with a linear layer (SD 2, XL) or a 1x1 convolution (SD 1).
    pub use_linear_projection: bool,
    /// Whether attention scores overflow f16 and must be computed in f32 (SD 2.1).
    pub upcast_attention: bool,
    /// Groups of group norms.
    pub norm_num_groups: usize,
    /// Added to the variance in residual blocks.
    pub norm_eps: f64,
    /// Zeros around a picture before it is halved.
    pub downsample_padding: usize,
    /// Whether cosines come first in the timestep embedding.
    pub flip_sin_to_cos: bool,
    /// Shifts the range of its frequencies.
    pub freq_shift: f64,
    /// SDXL's added conditioning.
    pub text_time: Option<TextTime>,
    /// Height and width of the latents the model was trained on.
    pub sample_size: Option<[usize; 2]>,
    /// Whether the file says so with one number.
    pub is_sample_square: bool,
    /// Whether the file was saved by diffusers before 0.9, which meant something else by a small `sample_size`.
    pub is_before_0_9: bool,
    /// Width of the embedding of the guidance scale that a distilled model (LCM) was trained with, in place of running for a
    /// negative prompt too.
    pub time_cond_proj_dim: Option<usize>,
}

/// Fields of `unet/config.json` that change the model, with the only values that SD 1, 2 and XL use.
const UNET_FIXED: &[(&str, &[&str])] = &[
    ("act_fn", &["\"silu\""]),
    ("center_input_sample", &["false"]),
    ("class_embed_type", &["null"]),
    ("class_embeddings_concat", &["false"]),
    ("conv_in_kernel", &["3"]),
    ("conv_out_kernel", &["3"]),
    ("cross_attention_norm", &["null"]),
    ("dual_cross_attention", &["false"]),
    ("encoder_hid_dim", &["null"]),
    ("encoder_hid_dim_type", &["null"]),
    ("mid_block_scale_factor", &["1", "1.0"]),
    ("num_class_embeds", &["null"]),
    ("only_cross_attention", &["false"]),
    ("resnet_out_scale_factor", &["1", "1.0"]),
    ("resnet_skip_time_act", &["false"]),
    ("resnet_time_scale_shift", &["\"default\""]),
    ("time_embedding_act_fn", &["null"]),
    ("time_embedding_dim", &["null"]),
    ("time_embedding_type", &["\"positional\""]),
    ("timestep_post_act", &["null"]),
    ("attention_type", &["\"default\""]),
];

/// The transformer blocks of each level, behind each residual block on the way down and on the way up.
fn transformer_layers(raw: &RawUNet, layers: &[usize], file: &str) -> Result<Vec<[Vec<usize>; 2]>> {
    const FIELD: &str = "transformer_layers_per_block";
    const REVERSE: &str = "reverse_transformer_layers_per_block";
    let n_levels = layers.len();
    let one = PerLayer::One(1);
    let given = raw.transformer_layers_per_block.as_ref().unwrap_or(&one);
    let down = given.by_level(n_levels, FIELD, file)?;
    let up = match &raw.reverse_transformer_layers_per_block {
        // Already from the smallest picture up.
        Some(reverse) => reverse.by_level(n_levels, REVERSE, file)?.into_iter().rev().collect(),
        None if down.iter().any(|level| matches!(level, PerLevel::Each(_))) => {
            let reason = format!("{FIELD} has lists within the list, which needs {REVERSE} for the way up");
            return refuse(file, reason);
        }
        None => down.clone(),
    };
    // What is said of levels without transformers is not looked at.
    let of_level = |class: &str, level: &PerLevel, n_layers: usize, field: &str| match level {
        _ if !class.contains("CrossAttn") => Ok(vec![0; n_layers]),
        PerLevel::One(n) => Ok(vec![*n; n_layers]),
        PerLevel::Each(each) if each.len() >= n_layers => Ok(each[..n_layers].to_vec()),
        PerLevel::Each(each) => refuse(file, format!("{field} {each:?} does not fit a level of {n_layers} layers")),
    };
    (0..n_levels)
        .map(|i| {
            let (down_class, up_class) = (&raw.down_block_types[i], &raw.up_block_types[n_levels - 1 - i]);
            Ok([of_level(down_class, &down[i], layers[i], FIELD)?, of_level(up_class, &up[i], layers[i] + 1, REVERSE)?])
        })
        .collect()
}

impl UNet2DConditionConfig {
    /// Parses and checks the file.
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        let json: Value = spelling::UNET.plain(from_json(text, file)?);
        check_fixed(&json, UNET_FIXED, file)?;
        // Absent and null differ here: null is no block at all.
        let mid_block_type = json.get("mid_block_type").cloned().unwrap_or_else(|| "UNetMidBlock2DCrossAttn".into());
        let raw: RawUNet = serde_json::from_value(json)
            .map_err(|e| Error::Config { file: file.to_string(), reason: e.to_string() })?;
        let n_levels = raw.block_out_channels.len();
        if n_levels == 0 || raw.down_block_types.len() != n_levels || raw.up_block_types.len() != n_levels {
            return refuse(
                file,
                format!(
                    "block_out_channels, down_block_types and up_block_types have {n_levels}, {} and {} entries: one a level each",
                    raw.down_block_types.len(),
                    raw.up_block_types.len()
                ),
            );
        }
        let sides = [raw.in_channels, raw.out_channels, raw.downsample_padding];
        bound(file, "a number of channels", raw.block_out_channels.iter().chain(&sides), MAX_WIDTH)?;
        bound(file, "the number of levels", &[n_levels], MAX_LEVELS)?;
        let layers = raw.layers_per_block.spread(n_levels, "layers_per_block", file)?;
        bound(file, "a number of layers", &layers, MAX_LAYERS)?;
        let transformer_layers = transformer_layers(&raw, &layers, file)?;
        let mid_block = match (mid_block_type.as_str(), raw.transformer_layers_per_block.as_ref()) {
            (None, _) if mid_block_type.is_null() => MidBlock::None,
            (Some("UNetMidBlock2D"), _) => MidBlock::Resnet,
            (Some("UNetMidBlock2DCrossAttn"), per_layer) => {
                // The first of the deepest level's on the way down.
                let transformer_layers = per_layer.and_then(|layers| layers.first_of_last()).unwrap_or(1);
                MidBlock::CrossAttention { transformer_layers }
            }
            _ => {
                let allowed = "UNetMidBlock2DCrossAttn, UNetMidBlock2D and null are";
                return refuse(file, format!("mid_block_type {mid_block_type} is not supported: {allowed}"));
            }
        };
        // diffusers' historical slip: `attention_head_dim` holds the number of heads unless that is given by its name.
        let heads = raw.num_attention_heads.or(raw.attention_head_dim).unwrap_or(PerLevel::One(8));
        let heads = heads.spread(n_levels, "attention_head_dim", file)?;
        let cross_attention_dim = match raw.cross_attention_dim {
            Some(PerLevel::One(dim)) => dim,
            Some(PerLevel::Each(dims)) if !dims.is_empty() && dims.iter().all(|&dim| dim == dims[0]) => dims[0],
            other => return refuse(file, format!("cross_attention_dim {other:?} is not supported: one number is")),
        };
        let in_transformers = transformer_layers.iter().flatten().flatten();
        bound(file, "a number of transformer layers", in_transformers, MAX_LAYERS)?;
        if let Some(dim) = raw.time_cond_proj_dim {
            bound(file, "time_cond_proj_dim", &[dim], MAX_WIDTH)?;
            if dim < 4 {
                return refuse(file, format!("time_cond_proj_dim {dim} is too narrow for an embedding: 4 at least is"));
            }
        }
        bound(file, "cross_attention_dim", &[cross_attention_dim], MAX_WIDTH)?;
        let mut levels = Vec::with_capacity(n_levels);
        for (level, transformer_layers) in transformer_layers.into_iter().enumerate() {
            // An old prefix that diffusers cuts off too.
            let cross = |class: &str, with: &str, without: &str| match class.strip_prefix("UNetRes").unwrap_or(class) {
                c if c == with => Ok(true),
                c if c == without => Ok(false),
                c => refuse(file, format!("block type {c} is not supported: {with} and {without} are")),
            };
            let down = cross(&raw.down_block_types[level], "CrossAttnDownBlock2D", "DownBlock2D")?;
            let up = cross(&raw.up_block_types[n_levels - 1 - level], "CrossAttnUpBlock2D", "UpBlock2D")?;
            levels.push(UNetLevel {
                out_channels: raw.block_out_channels[level],
                layers: layers[level],
                transformer_layers,
                heads: heads[level],
                cross_attention: [down, up],
            });
        }
        let text_time = match raw.addition_embed_type.as_deref() {
            None => None,
            Some("text_time") => match (raw.addition_time_embed_dim, raw.projection_class_embeddings_input_dim) {
                (Some(addition_time_embed_dim), Some(projection_class_embeddings_input_dim)) => {
                    let widths = [addition_time_embed_dim, projection_class_embeddings_input_dim];
                    bound(file, "a width of added embeddings", &widths, MAX_WIDTH)?;
                    Some(TextTime { addition_time_embed_dim, projection_class_embeddings_input_dim })
                }
                _ => {
                    return refuse(
                            file,
                            "addition_embed_type text_time needs addition_time_embed_dim and projection_class_embeddings_input_dim".into(),
                        );
                }
            },
            Some(other) => {
                return refuse(file, format!("addition_embed_type {other} is not supported: text_time is"));
            }
        };
        let (sample_size, is_sample_square) = sample_size(raw.sample_size, file)?;
        Ok(UNet2DConditionConfig {
            in_channels: raw.in_channels,
            out_channels: raw.out_channels,
            levels,
            mid_block,
            cross_attention_dim,
            use_linear_projection: raw.use_linear_projection,
            upcast_attention: raw.upcast_attention.unwrap_or(false),
            norm_num_groups: raw.norm_num_groups.unwrap_or(32),
            norm_eps: raw.norm_eps,
            downsample_padding: raw.downsample_padding,
            flip_sin_to_cos: raw.flip_sin_to_cos,
            freq_shift: raw.freq_shift,
            text_time,
            sample_size,
            is_sample_square,
            is_before_0_9: is_before_0_9(&raw.diffusers_version),
            time_cond_proj_dim: raw.time_cond_proj_dim,
        })
    }

    /// How much smaller than the latents the smallest pictures inside are. Sides of latents that are not its multiples are
    /// odd on some level, where the way up makes what the way down had, as in diffusers.
    #[must_use]
    pub fn downsampling(&self) -> usize {
        1 << (self.levels.len() - 1)
    }

    /// The width of the timestep embedding.
    #[must_use]
    pub fn time_embed_dim(&self) -> usize {
        self.levels[0].out_channels * 4
    }
}
