//! Where a single-file checkpoint keeps what a diffusers folder keeps: the tensors' names in the layout of the original
//! training code (LDM for Stable Diffusion 1 and 2, SGM for XL), in ComfyUI's and stable-diffusion.cpp's spellings of it, and
//! in diffusers' own names behind a component's. Text encoders may be CLIP as transformers names it or OpenCLIP, which fuses
//! three projections and transposes one.
//!
//! The tables go from diffusers' names to the others, because those are what a model's graphs ask for; block numbers are
//! counted from the list of tensors that is wanted, so that distilled models with fewer layers need no table of their own.

use std::collections::{BTreeMap, BTreeSet};

use crate::hub::Component;
use crate::weights::{Cut, Place, TensorSource};

/// In front of the UNet's names.
pub const UNET_PREFIXES: [&str; 4] = ["model.diffusion_model.", "", "diffusion_model.", "unet."];
/// In front of the VAE's names.
pub const VAE_PREFIXES: [&str; 3] = ["first_stage_model.", "", "vae."];
/// In front of transformers' names of the first text encoder.
const CLIP_PREFIXES: [&str; 5] = [
    "cond_stage_model.transformer.",
    "conditioner.embedders.0.transformer.",
    "cond_stage_model.clip_l.transformer.",
    "cond_stage_model.clip_h.transformer.",
    "text_encoder.",
];
/// In front of OpenCLIP's names of the only text encoder, of Stable Diffusion 2.
const OPEN_CLIP_PREFIXES: [&str; 2] = ["cond_stage_model.model.", "conditioner.embedders.0.model."];
/// In front of transformers' names of XL's second text encoder.
const CLIP_2_PREFIXES: [&str; 4] = [
    "conditioner.embedders.1.transformer.",
    "cond_stage_model.1.transformer.",
    "cond_stage_model.clip_g.transformer.",
    "text_encoder_2.",
];
/// In front of OpenCLIP's names of it.
const OPEN_CLIP_2_PREFIXES: [&str; 1] = ["conditioner.embedders.1.model."];

/// What training leaves in checkpoints: the running average of the UNet under flat names, schedules, losses.
const LEFT_OVER_PREFIXES: [&str; 12] = [
    "model_ema.",
    "betas",
    "alphas_cumprod",
    "sqrt_",
    "log_",
    "posterior_",
    "logvar",
    "loss.",
    "first_stage_model.loss.",
    "denoiser.",
    "embedding_manager",
    "edm_",
];
/// Likewise, at the end of names.
const LEFT_OVER_SUFFIXES: [&str; 3] = [".position_ids", "logit_scale", ".attn_mask"];
/// Tensors without numbers whose presence says something.
pub const MARKERS: [&str; 2] = ["v_pred", "ztsnr"];

/// Whether a tensor of a single file is of no use to any component.
#[must_use]
pub fn is_left_over(name: &str) -> bool {
    MARKERS.contains(&name)
        || LEFT_OVER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || LEFT_OVER_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// Where the tensors `wanted` of a component, by diffusers' names, are in a file, as far as it has them.
#[must_use]
pub fn places<'n>(
    component: Component,
    wanted: impl Iterator<Item = &'n str> + Clone,
    file: &dyn TensorSource,
) -> BTreeMap<String, Place> {
    let blocks = UnetBlocks::of(wanted.clone());
    let n_vae_blocks = count(wanted.clone(), "decoder.up_blocks.", 0);
    let mut found = BTreeMap::new();
    for name in wanted {
        let candidates = match component {
            Component::Unet => prefixed(&UNET_PREFIXES, &[blocks.ldm_name(name), Some(name.to_owned())]),
            Component::Vae => match tiny_vae_places(name) {
                Some(places) => places,
                None => prefixed(&VAE_PREFIXES, &[vae_name(name, n_vae_blocks), Some(name.to_owned())]),
            },
            Component::TextEncoder => text_places(name, &CLIP_PREFIXES, &OPEN_CLIP_PREFIXES),
            Component::TextEncoder2 => text_places(name, &CLIP_2_PREFIXES, &OPEN_CLIP_2_PREFIXES),
            _ => Vec::new(),
        };
        if let Some(place) = candidates.into_iter().find(|place| file.tensor(&place.stored).is_some()) {
            found.insert(name.to_owned(), place);
        }
    }
    found
}

