//! Settings of models and LoRAs that were distilled to a few steps, by name, and which one a file looks like.
//!
//! Sources: the model cards of latent-consistency/lcm-lora-sdv1-5, ByteDance/SDXL-Lightning, ByteDance/Hyper-SD and
//! stabilityai/sdxl-turbo.

use serde::{Deserialize, Serialize};

use super::Request;
use crate::sampler::{Sampler, SamplerKind, Spacing};

/// A name for steps, sampler, spacing and guidance that belong together. Settings that a request gives win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), derive(clap::ValueEnum))]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Latent consistency: the sampler LCM, 4 steps.
    Lcm,
    /// SDXL-Lightning of 2 steps: Euler, spaced from the end.
    #[serde(rename = "lightning-2")]
    #[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), value(name = "lightning-2"))]
    Lightning2,
    /// Of 4 steps.
    #[serde(rename = "lightning-4")]
    #[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), value(name = "lightning-4"))]
    Lightning4,
    /// Of 8 steps.
    #[serde(rename = "lightning-8")]
    #[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), value(name = "lightning-8"))]
    Lightning8,
    /// Hyper-SD of 1 step: the sampler TCD, with eta 1.
    #[serde(rename = "hyper-1")]
    #[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), value(name = "hyper-1"))]
    Hyper1,
    /// Of 2 steps, with eta 0, as of 4 and 8.
    #[serde(rename = "hyper-2")]
    #[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), value(name = "hyper-2"))]
    Hyper2,
    /// Of 4 steps.
    #[serde(rename = "hyper-4")]
    #[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), value(name = "hyper-4"))]
    Hyper4,
    /// Of 8 steps.
    #[serde(rename = "hyper-8")]
    #[cfg_attr(all(not(target_arch = "wasm32"), feature = "cli"), value(name = "hyper-8"))]
    Hyper8,
    /// Turbo, 1 to 4 steps (4 unless they are given): Euler ancestral, spaced from the end.
    Turbo,
}

/// Keys of a file's metadata that say what it is.
const TELLING: [&str; 5] =
    ["ss_output_name", "modelspec.title", "modelspec.usage_hint", "modelspec.description", "ss_training_comment"];

impl Preset {
    /// All of them.
    pub const ALL: [Preset; 9] = [
        Preset::Lcm,
        Preset::Lightning2,
        Preset::Lightning4,
        Preset::Lightning8,
        Preset::Hyper1,
        Preset::Hyper2,
        Preset::Hyper4,
        Preset::Hyper8,
        Preset::Turbo,
    ];

