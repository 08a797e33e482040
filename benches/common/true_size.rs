//! Stable Diffusion 1.5 at its true size, as names and shapes.

use darkroom::checkpoint::names;
use darkroom::graph::WeightSpec;
use darkroom::hub::published::Published;
use darkroom::hub::{Component, Source as _};
use darkroom::model;
use darkroom::model::SDVersion;
use darkroom::model::config::{ClipTextConfig, UNet2DConditionConfig, VaeConfig};
use pollster::block_on;

/// The tensors of a Stable Diffusion 1.5 in one file, and of a LoRA for it: of one rank, in all layers of the UNet's
/// transformers and of the text encoder.
pub fn sd15_with_lora(rank: usize) -> (Vec<WeightSpec>, Vec<WeightSpec>) {
    let published = Published::new(SDVersion::V1_5);
    let text = |path: &str| block_on(published.read_text(path)).unwrap();
    let unet = UNet2DConditionConfig::from_json(&text("unet/config.json"), "unet").unwrap();
    let clip = ClipTextConfig::from_json(&text("text_encoder/config.json"), "clip").unwrap();
    let vae = VaeConfig::from_json("AutoencoderKL", &text("vae/config.json"), "vae").unwrap();
    let (unet, clip) = (model::unet::weights(&unet).unwrap(), model::clip::weights(&clip).unwrap());
    let parts = [
        (Component::Unet, &unet),
        (Component::TextEncoder, &clip),
        (Component::Vae, &model::vae::weights(&vae).unwrap()),
    ];
    let mut checkpoint = Vec::new();
    for (component, specs) in parts {
        let names = names::written(component, false, false, specs.iter().map(|spec| spec.name.as_str()));
        checkpoint.extend(specs.iter().zip(names).map(|(spec, place)| {
            let mut shape = spec.shape.clone();
            if place.stored.contains(".attn_1.") && shape.len() == 2 {
                shape.extend([1, 1]);
            }
            WeightSpec { name: place.stored, shape }
        }));
    }
    let mut lora = Vec::new();
    let is_wanted =
        |spec: &&WeightSpec| spec.shape.len() > 1 && (spec.name.contains("attentions") || spec.name.contains("layers"));
    for (prefix, specs) in [("lora_unet", &unet), ("lora_te", &clip)] {
        for spec in specs.iter().filter(is_wanted) {
            let layer = spec.name.trim_end_matches(".weight").replace('.', "_");
            let mut add = |end: &str, first: usize, second: usize| {
                let mut shape = spec.shape.clone();
                (shape[0], shape[1]) = (first, second);
                lora.push(WeightSpec { name: format!("{prefix}_{layer}.{end}.weight"), shape });
            };
            add("lora_down", rank, spec.shape[1]);
            add("lora_up", spec.shape[0], rank);
        }
    }
    (checkpoint, lora)
}
