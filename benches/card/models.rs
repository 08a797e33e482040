//! The components that are timed, by name: those that people draw with, and a small one for software adapters.

use darkroom::bench::{Case, Part, Sizes};
use serde_json::{Value, json};

use crate::Outcome;

macro_rules! config {
    ($path:literal) => {
        include_str!(concat!("../../src/model/published/", $path, ".json"))
    };
}

/// Names, with what is drawn and the same component's name in PyTorch's script.
pub const NAMES: &str = "sd15-unet sd15-unet-256 sd15-vae sd15-text sd21-unet sd21-text xl-unet xl-vae xl-text xl-text2 turbo-unet \
                         narrow-unet small-vae";

pub struct Model {
    pub case: Case,
    /// In words.
    pub what: &'static str,
    /// What `peer.py` calls the same.
    pub peer: Option<&'static str>,
}

pub fn model(name: &str) -> Outcome<Model> {
    let unet = |config: &str, what, batch, side: usize, peer| {
        let case = Case::new(Part::Unet, config, Sizes { batch, height: side / 8, width: side / 8 });
        Ok::<_, darkroom::Error>(Model { case: case?, what, peer })
    };
    let vae = |config, what, side: usize, peer| {
        let case = Case::new(Part::VaeDecoder, config, Sizes { batch: 1, height: side / 8, width: side / 8 });
        Ok::<_, darkroom::Error>(Model { case: case?, what, peer })
    };
    let text = |config, what| {
        let case = Case::new(Part::TextEncoder, config, Sizes { batch: 2, height: 1, width: 1 });
        Ok::<_, darkroom::Error>(Model { case: case?, what, peer: None })
    };
    Ok(match name {
        "sd15-unet" => unet(config!("v1-5/unet"), "SD 1.5, a step at 512x512, batch 2", 2, 512, Some("sd15-unet"))?,
        "sd15-unet-256" => unet(config!("v1-5/unet"), "SD 1.5, a step at 256x256, batch 2", 2, 256, None)?,
        "sd21-unet" => unet(config!("v2-1/unet"), "SD 2.1, a step at 768x768, batch 2", 2, 768, Some("sd21-unet"))?,
        "xl-unet" => unet(config!("xl/unet"), "XL, a step at 1024x1024, batch 2", 2, 1024, Some("xl-unet"))?,
        "turbo-unet" => {
            unet(config!("turbo/unet"), "XL Turbo, a step at 512x512, batch 1", 1, 512, Some("turbo-unet"))?
        }
        "sd15-vae" => vae(config!("v1-5/vae"), "SD 1.5, VAE decode to 512x512", 512, Some("sd15-vae"))?,
        "xl-vae" => vae(config!("xl/vae"), "XL, VAE decode to 1024x1024", 1024, Some("xl-vae"))?,
        "sd15-text" => text(config!("v1-5/text_encoder"), "SD 1.5, text encoder, batch 2")?,
        "sd21-text" => text(config!("v2-1/text_encoder"), "SD 2.1, text encoder, batch 2")?,
        "xl-text" => text(config!("xl/text_encoder"), "XL, first text encoder, batch 2")?,
        "xl-text2" => text(config!("xl/text_encoder_2"), "XL, second text encoder, batch 2")?,
        // SD 1.5's topology at a fifth of its width, for adapters that are processors.
        "narrow-unet" => {
            let mut config: Value = serde_json::from_str(config!("v1-5/unet"))?;
            config["block_out_channels"] = json!([64, 128, 256, 256]);
            unet(
                &config.to_string(),
                "SD 1.5's topology at width 64, a step at 64x64, batch 2",
                2,
                64,
                Some("narrow-unet"),
            )?
        }
        "small-vae" => {
            let mut config: Value = serde_json::from_str(config!("v1-5/vae"))?;
            config["block_out_channels"] = json!([32, 64, 64, 64]);
            vae(&config.to_string(), "SD 1.5's VAE at width 32, decode to 64x64", 64, None)?
        }
        _ => return Err(format!("{name} is none of {NAMES}").into()),
    })
}