    /// The name in requests and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Preset::Lcm => "lcm",
            Preset::Lightning2 => "lightning-2",
            Preset::Lightning4 => "lightning-4",
            Preset::Lightning8 => "lightning-8",
            Preset::Hyper1 => "hyper-1",
            Preset::Hyper2 => "hyper-2",
            Preset::Hyper4 => "hyper-4",
            Preset::Hyper8 => "hyper-8",
            Preset::Turbo => "turbo",
        }
    }

    /// What it is for, for people: `Lightning, 4 steps`.
    #[must_use]
    pub fn describe(self) -> String {
        let steps = if self.steps() == 1 { "1 step".to_owned() } else { format!("{} steps", self.steps()) };
        format!("{}, {steps}", self.title())
    }

    /// What people call such a model.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Preset::Lcm => "LCM",
            Preset::Lightning2 | Preset::Lightning4 | Preset::Lightning8 => "Lightning",
            Preset::Hyper1 | Preset::Hyper2 | Preset::Hyper4 | Preset::Hyper8 => "Hyper-SD",
            Preset::Turbo => "Turbo",
        }
    }

    /// Denoising steps.
    #[must_use]
    pub fn steps(self) -> usize {
        match self {
            Preset::Hyper1 => 1,
            Preset::Lightning2 | Preset::Hyper2 => 2,
            Preset::Lcm | Preset::Lightning4 | Preset::Hyper4 | Preset::Turbo => 4,
            Preset::Lightning8 | Preset::Hyper8 => 8,
        }
    }

    /// The sampler.
    #[must_use]
    pub fn sampler(self) -> SamplerKind {
        match self {
            Preset::Lcm => SamplerKind::Lcm,
            Preset::Lightning2 | Preset::Lightning4 | Preset::Lightning8 => SamplerKind::Euler,
            Preset::Hyper1 | Preset::Hyper2 | Preset::Hyper4 | Preset::Hyper8 => SamplerKind::Tcd,
            Preset::Turbo => SamplerKind::EulerAncestral,
        }
    }

    /// How much noise each step adds, where the sampler has the choice.
    #[must_use]
    pub fn eta(self) -> Option<f64> {
        match self {
            Preset::Hyper1 => Some(1.0),
            Preset::Hyper2 | Preset::Hyper4 | Preset::Hyper8 => Some(0.0),
            Preset::Lcm | Preset::Lightning2 | Preset::Lightning4 | Preset::Lightning8 | Preset::Turbo => None,
        }
    }

    /// Whether its steps are spaced from the last training step down; the others have rules of their own.
    #[must_use]
    pub fn spacing(self) -> Option<Spacing> {
        self.sampler().takes_spacing().then_some(Spacing::Trailing)
    }

    /// The request with what it leaves out of these settings. Without guidance, which none of them has, is 1.
    #[must_use]
    pub fn fill(self, request: &Request) -> Request {
        let mut filled = request.clone();
        if filled.timesteps.is_none() && filled.sigmas.is_none() {
            filled.steps = filled.steps.or(Some(self.steps()));
        }
        filled.guidance_scale = filled.guidance_scale.or(Some(1.0));
        // With another sampler, what belongs to this one means nothing, or is refused.
        let kind = match request.sampler.as_deref() {
            None => Some(self.sampler()),
            Some(name) => name.parse::<Sampler>().ok().map(|sampler| sampler.kind),
        };
        filled.sampler = filled.sampler.or_else(|| Some(self.sampler().name().to_owned()));
        if kind.is_some_and(SamplerKind::takes_spacing) && filled.timesteps.is_none() && filled.sigmas.is_none() {
            filled.spacing = filled.spacing.or(self.spacing());
        }
        if kind == Some(self.sampler()) {
            filled.eta = filled.eta.or(self.eta());
        }
        filled
    }

    /// What a LoRA or a checkpoint looks like by its name (of a path or repository the last part), or else by its metadata
    /// (keys and values); `None` where nothing speaks for a few steps, or where they need other settings than these.
    #[must_use]
    pub fn suggest<'a>(name: &str, metadata: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
        of_name(name).or_else(|| {
            let told: Vec<(&str, &str)> = metadata.into_iter().filter(|(key, _)| TELLING.contains(key)).collect();
            TELLING
                .iter()
                .flat_map(|key| told.iter().filter(move |(k, _)| k == key))
                .find_map(|(_, text)| of_name(text))
        })
    }
}

/// By the words of a name such as `sdxl_lightning_4step_lora`.
fn of_name(name: &str) -> Option<Preset> {
    let lower = name.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let has = |wanted: &str| words.contains(&wanted);
    let begins = |start: &str| words.iter().any(|word| word.starts_with(start));
    let ends = |end: &str| words.iter().any(|word| word.ends_with(end));
    let n_steps = n_steps(&words);
    let is_of_sd = lower.contains("xl") || ["sd", "sd15", "sd1", "sd21"].iter().any(|family| has(family));
    // Made for another sampler, or to be used with guidance.
    if ends("dpmsde") || has("sde") || has("cfg") {
        return None;
    }
    if lower.contains("lightning") && (is_of_sd || n_steps.is_some()) {
        return match n_steps {
            Some(1) => None,
            Some(2) => Some(Preset::Lightning2),
            Some(8) => Some(Preset::Lightning8),
            _ => Some(Preset::Lightning4),
        };
    }
    if (has("hyper") && (is_of_sd || n_steps.is_some())) || begins("hypersd") {
        return match n_steps {
            Some(1) => Some(Preset::Hyper1),
            Some(2) => Some(Preset::Hyper2),
            Some(4) => Some(Preset::Hyper4),
            Some(8) | None => Some(Preset::Hyper8),
            Some(_) => None,
        };
    }
    if has("lcm") || begins("lcmlora") || ends("lcm") {
        return Some(Preset::Lcm);
    }
    (is_of_sd && (has("turbo") || ends("turbo"))).then_some(Preset::Turbo)
}

