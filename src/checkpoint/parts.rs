//! Components alone that are no UNet: VAEs, tiny ones, text encoders.

use super::identity::{Family, Identity, Kind, Layout, View};
use super::models::vae_prefix;
use super::others;
use crate::error::Remedy;
use crate::hub::Component;

/// A component alone that is no UNet.
pub(super) fn look(view: &View<'_>) -> Option<Identity> {
    tiny_vae(view).or_else(|| vae(view)).or_else(|| text_encoder(view))
}

/// TAESD or a half of it.
fn tiny_vae(view: &View<'_>) -> Option<Identity> {
    // diffusers numbers the decoder's layers from 0, its author from 1.
    const HALVES: [(&str, &str, &str, usize, Layout); 6] = [
        ("encoder", "encoder.layers.", "0.weight", 3, Layout::Diffusers),
        ("decoder", "decoder.layers.", "0.weight", 4, Layout::Diffusers),
        ("encoder", "taesd_encoder.", "0.weight", 3, Layout::Taesd),
        ("decoder", "taesd_decoder.", "1.weight", 4, Layout::Taesd),
        ("encoder", "", "0.weight", 3, Layout::Taesd),
        ("decoder", "", "1.weight", 4, Layout::Taesd),
    ];
    if !view.any(|name| name.ends_with(".conv.0.weight")) {
        return None;
    }
    let mut halves = Vec::new();
    let mut found = None;
    let mut latents = None;
    for (half, prefix, first, channels, layout) in HALVES {
        let shape = view.shape(&format!("{prefix}{first}"));
        let Some(&[width, ins, 3, 3]) = shape else { continue };
        // Without a prefix, what goes in tells which half it is: 3 colours, or latents.
        if prefix.is_empty() && (halves.contains(&half) || (half == "encoder") != (ins == channels && channels == 3)) {
            continue;
        }
        if half == "decoder" {
            latents = Some(ins);
        } else {
            let ends = |name: &&&str| name.strip_prefix(prefix).is_some_and(|rest| rest.matches('.').count() == 1);
            let last = view
                .names
                .iter()
                .filter(ends)
                .filter_map(|name| view.shape(name))
                .find(|shape| matches!(shape, &&[outs, ins, 3, 3] if ins == width && outs != width));
            latents = latents.or_else(|| last.and_then(|shape| shape.first().copied()));
        }
        halves.push(half);
        found = Some(layout);
    }
    let layout = Some(found?);
    let is_other = latents.is_some_and(|latents| latents != 4);
    let (family, obstacle, remedy) = match latents {
        Some(16) => (
            Some(Family::Other("sd3", "Stable Diffusion 3")),
            others::refuse("a tiny VAE of 16 channels (Stable Diffusion 3, Flux)"),
            None,
        ),
        _ => (None, "a tiny VAE is a part of a model".to_owned(), Some(Remedy::AsDecoder)),
    };
    halves.sort_unstable();
    let components = vec![Component::Vae];
    let tiny =
        Identity { family, layout, halves, components, is_refused: is_other, ..Identity::of_kind(Kind::TinyVae) };
    Some(Identity { obstacle: Some(obstacle), remedy, ..tiny })
}

/// A VAE of full size.
fn vae(view: &View<'_>) -> Option<Identity> {
    let prefix = vae_prefix(view)?;
    let channels = view.shape(&format!("{prefix}decoder.conv_in.weight"))?.get(1).copied();
    let is_ldm = view.starts(&format!("{prefix}decoder.mid.")) || view.starts(&format!("{prefix}decoder.up."));
    let layout = Some(if is_ldm { Layout::Ldm } else { Layout::Diffusers });
    let (variant, obstacle) = match channels {
        Some(4) | None => (None, "a VAE is a part of a model".to_owned()),
        Some(16) => (Some("16-channels"), others::refuse("a VAE of 16 channels (Stable Diffusion 3, Flux)")),
        Some(n) => (Some("other-channels"), others::refuse(&format!("a VAE of {n} channels"))),
    };
    let components = vec![Component::Vae];
    let is_refused = variant.is_some();
    let vae = Identity { variant, layout, components, is_refused, ..Identity::of_kind(Kind::Vae) };
    let remedy = (!is_refused).then_some(Remedy::AsVae);
    Some(Identity { obstacle: Some(obstacle), remedy, ..vae })
}

/// CLIP's or OpenCLIP's text side, or a whole CLIP.
fn text_encoder(view: &View<'_>) -> Option<Identity> {
    let name = view.names.iter().find(|name| name.ends_with("token_embedding.weight"))?;
    let width = view.shape(name)?.get(1).copied()?;
    let is_ldm = view.any(|name| name.contains("resblocks."));
    let layout = Some(if is_ldm { Layout::Ldm } else { Layout::Diffusers });
    let (family, variant, component) = match width {
        768 => (None, Some("clip-l"), Component::TextEncoder),
        1024 => (Some(Family::Sd2), Some("open-clip-h"), Component::TextEncoder),
        1280 => (Some(Family::Xl), Some("open-clip-g"), Component::TextEncoder2),
        _ => (None, None, Component::TextEncoder),
    };
    let (obstacle, remedy) = (Some("a text encoder is a part of a model".to_owned()), Some(Remedy::AsTextEncoder));
    let text = Identity { family, variant, layout, obstacle, remedy, ..Identity::of_kind(Kind::TextEncoder) };
    Some(Identity { components: vec![component], ..text })
}
