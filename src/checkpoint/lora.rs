//! LoRAs and their kin. Here they are recognised by the names of their tensors: the format, the ranks, the parts of a model
//! that they change, and the family. [`LoraFile`] opens one and fits it to a model.

mod layers;
mod merged;
mod open;
mod scale;
mod table;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use self::layers::EMBEDDINGS;
pub use self::merged::WithLoras;
pub use self::open::{LoraFile, family_of};
use super::identity::{Family, Identity, Kind, Layout, View, said};

/// A format, by the end of a name: what it is called, and the side of that tensor that is the rank, where it tells.
const FORMS: [(&str, &str, Option<usize>); 23] = [
    (".lora_down.weight", "kohya", Some(0)),
    (".lora_A.weight", "peft", Some(0)),
    (".lora.down.weight", "diffusers", Some(0)),
    ("_lora.down.weight", "diffusers", Some(0)),
    (".lora_linear_layer.down.weight", "diffusers", Some(0)),
    (".hada_w1_b", "loha", Some(0)),
    (".lokr_w2_b", "lokr", Some(0)),
    (".lokr_w1_b", "lokr", Some(0)),
    (".lokr_w2", "lokr", None),
    (".lokr_w1", "lokr", None),
    (".on_input", "ia3", None),
    (".diff", "full", None),
    (".diff_b", "full", None),
    (".w_norm", "full", None),
    (".oft_blocks", "oft", None),
    (".oft_diag", "oft", None),
    (".boft_blocks", "oft", None),
    (".oft_R.weight", "oft", None),
    (".boft_R", "oft", None),
    (".boft_s", "oft", None),
    (".a1.weight", "glora", None),
    (".set_weight", "set", None),
    (".weight_decomp", "full", None),
];

/// The same of PEFT where the adapter has a name, which stands between this and the end.
const NAMED_FORMS: [(&str, &str, Option<usize>); 4] =
    [(".lora_A.", "peft", Some(0)), (".oft_R.", "oft", None), (".boft_R.", "oft", None), (".boft_s.", "oft", None)];

/// Formats that are not read.
const REFUSED: [&str; 3] = ["oft", "glora", "set"];

/// In front of a layer's path: the part of the model that it belongs to. The first that fits counts; without a prefix it is
/// the UNet's.
const PARTS: [(&str, &str); 13] = [
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te3_", "text_encoder_3"),
    ("lora_te_", "text_encoder"),
    ("lycoris_text_model", "text_encoder"),
    ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder.", "text_encoder"),
    ("text_encoders.clip_l.", "text_encoder"),
    ("text_encoders.clip_g.", "text_encoder_2"),
    ("text_encoders.", "text_encoder_3"),
    ("transformer.", "transformer"),
    ("lora_transformer_", "transformer"),
    ("lora_prior_", "prior"),
];

/// Names inside the paths of other families' layers.
const OTHERS: [(&str, Family); 6] = [
    ("double_blocks", Family::Other("flux", "Flux")),
    ("single_transformer_blocks", Family::Other("flux", "Flux")),
    ("single_blocks", Family::Other("flux", "Flux")),
    ("joint_blocks", Family::Other("sd3", "Stable Diffusion 3")),
    ("cross_attn_norm", Family::Other("wan", "Wan")),
    ("img_mod", Family::Other("qwen-image", "Qwen-Image")),
];

/// What a LoRA consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraFacts {
    /// How its layers are written down: `kohya`, `peft`, `diffusers`, `loha`, `lokr`, `ia3`, `full`, `oft`, `glora`, `set`.
    pub format: &'static str,
    /// Whose names its layers have; `None` where the family is another.
    pub spelling: Option<Layout>,
    /// The rank that most layers have.
    pub rank: Option<usize>,
    /// All ranks, smallest first.
    pub ranks: Vec<usize>,
    /// The parts of a model that it changes: `unet`, `text_encoder`, `text_encoder_2`, `transformer`.
    pub parts: Vec<&'static str>,
    /// The number of layers that it changes.
    pub n_layers: usize,
    /// Whether convolutions have kernels of their own (LoCon).
    pub has_kernels: bool,
    /// Whether it also changes magnitudes (DoRA).
    pub is_dora: bool,
    /// Vectors that come along for words of the prompt (`bundle_emb`).
    pub n_embeddings: usize,
}

