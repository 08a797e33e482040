//! Checkpoints whose names are not where they are looked for: what a training program saved around a model (`module.`,
//! `state_dict.`), and files that have a UNet's running average (EMA) in place of the UNet. They are told apart from a VAE or
//! a text encoder alone, and are not read.

use super::identity::{Family, Identity, Kind, View};
use super::models::{text_encoders, vae_prefix};
use super::names::{UNET_PREFIXES, VAE_PREFIXES};
use crate::hub::Component;

/// A UNet's first layer and its embedding of the time, in both layouts: every UNet has the tensor of one of them.
const UNET_SIGNS: [&str; 2] = ["input_blocks.0.0.weight", "time_embedding.linear_1.weight"];

/// A VAE's first layer.
const VAE_SIGN: &str = "decoder.conv_in.weight";

/// What training programs put in front of all names.
const WRAPPERS: [&str; 6] = ["module.", "_orig_mod.", "state_dict.", "model_state_dict.", "model.", "ema_model."];

/// In front of the names of the average, which have lost their dots.
const EMA_PREFIX: &str = "model_ema.";

/// What a file with the average alone is called among the variants of its family.
pub(super) const EMA_ONLY: &str = "ema-only";

/// The most characters of a prefix that are shown.
const MAX_SHOWN: usize = 60;

/// What it is, where it is one of them: `view` has no UNet under the names that are read.
pub(super) fn look(view: &View<'_>) -> Option<Identity> {
    average(view).or_else(|| wrapped(view))
}

/// A UNet whose average alone was kept.
fn average(view: &View<'_>) -> Option<Identity> {
    let is_unet = |name: &str| {
        name.strip_prefix(EMA_PREFIX).is_some_and(|flat| UNET_SIGNS.iter().any(|sign| flat.ends_with(&flattened(sign))))
    };
    if !view.any(is_unet) {
        return None;
    }
    let family = view.last_side(EMA_PREFIX, &flattened("attn2.to_k.weight")).and_then(Family::of_context);
    let mut components = text_encoders(view, family);
    components.extend(vae_prefix(view).map(|_| Component::Vae));
    components.sort();
    let kind = if components.is_empty() { Kind::Unet } else { Kind::Checkpoint };
    let obstacle = "it has only the EMA of a UNet (model_ema.…), the running average that training keeps, which is not read: \
                    take the file of it with the UNet's own weights (model.diffusion_model.…), often called pruned or \
                    non-EMA, or write the average in their place with the program that trained it";
    let ema = Identity { family, variant: Some(EMA_ONLY), components, ..Identity::of_kind(kind) };
    Some(Identity { obstacle: Some(obstacle.to_owned()), is_refused: true, ..ema })
}

fn flattened(name: &str) -> String {
    name.replace('.', "")
}

/// A model with something in front of its names.
fn wrapped(view: &View<'_>) -> Option<Identity> {
    let of_unet = |name: &'_ str| {
        let sign = UNET_SIGNS.iter().find(|sign| name.ends_with(**sign))?;
        // Other networks embed the time, too, and have no such first layer beside it.
        let is_unet = *sign == UNET_SIGNS[0] || view.has(&name.replace(sign, "conv_in.weight"));
        if !is_unet {
            return None;
        }
        wrapper(name, sign, &UNET_PREFIXES)
    };
    let of_vae = |name: &'_ str| {
        let prefix = wrapper(name, VAE_SIGN, &VAE_PREFIXES)?;
        WRAPPERS.contains(&prefix.as_str()).then_some(prefix)
    };
    let unet = view.names.iter().find_map(|name| of_unet(name));
    let (kind, components, of, prefix) = match unet {
        Some(prefix) => (Kind::Checkpoint, vec![Component::Unet], "UNet", prefix),
        None => (Kind::Unknown, Vec::new(), "VAE", view.names.iter().find_map(|name| of_vae(name))?),
    };
    let shown: String = prefix.chars().take(MAX_SHOWN).collect();
    let obstacle = format!(
        "the names of its {of} begin with one {shown:?} too many, put there by the program that saved it, and are not read so: \
         save it again without that, or take a file that was saved as a model"
    );
    Some(Identity { components, obstacle: Some(obstacle), is_refused: true, ..Identity::of_kind(kind) })
}

/// What stands in front of a name besides the prefixes that are known.
fn wrapper(name: &str, sign: &str, known: &[&str]) -> Option<String> {
    let prefix = name.strip_suffix(sign)?;
    let known = known.iter().filter(|known| prefix.ends_with(**known)).max_by_key(|known| known.len())?;
    let prefix = &prefix[..prefix.len() - known.len()];
    (prefix.ends_with('.')).then(|| prefix.to_owned())
}
