//! Whether what is asked for can be drawn: every setting against its limits, with what would work.

use super::{
    ClipSkipCounting, MAX_CONDITIONED_SIDE, MAX_COUNT, MAX_GUIDANCE_SCALE, MAX_MASK_BLUR, MAX_SIDE, MAX_STEPS,
    SDConfig, loras,
};
use crate::error::{Error, Result};
use crate::model::version::SDVersion;

/// Pixels that one latent stands for, along each side, in every published version.
const VAE_FACTOR: usize = 8;

/// Which sides of pictures a model draws, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SideRule {
    /// Sides are multiples of this many pixels, the VAE's factor times the UNet's down-sampling: what models are at their
    /// best at.
    pub multiple: usize,
    /// With `any_size` they are multiples of this many, the VAE's factor alone.
    pub any_multiple: usize,
}

impl SideRule {
    /// That of a version.
    #[must_use]
    pub fn of(version: SDVersion) -> Self {
        SideRule { multiple: version.multiple_of(), any_multiple: VAE_FACTOR }
    }

    /// What sides are multiples of, with or without `any_size`.
    #[must_use]
    pub fn multiple(self, any_size: bool) -> usize {
        if any_size { self.any_multiple } else { self.multiple }
    }
}

impl SDConfig {
    /// Checks every setting against the version's own geometry.
    ///
    /// # Errors
    /// [`Error::Request`] with the first setting that cannot be drawn and what would work.
    pub fn validate(&self) -> Result<()> {
        self.validate_for(SideRule::of(self.version))
    }

    /// Checks every setting for a loaded model: a folder with other weights than the version's may have another rule of
    /// sides.
    ///
    /// # Errors
    /// [`Error::Request`] with the first setting that cannot be drawn and what would work.
    pub fn validate_for(&self, sides: SideRule) -> Result<()> {
        check_side("width", self.width, sides, self.any_size)?;
        check_side("height", self.height, sides, self.any_size)?;
        check_count("steps", self.steps, MAX_STEPS)?;
        check_real("guidance scale", self.guidance_scale, MAX_GUIDANCE_SCALE)?;
        check_real("strength", self.strength, 1.0)?;
        check_real("eta", self.eta, 1.0)?;
        check_real("mask blur", self.mask_blur, MAX_MASK_BLUR)?;
        if let Some(padding) = self.padding_mask_crop.filter(|padding| *padding > MAX_SIDE) {
            return refuse("padding mask crop", padding, format!("use 0 to {MAX_SIDE} pixels"));
        }
        check_count("count", self.count, MAX_COUNT)?;
        self.check_seed()?;
        check_real("variation strength", self.variation.map_or(0.0, |variation| variation.strength), 1.0)?;
        loras::check(&self.loras)?;
        self.check_clip_skip()?;
        self.check_size_conditioning()
    }

    pub(super) fn check_seed(&self) -> Result<()> {
        let n_more = (self.count as u64).saturating_sub(1);
        // The one that counts.
        let (field, seed) = match self.variation {
            Some(variation) => ("variation seed", variation.seed),
            None => ("seed", self.seed),
        };
        match seed.checked_add(n_more) {
            Some(_) => Ok(()),
            None => refuse(
                field,
                seed,
                format!("each picture adds one, so for {} pictures use at most {}", self.count, u64::MAX - n_more),
            ),
        }
    }

    /// Refuses settings that mean nothing without a mask.
    ///
    /// # Errors
    /// [`Error::Request`] naming the setting.
    pub fn check_without_mask(&self) -> Result<()> {
        let expected = "give the picture and the part of it to repaint too (--init and --mask, image and mask)";
        if self.padding_mask_crop.is_some() {
            return refuse("padding mask crop", "without a mask", expected);
        }
        if self.mask_blur != 0.0 {
            return refuse("mask blur", "without a mask", expected);
        }
        Ok(())
    }