/// Whether it is a LoRA, and what of it.
pub(super) fn look(view: &View<'_>, metadata: &BTreeMap<String, String>) -> Option<Identity> {
    let facts = facts(view)?;
    let family = family(view, metadata);
    let facts = match family {
        Some(Family::Other(..)) => {
            // Another family's only model is called so, whatever the prefix.
            let rename = |part: &'static str| if part == "unet" { "transformer" } else { part };
            LoraFacts { spelling: None, parts: facts.parts.into_iter().map(rename).collect(), ..facts }
        }
        _ => facts,
    };
    let (obstacle, is_refused) = match family {
        _ if REFUSED.contains(&facts.format) => {
            (format!("its form ({}) is not read: LoRA, LoCon, LoHa, LoKr, IA3 and DoRA are", facts.format), true)
        }
        Some(Family::Other(_, name)) => {
            (format!("it is a LoRA for {name}: Stable Diffusion 1, 2 and XL can be drawn with"), true)
        }
        Some(family) => (format!("a LoRA is applied to a model; this one is for {}", family.name()), false),
        None => ("a LoRA is applied to a model; it does not say to which".into(), false),
    };
    let lora = Identity { family, lora: Some(facts), is_refused, ..Identity::of_kind(Kind::Lora) };
    Some(Identity { obstacle: Some(obstacle), ..lora })
}

/// The end of a tensor's name that tells its format, with the format: of all ends that fit, the longest is the most exact.
fn form(name: &str) -> Option<(&str, &'static str, Option<usize>)> {
    let known = FORMS.iter().filter(|(end, ..)| name.ends_with(end)).max_by_key(|(end, ..)| end.len());
    let named = || {
        NAMED_FORMS.iter().find_map(|(infix, format, side)| {
            let at = name.rfind(infix)?;
            let rest = &name[at + infix.len()..];
            let adapter = rest.strip_suffix(".weight").unwrap_or(rest);
            (!adapter.is_empty() && !adapter.contains('.')).then_some((&name[at..], *format, *side))
        })
    };
    known.map(|(end, format, side)| (&name[name.len() - end.len()..], *format, *side)).or_else(named)
}

fn part(name: &str) -> &'static str {
    let name = name.strip_prefix("base_model.model.").unwrap_or(name);
    PARTS.iter().find(|(start, _)| name.starts_with(start)).map_or("unet", |(_, part)| part)
}

