//! What is applied to a model: LoRAs, ControlNets, adapters, embeddings.

use std::collections::BTreeMap;

use super::identity::{Family, Identity, Kind, Layout, View};
use super::lora;

/// The most vectors that an embedding is taken to have; a weight matrix has more rows.
const MOST_VECTORS: usize = 1000;

/// What it is, where it is one of them.
pub(super) fn look(view: &View<'_>, metadata: &BTreeMap<String, String>) -> Option<Identity> {
    lora::look(view, metadata)
        .or_else(|| controlnet(view))
        .or_else(|| ip_adapter(view))
        .or_else(|| t2i_adapter(view))
        .or_else(|| bundle(view))
        .or_else(|| embedding(view))
}

fn steers(kind: Kind, what: &str) -> Identity {
    Identity { obstacle: Some(format!("{what} steers a model and is not one itself")), ..Identity::of_kind(kind) }
}

fn controlnet(view: &View<'_>) -> Option<Identity> {
    let find = |prefix: &'static str| {
        let ldm =
            view.has(&format!("{prefix}input_hint_block.0.weight")) || view.starts(&format!("{prefix}zero_convs.0."));
        let diffusers = view.has(&format!("{prefix}controlnet_cond_embedding.conv_in.weight"));
        (ldm || diffusers).then_some((prefix, if ldm { Layout::Ldm } else { Layout::Diffusers }))
    };
    let is_lora = view.has("lora_controlnet");
    let place = ["control_model.", "", "controlnet."].into_iter().find_map(find);
    let (prefix, layout) = match (place, is_lora) {
        (Some(place), _) => place,
        (None, true) => ("", Layout::Ldm),
        (None, false) => return None,
    };
    // A Control-LoRA has two small matrices in the place of one; the lower one is as wide as what goes in.
    let end = if is_lora { "attn2.to_k.down" } else { "attn2.to_k.weight" };
    let family = view.last_side(prefix, end).and_then(Family::of_context);
    let variant = match () {
        () if is_lora => Some("control-lora"),
        () if view.any(|name| name.ends_with("task_embedding")) => Some("union"),
        () => None,
    };
    let what = match variant {
        Some("control-lora") => "a Control-LoRA, which changes a model's own weights,",
        Some("union") => "a ControlNet for several tasks (union)",
        _ => "a ControlNet",
    };
    let is_refused = variant.is_some();
    Some(Identity { family, variant, layout: Some(layout), is_refused, ..steers(Kind::Controlnet, what) })
}

fn ip_adapter(view: &View<'_>) -> Option<Identity> {
    if !view.starts("image_proj.") && !view.starts("ip_adapter.") {
        return None;
    }
    let family = view.last_side("ip_adapter.", "to_k_ip.weight").and_then(Family::of_context);
    let variant = match () {
        () if view.any(|name| name.starts_with("ip_adapter.") && name.contains("lora")) => "faceid",
        () if view.has("image_proj.latents") => "plus",
        () if view.has("image_proj.proj.3.weight") => "full",
        () => "base",
    };
    Some(Identity { family, variant: Some(variant), ..steers(Kind::IpAdapter, "an IP-Adapter") })
}

fn t2i_adapter(view: &View<'_>) -> Option<Identity> {
    let prefix = ["adapter.", ""]
        .into_iter()
        .find(|prefix| view.has(&format!("{prefix}conv_in.weight")) && view.starts(&format!("{prefix}body.0.")))?;
    // Pixels of a square, 8 or for XL 16 wide, are its channels; of a grey picture, or of one in colour.
    let family = match view.shape(&format!("{prefix}conv_in.weight"))?.get(1) {
        Some(64 | 192) => Some(Family::Sd1),
        Some(256 | 768) => Some(Family::Xl),
        _ => None,
    };
    Some(Identity { family, ..steers(Kind::T2iAdapter, "a T2I-Adapter") })
}

/// Whether a tensor is named as words are that training made up: `<cat-toy>`.
fn is_word(name: &str) -> bool {
    name.trim().strip_prefix('<').and_then(|name| name.strip_suffix('>')).is_some_and(|name| !name.is_empty())
}

/// The embeddings of a LoRA's file without the LoRA.
fn bundle(view: &View<'_>) -> Option<Identity> {
    if view.names.is_empty() || view.any(|name| !name.starts_with(lora::EMBEDDINGS)) {
        return None;
    }
    let vectors = |name: &&str| match view.shape(name) {
        Some([n, _]) if *n <= MOST_VECTORS => *n,
        _ => 1,
    };
    let obstacle = "it has embeddings as they lie in a LoRA's file (bundle_emb.WORD.…), and no LoRA: take the LoRA that has \
                    them, or save the vectors of each word in a file of its own, under the name emb_params";
    Some(Identity {
        n_vectors: Some(view.names.iter().map(vectors).sum()),
        obstacle: Some(obstacle.to_owned()),
        is_refused: true,
        ..Identity::of_kind(Kind::Embedding)
    })
}

/// Vectors for a word.
fn embedding(view: &View<'_>) -> Option<Identity> {
    let vectors = |name: &str| match view.shape(name)? {
        [width] => Some((1, *width)),
        [n, width] if *n <= MOST_VECTORS => Some((*n, *width)),
        _ => None,
    };
    let mut obstacle = "an embedding is a word for the prompts of a model, not a model".to_owned();
    let (n_vectors, family) = if let (Some((n, _)), true) = (vectors("clip_l"), view.has("clip_g")) {
        (n, Some(Family::Xl))
    } else {
        let name = if view.has("emb_params") { "emb_params" } else { view.names.first()? };
        if view.names.len() != 1 && name != "emb_params" {
            return None;
        }
        let (n, width) = vectors(name)?;
        match width {
            768 => (n, Some(Family::Sd1)),
            1024 => (n, Some(Family::Sd2)),
            1280 => (n, Some(Family::Xl)),
            _ if name == "emb_params" || is_word(name) => {
                obstacle += &format!(
                    "; these vectors are {width} wide, and the text encoders of Stable Diffusion 1 take 768, of 2 1024, of XL \
                     768 and 1280"
                );
                (n, None)
            }
            _ => return None,
        }
    };
    let obstacle = Some(obstacle);
    Some(Identity { family, n_vectors: Some(n_vectors), obstacle, ..Identity::of_kind(Kind::Embedding) })
}