/// The number of `4step`, `8steps`, `4 steps` and `8s`.
fn n_steps(words: &[&str]) -> Option<usize> {
    words.iter().enumerate().find_map(|(idx, word)| {
        let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
        let (number, unit) = word.split_at(digits);
        let unit = if unit.is_empty() { words.get(idx + 1).copied().unwrap_or_default() } else { unit };
        if unit == "step" || unit == "steps" || (unit == "s" && digits < word.len()) {
            number.parse().ok()
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SDVersion;
    use crate::request::Defaults;

    #[test]
    fn a_preset_fills_what_is_left_out() {
        let resolved = |request: &Request| request.resolve(&Defaults::of(SDVersion::Xl), None, false, 0).unwrap();
        for preset in Preset::ALL {
            assert_eq!(serde_json::to_value(preset).unwrap(), preset.name());
            let config = resolved(&Request { preset: Some(preset), ..Request::default() });
            assert_eq!((config.steps, config.guidance_scale), (preset.steps(), 1.0), "{preset:?}");
            assert_eq!(config.sampler.map(|sampler| sampler.kind), Some(preset.sampler()));
            assert_eq!(config.spacing, preset.spacing());
            assert_eq!(config.eta, if preset == Preset::Hyper1 { 1.0 } else { 0.0 });
        }
        let own = Request {
            preset: Some(Preset::Lightning4),
            steps: Some(6),
            sampler: Some("lcm".to_owned()),
            guidance_scale: Some(1.5),
            ..Request::default()
        };
        let config = resolved(&own);
        assert_eq!((config.steps, config.guidance_scale, config.spacing), (6, 1.5, None));
        let listed = Request {
            preset: Some(Preset::Turbo),
            sigmas: Some(vec![14.6, 0.0]),
            sampler: Some("euler".into()),
            ..Request::default()
        };
        assert_eq!((resolved(&listed).steps, resolved(&listed).spacing), (1, None));
    }

    #[test]
    fn files_are_known_by_their_names() {
        for (name, expected) in [
            ("sdxl_lightning_4step_lora", Some(Preset::Lightning4)),
            ("sdxl_lightning_8step_lora.safetensors", Some(Preset::Lightning8)),
            ("SDXL-Lightning-2step", Some(Preset::Lightning2)),
            ("sdxl_lightning_1step_x0", None),
            ("realvisxlV40_v40LightningBakedvae", Some(Preset::Lightning4)),
            ("dreamshaperXL_lightningDPMSDE", None),
            ("Hyper-SDXL-8steps-lora", Some(Preset::Hyper8)),
            ("Hyper-SD15-1step-lora", Some(Preset::Hyper1)),
            ("Hyper-SDXL-8steps-CFG-lora", None),
            ("hyper_realism_v2", None),
            ("lcm-lora-sdv1-5", Some(Preset::Lcm)),
            ("LCM_LoRA_Weights_SD15", Some(Preset::Lcm)),
            ("sd_xl_turbo_1.0_fp16", Some(Preset::Turbo)),
            ("dreamshaperXL_v2Turbo", Some(Preset::Turbo)),
            ("thunder and lightnings", None),
            ("turbo engine style", None),
            ("ink wash", None),
            ("album", None),
        ] {
            assert_eq!(Preset::suggest(name, []), expected, "{name}");
        }
        let metadata = [("ss_network_dim", "4"), ("modelspec.title", "Hyper SD 4 steps"), ("ss_output_name", "x")];
        assert_eq!(Preset::suggest("pytorch_lora_weights", metadata), Some(Preset::Hyper4));
        assert_eq!(Preset::suggest("x", [("ss_dataset_dirs", "lightning")]), None);
    }
}