/// Under which names, and how cut, the tensors of a component are written into a single file.
pub fn written<'n>(
    component: Component,
    is_xl: bool,
    is_open_clip: bool,
    wanted: impl Iterator<Item = &'n str> + Clone,
) -> Vec<Place> {
    let blocks = UnetBlocks::of(wanted.clone());
    let n_vae_blocks = count(wanted.clone(), "decoder.up_blocks.", 0);
    let whole = |stored| Place { stored, cut: Cut::Whole };
    let place = |name: &'n str| match component {
        Component::Unet => {
            whole(format!("{}{}", UNET_PREFIXES[0], blocks.ldm_name(name).unwrap_or_else(|| name.to_owned())))
        }
        Component::Vae => {
            let stored = vae_name(name, n_vae_blocks).unwrap_or_else(|| name.to_owned());
            whole(format!("{}{stored}", VAE_PREFIXES[0]))
        }
        Component::TextEncoder | Component::TextEncoder2 => {
            let short = name.strip_prefix("text_model.").unwrap_or(name);
            let open_clip = open_clip_names(short).into_iter().next().filter(|_| is_open_clip);
            match (open_clip, component, is_xl) {
                (Some((stored, cut)), Component::TextEncoder2, _) => {
                    Place { stored: format!("{}{stored}", OPEN_CLIP_2_PREFIXES[0]), cut }
                }
                (Some((stored, cut)), _, _) => Place { stored: format!("{}{stored}", OPEN_CLIP_PREFIXES[0]), cut },
                (None, _, true) => whole(format!("{}{name}", CLIP_PREFIXES[1])),
                (None, _, false) => whole(format!("{}{name}", CLIP_PREFIXES[0])),
            }
        }
        _ => whole(name.to_owned()),
    };
    wanted.map(place).collect()
}

/// A name as [`written`] gives it, without what stands in front of the component's names.
pub(super) fn without_prefix(component: Component, stored: &str) -> &str {
    let prefixes: &[&str] = match component {
        Component::Unet => &UNET_PREFIXES[..1],
        Component::TextEncoder | Component::TextEncoder2 => {
            &[CLIP_PREFIXES[0], CLIP_PREFIXES[1], OPEN_CLIP_PREFIXES[0], OPEN_CLIP_2_PREFIXES[0]]
        }
        _ => &[],
    };
    prefixes.iter().find_map(|prefix| stored.strip_prefix(prefix)).unwrap_or(stored)
}

/// The tensors of a component that no place uses, for a note. `places` are those in use.
#[must_use]
pub fn unused(component: Component, places: &BTreeMap<String, Place>, file: &dyn TensorSource) -> Vec<String> {
    let prefixes: Vec<&str> = match component {
        Component::Unet => UNET_PREFIXES.to_vec(),
        Component::Vae => VAE_PREFIXES.to_vec(),
        Component::TextEncoder => [&CLIP_PREFIXES[..], &OPEN_CLIP_PREFIXES].concat(),
        Component::TextEncoder2 => [&CLIP_2_PREFIXES[..], &OPEN_CLIP_2_PREFIXES].concat(),
        _ => Vec::new(),
    };
    let used: BTreeSet<&str> = places.values().map(|place| place.stored.as_str()).collect();
    let is_of_component = |name: &str| prefixes.iter().any(|prefix| !prefix.is_empty() && name.starts_with(prefix));
    let is_unused = |name: &&str| {
        is_of_component(name) && !used.contains(name) && !is_left_over(name) && !is_spare_text_tensor(component, name)
    };
    file.names().into_iter().filter(is_unused).map(str::to_owned).collect()
}

/// Stable Diffusion 2 was trained with one layer less than its text encoder's file has, and without the projection.
fn is_spare_text_tensor(component: Component, name: &str) -> bool {
    component == Component::TextEncoder && (name.contains(".resblocks.") || name.ends_with("text_projection"))
}

fn prefixed(prefixes: &[&str], names: &[Option<String>]) -> Vec<Place> {
    let names = || names.iter().flatten();
    let whole = |stored| Place { stored, cut: Cut::Whole };
    prefixes.iter().flat_map(|prefix| names().map(move |name| whole(format!("{prefix}{name}")))).collect()
}

/// How many numbers follow `start` in the names, from 0 to the largest; `skip` more segments are between.
fn count<'n>(names: impl Iterator<Item = &'n str>, start: &str, skip: usize) -> usize {
    let number = |name: &'n str| name.strip_prefix(start)?.split('.').nth(skip)?.parse::<usize>().ok();
    names.filter_map(number).map(|number| number.saturating_add(1)).max().unwrap_or(0)
}

/// The blocks of a UNet, which the original layout numbers through.
struct UnetBlocks {
    /// The residual layers of each block on the way down.
    down: Vec<usize>,
    /// Likewise on the way up, and whether the block has attention.
    up: Vec<(usize, bool)>,
}