fn facts(view: &View<'_>) -> Option<LoraFacts> {
    let mut formats: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut ranks: BTreeMap<usize, usize> = BTreeMap::new();
    let mut parts = BTreeSet::new();
    let mut layers = BTreeSet::new();
    let (mut has_kernels, mut is_dora, mut n_embeddings) = (false, false, 0);
    for &name in &view.names {
        is_dora |= name.ends_with(".dora_scale") || name.contains(".lora_magnitude_vector");
        n_embeddings += usize::from(name.starts_with(EMBEDDINGS));
        let Some((end, format, side)) = form(name) else { continue };
        *formats.entry(format).or_default() += 1;
        parts.insert(part(name));
        layers.insert(&name[..name.len() - end.len()]);
        let shape = view.shape(name).unwrap_or_default();
        if let Some(rank) = side.and_then(|side| shape.get(side).copied()) {
            *ranks.entry(rank).or_default() += 1;
        }
        has_kernels |= shape.len() == 4 && shape[2..] != [1, 1];
    }
    // Norms may be given whole beside matrices of any format.
    let most = |(_, n): &(&&'static str, &usize)| **n;
    let format = formats.iter().filter(|(format, _)| **format != "full").max_by_key(most).map(|(format, _)| *format);
    let format = format.or_else(|| formats.contains_key("full").then_some("full"))?;
    let is_ldm = |name: &str| {
        ["input_blocks", "output_blocks", "middle_block", "label_emb"].iter().any(|block| name.contains(block))
    };
    Some(LoraFacts {
        format,
        spelling: Some(if view.any(is_ldm) { Layout::Ldm } else { Layout::Diffusers }),
        rank: ranks.iter().max_by_key(|(rank, n)| (**n, **rank)).map(|(rank, _)| *rank),
        ranks: ranks.into_keys().collect(),
        parts: ["unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3", "prior"]
            .into_iter()
            .filter(|part| parts.contains(part))
            .collect(),
        n_layers: layers.len(),
        has_kernels,
        is_dora,
        n_embeddings,
    })
}

/// The family whose layers it changes: by other families' names, by shapes, by names that only XL has, by what the metadata
/// says, by names alone.
fn family(view: &View<'_>, metadata: &BTreeMap<String, String>) -> Option<Family> {
    if let Some((_, family)) = OTHERS.iter().find(|(word, _)| view.any(|name| name.contains(word))) {
        return Some(*family);
    }
    // The width of the text that attention reads is that of the model. Some programs write `lora_te1_` for every family.
    let context = view.names.iter().find_map(|name| context_width(view, name));
    if let Some(family) = context.and_then(Family::of_context) {
        return Some(family);
    }
    // Only XL has more than one transformer block in a place, an added embedding, or a second text encoder.
    let is_xl = |name: &str| {
        ["lora_te1_", "lora_te2_", "text_encoder_2."].iter().any(|start| name.starts_with(start))
            || ["label_emb_0", "label_emb.0", "add_embedding", "transformer_blocks_1_", "transformer_blocks.1."]
                .iter()
                .any(|part| name.contains(part))
    };
    if view.any(is_xl) {
        return Some(Family::Xl);
    }
    family_of_metadata(metadata)
        .or_else(|| view.names.iter().find_map(|name| text_width(view, name)).and_then(Family::of_context))
        .or_else(|| family_of_names(view))
}

/// How wide what goes into the keys of the attention to the text is, which is as wide as the text encoder.
fn context_width(view: &View<'_>, name: &str) -> Option<usize> {
    if !["attn2_to_k", "attn2.to_k", "attn2.processor.to_k"].iter().any(|key| name.contains(key)) {
        return None;
    }
    let (end, format, _) = form(name)?;
    let columns = |name: &str| view.shape(name)?.get(1).copied();
    match format {
        "kohya" | "peft" | "diffusers" | "loha" | "full" => columns(name),
        // The product of both factors' columns.
        "lokr" => {
            let layer = name.strip_suffix(end)?;
            let factor =
                |which: &str| columns(&format!("{layer}.{which}")).or_else(|| columns(&format!("{layer}.{which}_b")));
            factor("lokr_w1")?.checked_mul(factor("lokr_w2")?)
        }
        _ => None,
    }
}

/// How wide a layer of the only text encoder is.
fn text_width(view: &View<'_>, name: &str) -> Option<usize> {
    let is_text = name.starts_with("lora_te_") || name.starts_with("text_encoder.");
    let (_, format, _) = form(name).filter(|_| is_text && name.contains("q_proj"))?;
    matches!(format, "kohya" | "peft" | "diffusers" | "loha").then(|| view.shape(name)?.get(1).copied())?
}

/// The family that kohya's or Stability's metadata names.
fn family_of_metadata(metadata: &BTreeMap<String, String>) -> Option<Family> {
    let base = said(metadata, "ss_base_model_version").or_else(|| said(metadata, "modelspec.architecture"))?;
    match base.as_str() {
        base if base.contains("sdxl") || base.contains("xl-v1") => Some(Family::Xl),
        base if base.contains("flux") => Some(Family::Other("flux", "Flux")),
        base if base.contains("sd3") || base.contains("stable-diffusion-3") => {
            Some(Family::Other("sd3", "Stable Diffusion 3"))
        }
        base if base.contains("v2") => Some(Family::Sd2),
        base if base.contains("v1") => Some(Family::Sd1),
        _ => None,
    }
}

/// XL has no attention in its first block: what changes it there is for an older family, and by far most such files are for
/// the first.
fn family_of_names(view: &View<'_>) -> Option<Family> {
    let is_first = |name: &str| name.contains("down_blocks_0_attentions") || name.contains("down_blocks.0.attentions");
    view.any(is_first).then_some(Family::Sd1)
}
