//! Recognises LoRAs and their kin by the names of their tensors: the form of each layer, the rank, the family.

use std::collections::{BTreeMap, BTreeSet};

use super::identity::{Family, View};

/// How a layer's difference is written down: the end of one of its names, and what the form is called. The rank is a side
/// of that tensor, by its number.
const FORMS: [(&str, &str, Option<usize>); 17] = [
    (".lora_down.weight", "lora", Some(0)),
    (".lora_A.weight", "lora", Some(0)),
    (".lora_A.default.weight", "lora", Some(0)),
    (".lora.down.weight", "lora", Some(0)),
    ("_lora.down.weight", "lora", Some(0)),
    (".lora_linear_layer.down.weight", "lora", Some(0)),
    (".hada_w1_b", "loha", Some(0)),
    (".lokr_w2_b", "lokr", Some(0)),
    (".lokr_w1_b", "lokr", Some(0)),
    (".lokr_w2", "lokr", None),
    (".on_input", "ia3", None),
    (".diff", "diff", None),
    (".w_norm", "norm", None),
    (".oft_blocks", "oft", None),
    (".oft_diag", "oft", None),
    (".a1.weight", "glora", None),
    (".set_weight", "set_weight", None),
];

/// What a LoRA's names tell.
pub(super) struct Found {
    /// The smallest and the largest rank.
    pub rank: Option<(usize, usize)>,
    /// The forms, by name.
    pub forms: Vec<&'static str>,
}

/// Whether it is a LoRA, and what of it.
pub(super) fn look(view: &View<'_>) -> Option<Found> {
    let mut forms = BTreeSet::new();
    let mut ranks = BTreeSet::new();
    for name in &view.names {
        let Some((_, form, side)) = FORMS.iter().find(|(end, ..)| name.ends_with(end)) else {
            if name.ends_with(".lora_mid.weight") || name.ends_with(".lora_mid") {
                forms.insert("locon");
            } else if name.ends_with(".dora_scale") || name.ends_with(".lora_magnitude_vector") {
                forms.insert("dora");
            }
            continue;
        };
        forms.insert(*form);
        let shape = view.file.tensor(name).map(|tensor| tensor.shape);
        ranks.extend(side.and_then(|side| shape?.get(side).copied()));
        // A kernel in the lower matrix makes it a LoCon.
        if *form == "lora" && shape.is_some_and(|shape| shape.len() == 4 && shape[2..] != [1, 1]) {
            forms.insert("locon");
        }
    }
    let rank = ranks.first().copied().zip(ranks.last().copied());
    (!forms.is_empty()).then(|| Found { rank, forms: forms.into_iter().collect() })
}

/// The family whose layers it changes.
pub(super) fn family(view: &View<'_>) -> Option<Family> {
    let is_second_encoder =
        |name: &str| ["lora_te2_", "text_encoder_2.", "lora_te1_"].iter().any(|start| name.starts_with(start));
    if view.any(|name| name.contains("double_blocks") || name.contains("single_transformer_blocks")) {
        return Some(Family::Other("Flux"));
    }
    if view.any(|name| name.contains("joint_blocks")) {
        return Some(Family::Other("Stable Diffusion 3"));
    }
    // Only XL has more than one transformer block in a place, an added embedding, or a second text encoder.
    let is_xl = |name: &str| {
        is_second_encoder(name)
            || ["label_emb_0", "label_emb.0", "add_embedding", "transformer_blocks_1_", "transformer_blocks.1."]
                .iter()
                .any(|part| name.contains(part))
    };
    if view.any(is_xl) {
        return Some(Family::Xl);
    }
    // What goes into the keys of the attention to the text is as wide as the text encoder.
    let width = view.names.iter().find_map(|name| {
        let is_key =
            name.contains("attn2_to_k") || name.contains("attn2.to_k") || name.contains("attn2.processor.to_k");
        let (_, form, _) = FORMS.iter().find(|(end, ..)| is_key && name.ends_with(end))?;
        let shape = view.file.tensor(name)?.shape;
        match *form {
            "lora" | "loha" | "diff" => shape.get(1).copied(),
            _ => None,
        }
    });
    match width? {
        768 => Some(Family::Sd1),
        1024 => Some(Family::Sd2),
        2048 => Some(Family::Xl),
        _ => None,
    }
}

/// The family that kohya's or Stability's metadata names.
pub(super) fn family_of_metadata(metadata: &BTreeMap<String, String>) -> Option<Family> {
    let base = metadata.get("ss_base_model_version").or_else(|| metadata.get("modelspec.architecture"))?;
    let base = base.to_ascii_lowercase();
    match base.as_str() {
        base if base.contains("sdxl") || base.contains("xl-v1") => Some(Family::Xl),
        base if base.contains("v2") => Some(Family::Sd2),
        base if base.contains("v1") => Some(Family::Sd1),
        base if base.contains("flux") => Some(Family::Other("Flux")),
        base if base.contains("sd3") => Some(Family::Other("Stable Diffusion 3")),
        _ => None,
    }
}
