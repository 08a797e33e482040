//! UNets of Stable Diffusion 1, 2 and XL with whatever comes with them in one file: family, variant, components, prediction,
//! and what stands in the way of drawing with them.

use std::collections::BTreeMap;

use super::identity::{Evidence, Family, Identity, Kind, Layout, Prediction, Task, View, said};
use super::names::{UNET_PREFIXES, VAE_PREFIXES};
use super::others;
use crate::hub::Component;

/// Where the UNet is: its prefix, and whether its names are the original layout's.
pub(super) fn unet_place(view: &View<'_>) -> Option<(&'static str, bool)> {
    UNET_PREFIXES.iter().find_map(|prefix| {
        if view.has(&format!("{prefix}input_blocks.0.0.weight")) {
            return Some((*prefix, true));
        }
        let is_diffusers = view.has(&format!("{prefix}conv_in.weight"))
            && view.has(&format!("{prefix}time_embedding.linear_1.weight"));
        is_diffusers.then_some((*prefix, false))
    })
}

pub(super) fn vae_prefix(view: &View<'_>) -> Option<&'static str> {
    VAE_PREFIXES.into_iter().find(|prefix| view.has(&format!("{prefix}decoder.conv_in.weight")))
}

/// Marks of weights in a quantised form that is not read.
const QUANTISED: [(&str, &str); 4] = [
    (".weight_scale", "integers with scales"),
    (".comfy_quant", "ComfyUI's quantised form"),
    (".absmax", "bitsandbytes"),
    (".qweight", "GPTQ"),
];

/// How many channels the first layer of Stable Diffusion 1, 2 and XL gives.
const PUBLISHED_WIDTH: usize = 320;

/// The family of a UNet of other sizes than the published ones: XL has an added embedding, 2 has matrices where 1 has
/// convolutions.
fn family_of_form(view: &View<'_>, prefix: &str, context: Option<usize>, label: Option<usize>) -> Option<Family> {
    context?;
    if label.is_some() {
        return Some(Family::Xl);
    }
    let name = view.names.iter().find(|name| name.starts_with(prefix) && name.ends_with(".proj_in.weight"))?;
    match view.shape(name)?.len() {
        2 => Some(Family::Sd2),
        4 => Some(Family::Sd1),
        _ => None,
    }
}

/// A UNet of Stable Diffusion 1, 2 or XL, with whatever comes with it.
pub(super) fn look(view: &View<'_>, metadata: &BTreeMap<String, String>) -> Option<Identity> {
    let (prefix, is_ldm) = unet_place(view)?;
    let conv_in = if is_ldm { "input_blocks.0.0.weight" } else { "conv_in.weight" };
    let &[width, channels, ..] = view.shape(&format!("{prefix}{conv_in}"))? else { return None };
    let context = view.last_side(prefix, "attn2.to_k.weight");
    let label = if is_ldm { "label_emb.0.0.weight" } else { "add_embedding.linear_1.weight" };
    let label = view.shape(&format!("{prefix}{label}")).and_then(|shape| shape.get(1)).copied();
    let deep =
        if is_ldm { "input_blocks.7.1.transformer_blocks." } else { "down_blocks.2.attentions.0.transformer_blocks." };
    let depth = view.count(&format!("{prefix}{deep}"));
    // Models that were distilled to a few steps take the guidance scale as an input.
    let guidance = if is_ldm { "time_embed.cond_proj.weight" } else { "time_embedding.cond_proj.weight" };
    let has = |name: &str| view.has(name);
    let mut task = Task::of_channels(channels);
    let mut variant = None;
    let mut obstacle = None;
    let family = match (context, label) {
        (Some(768), None) => Some(Family::Sd1),
        (Some(1024), None) => Some(Family::Sd2),
        (Some(1024), Some(768)) if view.any(|name| name.contains(".time_stack.") || name.contains(".temporal_")) => {
            task = Task::Video;
            Some(Family::Other("svd", "Stable Video Diffusion"))
        }
        (Some(1024), Some(_)) => {
            task = Task::Unclip;
            Some(Family::Sd2)
        }
        (Some(2048), Some(2816)) => {
            variant = match (depth, task) {
                (10, _) | (_, Task::Inpaint) => None,
                (4, _) => Some("ssd-1b"),
                (2, _) => Some("vega"),
                _ => Some("distilled"),
            };
            Some(Family::Xl)
        }
        (Some(2048), Some(5632)) => Some(Family::Other("kolors", "Kolors")),
        (Some(1280), Some(_)) => Some(Family::XlRefiner),
        _ => None,
    };
    // All of them are as wide; what is not has a family's form at sizes of its own.
    let is_published = family.is_some() && width == PUBLISHED_WIDTH;
    let family = family.or_else(|| family_of_form(view, prefix, context, label));
    let variant = if has("edm_vpred.sigma_max") || has("edm_vpred.sigma_min") {
        obstacle = Some("this is CosXL, whose noise levels (EDM) are not supported: use an XL model".into());
        Some("cosxl")
    } else if has("edm_mean") || has("edm_std") {
        obstacle = Some(
            "this is Playground 2.5 in one file, whose noise levels (EDM) are described in its folder alone: use \
             playgroundai/playground-v2.5-1024px-aesthetic"
                .into(),
        );
        Some("playground-v2.5")
    } else if has("cc_projection.weight") {
        obstacle = Some("this is Zero123, which turns an object in a picture: use a model for text to image".into());
        Some("zero123")
    } else if task == Task::TextToImage && has(&format!("{prefix}{guidance}")) {
        Some("lcm")
    } else {
        variant.or_else(|| family.is_some().then(|| task.id()))
    };
    let quantised = QUANTISED.iter().find(|(end, _)| view.any(|name| name.starts_with(prefix) && name.ends_with(end)));
    match (family, task) {
        _ if obstacle.is_some() => {}
        (Some(Family::Other(_, name)), _) => obstacle = Some(others::refuse(name)),
        (Some(Family::XlRefiner), _) => {
            obstacle =
                Some("this is XL's refiner, which only works on what the base model began: use the base model".into());
        }
        (_, Task::TextToImage | Task::Inpaint) => {
            obstacle = quantised.map(|(_, form)| {
                format!(
                    "its weights are quantised ({form}), which is not read: take the f16, bf16, fp8 or GGUF file of it"
                )
            });
        }
        (_, task) => {
            let what = format!("its UNet takes {channels} channels, for {}", task.name());
            obstacle = Some(format!("{what}: models for text to image (4) and inpainting (9) can be drawn with"));
        }
    }
    let mut components = vec![Component::Unet];
    if vae_prefix(view).is_some() {
        components.push(Component::Vae);
    }
    components.extend(text_encoders(view, family));
    components.sort();
    let kind = if components.len() > 1 { Kind::Checkpoint } else { Kind::Unet };
    // Quantised weights are told what they predict like others; what is no model for pictures is not.
    let prediction = match obstacle.is_none() || quantised.is_some() {
        true => prediction_of(view, metadata, family, task),
        false => None,
    };
    let zero_snr = has("ztsnr") || said(metadata, "ss_zero_terminal_snr").as_deref() == Some("true");
    let layout = Some(if is_ldm { Layout::Ldm } else { Layout::Diffusers });
    let is_refused = obstacle.is_some();
    let model = Identity {
        family,
        variant,
        layout,
        components,
        prediction,
        zero_snr,
        obstacle,
        is_refused,
        is_published,
        ..Identity::of_kind(kind)
    };
    Some(Identity { task: Some(task), ..model })
}

/// What the file itself says about its prediction. Stable Diffusion 2 for text to image says nothing in its names.
fn prediction_of(
    view: &View<'_>,
    metadata: &BTreeMap<String, String>,
    family: Option<Family>,
    task: Task,
) -> Option<(Prediction, Evidence)> {
    if view.has("v_pred") {
        return Some((Prediction::Velocity, Evidence::Marker));
    }
    if let Some(prediction) = prediction_of_metadata(metadata) {
        return Some((prediction, Evidence::Metadata));
    }
    match (family?, task) {
        (Family::Sd2, Task::TextToImage) => None,
        (Family::Sd2, _) => Some((Prediction::Epsilon, Evidence::Channels)),
        _ => Some((Prediction::Epsilon, Evidence::Family)),
    }
}

/// What the metadata says: Stability's `modelspec`, ComfyUI's word in it, kohya's own.
fn prediction_of_metadata(metadata: &BTreeMap<String, String>) -> Option<Prediction> {
    for key in ["modelspec.prediction_type", "modelspec.predict_key"] {
        match said(metadata, key).as_deref() {
            Some("epsilon" | "eps") => return Some(Prediction::Epsilon),
            Some("v" | "v_prediction" | "v-prediction") => return Some(Prediction::Velocity),
            _ => {}
        }
    }
    let architecture = said(metadata, "modelspec.architecture").unwrap_or_default();
    match architecture.split('/').next() {
        Some("stable-diffusion-v2-768-v") => return Some(Prediction::Velocity),
        Some("stable-diffusion-v2-512") => return Some(Prediction::Epsilon),
        _ => {}
    }
    match said(metadata, "ss_v_parameterization").as_deref() {
        Some("true") => Some(Prediction::Velocity),
        Some("false") => Some(Prediction::Epsilon),
        _ => None,
    }
}

/// In front of the names of a checkpoint's first text encoder.
pub(super) const TEXT_STARTS: [&str; 4] =
    ["cond_stage_model.", "conditioner.embedders.0.", "text_encoder.", "text_encoders.clip_l."];

/// In front of those of the second one, which are more exact.
pub(super) const TEXT_2_STARTS: [&str; 6] = [
    "conditioner.embedders.1.",
    "cond_stage_model.1.",
    "cond_stage_model.clip_g.",
    "text_encoder_2.",
    "text_encoders.clip_g.",
    "cond_stage_model.text_encoder_2.",
];

/// The text encoders that a checkpoint has. The refiner's only one is XL's second.
pub(super) fn text_encoders(view: &View<'_>, family: Option<Family>) -> Vec<Component> {
    let is_text = |starts: &[&str], but: &[&str]| {
        view.any(|name| {
            name.ends_with("token_embedding.weight")
                && starts.iter().any(|start| name.starts_with(start))
                && !but.iter().any(|start| name.starts_with(start))
        })
    };
    let mut found = Vec::new();
    if is_text(&TEXT_STARTS, &TEXT_2_STARTS) {
        let is_refiner = family == Some(Family::XlRefiner);
        found.push(if is_refiner { Component::TextEncoder2 } else { Component::TextEncoder });
    }
    if is_text(&TEXT_2_STARTS, &[]) {
        found.push(Component::TextEncoder2);
    }
    found.dedup();
    found
}