impl UnetBlocks {
    fn of<'n>(names: impl Iterator<Item = &'n str> + Clone) -> Self {
        let layers = |start: String| count(names.clone(), &start, 0);
        let down = (0..count(names.clone(), "down_blocks.", 0)).map(|d| layers(format!("down_blocks.{d}.resnets.")));
        let up = (0..count(names.clone(), "up_blocks.", 0)).map(|u| {
            let attention = format!("up_blocks.{u}.attentions.");
            (layers(format!("up_blocks.{u}.resnets.")), names.clone().any(|name| name.starts_with(&attention)))
        });
        UnetBlocks { down: down.collect(), up: up.collect() }
    }

    /// The name in the original layout.
    fn ldm_name(&self, name: &str) -> Option<String> {
        const ENDS: [(&str, &str); 8] = [
            ("conv_in.", "input_blocks.0.0."),
            ("conv_norm_out.", "out.0."),
            ("conv_out.", "out.2."),
            ("time_embedding.linear_1.", "time_embed.0."),
            ("time_embedding.linear_2.", "time_embed.2."),
            ("time_embedding.cond_proj.", "time_embed.cond_proj."),
            ("add_embedding.linear_1.", "label_emb.0.0."),
            ("add_embedding.linear_2.", "label_emb.0.2."),
        ];
        if let Some((ours, theirs)) = ENDS.iter().find(|(ours, _)| name.starts_with(ours)) {
            return Some(format!("{theirs}{}", &name[ours.len()..]));
        }
        let (block, rest) = name.split_once('.')?;
        if block == "mid_block" {
            let (kind, rest) = rest.split_once('.')?;
            let (number, rest) = rest.split_once('.')?;
            return match (kind, number) {
                ("resnets", "0") => Some(format!("middle_block.0.{}", resnet_name(rest)?)),
                ("attentions", "0") => Some(format!("middle_block.1.{rest}")),
                ("resnets", "1") => Some(format!("middle_block.2.{}", resnet_name(rest)?)),
                _ => None,
            };
        }
        let (number, rest) = rest.split_once('.')?;
        let (kind, rest) = rest.split_once('.')?;
        let (layer, rest) = rest.split_once('.')?;
        let (number, layer): (usize, usize) = (number.parse().ok()?, layer.parse().ok()?);
        match block {
            // The first input block is the convolution in front; each block ends with its downsampler.
            "down_blocks" => {
                let before = 1 + self.down.get(..number)?.iter().map(|layers| layers + 1).sum::<usize>();
                match kind {
                    "resnets" => Some(format!("input_blocks.{}.0.{}", before + layer, resnet_name(rest)?)),
                    "attentions" => Some(format!("input_blocks.{}.1.{rest}", before + layer)),
                    "downsamplers" => {
                        let conv = rest.strip_prefix("conv.")?;
                        Some(format!("input_blocks.{}.0.op.{conv}", before + self.down.get(number)?))
                    }
                    _ => None,
                }
            }
            // The upsampler is in the last layer of its block, behind the attention if there is one.
            "up_blocks" => {
                let before = self.up.get(..number)?.iter().map(|(layers, _)| layers).sum::<usize>();
                match kind {
                    "resnets" => Some(format!("output_blocks.{}.0.{}", before + layer, resnet_name(rest)?)),
                    "attentions" => Some(format!("output_blocks.{}.1.{rest}", before + layer)),
                    "upsamplers" => {
                        let &(layers, has_attention) = self.up.get(number)?;
                        let last = before + layers.checked_sub(1)?;
                        Some(format!("output_blocks.{last}.{}.{rest}", 1 + usize::from(has_attention)))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// A residual block's tensor.
fn resnet_name(name: &str) -> Option<String> {
    const NAMES: [(&str, &str); 6] = [
        ("norm1.", "in_layers.0."),
        ("conv1.", "in_layers.2."),
        ("time_emb_proj.", "emb_layers.1."),
        ("norm2.", "out_layers.0."),
        ("conv2.", "out_layers.3."),
        ("conv_shortcut.", "skip_connection."),
    ];
    let (ours, theirs) = NAMES.iter().find(|(ours, _)| name.starts_with(ours))?;
    Some(format!("{theirs}{}", &name[ours.len()..]))
}

/// A VAE's tensor in the original layout; of its `n_blocks` on the way up the numbers count downwards there.
fn vae_name(name: &str, n_blocks: usize) -> Option<String> {
    const ATTENTION: [(&str, &str); 5] =
        [("group_norm.", "norm."), ("to_q.", "q."), ("to_k.", "k."), ("to_v.", "v."), ("to_out.0.", "proj_out.")];
    let (half, rest) = name.split_once('.')?;
    if !matches!(half, "encoder" | "decoder") {
        return None;
    }
    let rest = if let Some(rest) = rest.strip_prefix("conv_norm_out.") {
        format!("norm_out.{rest}")
    } else if let Some(rest) = rest.strip_prefix("mid_block.attentions.0.") {
        let (ours, theirs) = ATTENTION.iter().find(|(ours, _)| rest.starts_with(ours))?;
        format!("mid.attn_1.{theirs}{}", &rest[ours.len()..])
    } else if let Some(rest) = rest.strip_prefix("mid_block.resnets.") {
        let (number, rest) = rest.split_once('.')?;
        format!(
            "mid.block_{}.{}",
            number.parse::<usize>().ok()?.checked_add(1)?,
            rest.replace("conv_shortcut", "nin_shortcut")
        )
    } else {
        let (block, rest) = rest.split_once('.')?;
        let (number, rest) = rest.split_once('.')?;
        let number: usize = number.parse().ok()?;
        let (block, number) = match block {
            "down_blocks" => ("down", number),
            "up_blocks" => ("up", n_blocks.checked_sub(1)?.checked_sub(number)?),
            _ => return None,
        };
        if let Some(rest) = rest.strip_prefix("resnets.") {
            format!("{block}.{number}.block.{}", rest.replace("conv_shortcut", "nin_shortcut"))
        } else {
            let rest = rest
                .strip_prefix("downsamplers.0.")
                .map(|rest| format!("downsample.{rest}"))
                .or_else(|| Some(format!("upsample.{}", rest.strip_prefix("upsamplers.0.")?)))?;
            format!("{block}.{number}.{rest}")
        }
    };
    Some(format!("{half}.{rest}"))
}

/// Where a tensor of diffusers' `AutoencoderTiny` may be: its author's files number the layers through, in the decoder
/// from one on, behind a first layer without numbers, and have a file a half.
fn tiny_vae_places(name: &str) -> Option<Vec<Place>> {
    let (half, rest) = name.split_once(".layers.")?;
    let (number, rest) = rest.split_once('.')?;
    let number = number.parse::<usize>().ok()?.checked_add(usize::from(half == "decoder"))?;
    let bare = format!("{number}.{rest}");
    Some(prefixed(
        &[""],
        &[Some(name.to_owned()), Some(format!("taesd_{half}.{bare}")), Some(format!("vae.{name}")), Some(bare)],
    ))
}

/// Where a text encoder's tensor may be, by transformers' name.
fn text_places(name: &str, clip: &[&str], open_clip: &[&str]) -> Vec<Place> {
    let short = name.strip_prefix("text_model.");
    let mut places = prefixed(clip, &[Some(name.to_owned()), short.map(str::to_owned)]);
    let short = short.unwrap_or(name);
    for (stored, cut) in open_clip_names(short) {
        // stable-diffusion.cpp keeps OpenCLIP's text under the prefixes of transformers' names.
        for prefix in open_clip.iter().chain(clip) {
            places.push(Place { stored: format!("{prefix}{stored}"), cut: cut.clone() });
        }
    }
    places
}

/// OpenCLIP's names for a tensor of a text encoder.
fn open_clip_names(name: &str) -> Vec<(String, Cut)> {
    const WHOLE: [(&str, &str); 4] = [
        ("embeddings.token_embedding.weight", "token_embedding.weight"),
        ("embeddings.position_embedding.weight", "positional_embedding"),
        ("final_layer_norm.weight", "ln_final.weight"),
        ("final_layer_norm.bias", "ln_final.bias"),
    ];
    const LAYER: [(&str, &str); 5] = [
        ("layer_norm1.", "ln_1."),
        ("layer_norm2.", "ln_2."),
        ("mlp.fc1.", "mlp.c_fc."),
        ("mlp.fc2.", "mlp.c_proj."),
        ("self_attn.out_proj.", "attn.out_proj."),
    ];
    if name == "text_projection.weight" {
        // The matrix is the transpose of a linear layer's; under this name it is one.
        return vec![("text_projection".into(), Cut::Transposed), (name.to_owned(), Cut::Whole)];
    }
    if let Some((_, theirs)) = WHOLE.iter().find(|(ours, _)| *ours == name) {
        return vec![((*theirs).to_owned(), Cut::Whole)];
    }
    let Some((layer, rest)) = name.strip_prefix("encoder.layers.").and_then(|rest| rest.split_once('.')) else {
        return Vec::new();
    };
    let stored = |rest: String| format!("transformer.resblocks.{layer}.{rest}");
    if let Some((ours, theirs)) = LAYER.iter().find(|(ours, _)| rest.starts_with(ours)) {
        return vec![(stored(format!("{theirs}{}", &rest[ours.len()..])), Cut::Whole)];
    }
    for (part, ours) in ["self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."].into_iter().enumerate() {
        if let Some(end) = rest.strip_prefix(ours) {
            return vec![(stored(format!("attn.in_proj_{end}")), Cut::Rows { part, of: 3 })];
        }
    }
    Vec::new()
}