    /// Whether a version's text encoder can skip as many layers, so counted. Versions that skip none whatever the number are
    /// not asked.
    #[must_use]
    pub fn can_skip_layers(clip_skip: usize, counting: ClipSkipCounting) -> bool {
        SDVersion::ALL.into_iter().any(|version| {
            let config = SDConfig::new(version).with_clip_skip(Some(clip_skip)).with_clip_skip_counting(counting);
            let is_asked = clip_skip <= 2 || config.skipped_layers(version).0 > 0;
            is_asked && config.check_clip_skip().is_ok()
        })
    }

    fn check_clip_skip(&self) -> Result<()> {
        let max = self.version.max_clip_skip();
        let counts_from_1 = self.clip_skip_counting == ClipSkipCounting::A1111;
        match self.clip_skip {
            None => Ok(()),
            Some(0) if counts_from_1 => refuse("clip skip", 0, "1 is the last layer, which skips none: use 1 or more"),
            Some(n) if counts_from_1 => {
                let skipped = self.skipped_layers(self.version).0;
                let most = max + n.saturating_sub(skipped);
                if skipped <= max { Ok(()) } else { refuse("clip skip", n, format!("use 1 to {most}")) }
            }
            Some(0) => refuse("clip skip", 0, format!("leave it out to skip no layer, or use 1 to {max}")),
            Some(n) if n > max => {
                refuse("clip skip", n, format!("the text encoder of {} allows 1 to {max}", self.version.display_name()))
            }
            Some(_) => Ok(()),
        }
    }

    fn check_size_conditioning(&self) -> Result<()> {
        for (field, pair, least) in [("original size", self.original_size, 1), ("crop", self.crop, 0)] {
            let Some((x, y)) = pair else { continue };
            if !self.version.is_xl() {
                let keys: Vec<_> = SDVersion::ALL.into_iter().filter(|v| v.is_xl()).map(SDVersion::key).collect();
                return refuse(
                    field,
                    format!("{x}x{y}"),
                    format!("{} is not conditioned on it, only {} are", self.version.display_name(), keys.join(", ")),
                );
            }
            if [x, y].iter().any(|side| !(least..=MAX_CONDITIONED_SIDE).contains(side)) {
                return refuse(
                    field,
                    format!("{x}x{y}"),
                    format!("both numbers must be from {least} to {MAX_CONDITIONED_SIDE} pixels"),
                );
            }
        }
        Ok(())
    }
}

pub(super) fn refuse<T>(field: &'static str, got: impl ToString, expected: impl Into<String>) -> Result<T> {
    Err(Error::Request { field, got: got.to_string(), expected: expected.into() })
}

/// A side is a positive multiple of what the rule says and not longer than [`MAX_SIDE`].
fn check_side(field: &'static str, got: usize, sides: SideRule, any_size: bool) -> Result<()> {
    let multiple = sides.multiple(any_size);
    if multiple == 0 || multiple > MAX_SIDE {
        return refuse(
            field,
            got,
            format!("the model would need multiples of {multiple} pixels, and no side up to {MAX_SIDE} is one"),
        );
    }
    let largest = MAX_SIDE - MAX_SIDE % multiple;
    let any = sides.any_multiple;
    // As the command line spells it, and as JSON does.
    let switch = match any < multiple {
        true => format!(", or any multiple of {any} with --any-size (any_size)"),
        false => String::new(),
    };
    if got < multiple {
        return refuse(field, got, format!("use {multiple} or a larger multiple of it{switch}"));
    }
    if got > largest {
        return refuse(field, got, format!("use {largest} at most"));
    }
    if !got.is_multiple_of(multiple) {
        let below = got - got % multiple;
        return refuse(field, got, format!("use {below} or {}{switch}", below + multiple));
    }
    Ok(())
}

fn check_count(field: &'static str, got: usize, max: usize) -> Result<()> {
    if (1..=max).contains(&got) { Ok(()) } else { refuse(field, got, format!("use 1 to {max}")) }
}

fn check_real(field: &'static str, got: f64, max: f64) -> Result<()> {
    // NaN lies in no range, so this refuses it together with the infinities.
    if (0.0..=max).contains(&got) { Ok(()) } else { refuse(field, got, format!("use 0.0 to {max:.1}")) }
}
