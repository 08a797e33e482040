//! What a picture says of how it was made, as far as it can be understood.

use serde::{Deserialize, Serialize, Serializer};

use super::{A1111_KEY, JSON_KEY, Parameters, UsedEmbedding, UsedLora, a1111, other_programs};
use crate::prompt::PromptSyntax;
use crate::request::{
    ClipSkipCounting, LongPrompt, MAX_GUIDANCE_SCALE, MAX_LORA_STRENGTH, MAX_MASK_BLUR, MAX_SIDE, MAX_STEPS, SDConfig,
};
use crate::rng::Noise;
use crate::sampler::{Sampler, Spacing};
use crate::weights::WeightType;

/// The largest whole number that JavaScript's numbers hold exactly.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// What sides are multiples of at the least.
const SIDE_MULTIPLE: u32 = 8;

/// The settings of a picture that were found; what was not there is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct Settings {
    /// What to draw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// What to avoid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// What the prompt was decided from, where it had options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Likewise of what to avoid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_template: Option<String>,
    /// Denoising steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// The sampler: our name of it where it is one of ours, otherwise as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler: Option<String>,
    /// How the steps were spread over the training steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spacing: Option<Spacing>,
    /// Classifier-free guidance scale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_scale: Option<f64>,
    /// The seed of the noise; in JSON a text where JavaScript's numbers do not hold it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "number_or_text")]
    #[cfg_attr(test, ts(type = "number | string", optional))]
    pub seed: Option<u64>,
    /// The seed that the noise was turned towards, likewise.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "number_or_text")]
    #[cfg_attr(test, ts(type = "number | string", optional))]
    pub variation_seed: Option<u64>,
    /// How far, above 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variation_strength: Option<f64>,
    /// Which of torch's generators the noise came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<Noise>,
    /// Pixels in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Whether the sides may be any multiple of 8.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(test, ts(optional, as = "Option<bool>"))]
    pub any_size: bool,
    /// The model's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the UNet was taken to predict, `epsilon` or `v`, where that was said when the model was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction: Option<String>,
    /// How far the picture departed from another one, 0 to 1; absent for text-to-image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// Layers of the text encoder that were left out at the end, as `clip_skip_counting` counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_skip: Option<u32>,
    /// How they are counted; as in diffusers where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_skip_counting: Option<ClipSkipCounting>,
    /// What the prompts are written in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_syntax: Option<PromptSyntax>,
    /// Whether a long prompt was encoded in chunks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(test, ts(optional, as = "Option<bool>"))]
    pub long_prompt_chunks: bool,
    /// How much noise DDIM or TCD added in each step, where that was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
    /// The steps as training steps, where they were chosen one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timesteps: Option<Vec<usize>>,
    /// The noise levels of the steps, where they were chosen one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigmas: Option<Vec<f64>>,
    /// How a start picture of another shape was brought to the size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<String>,
    /// Pixels around the masked part of a start picture that alone was drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub padding_mask_crop: Option<u32>,
    /// By how many pixels the mask was blurred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask_blur: Option<f64>,
    /// XL's conditioning on the original size, width and height in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_size: Option<(usize, usize)>,
    /// XL's conditioning on the crop, left and top in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<(usize, usize)>,
    /// The LoRAs that changed the model.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(optional, as = "Option<Vec<UsedLora>>"))]
    pub loras: Vec<UsedLora>,
    /// The program's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Settings {
    /// Takes a sampler by any of its names.
    pub(super) fn set_sampler(&mut self, name: &str) {
        let name = name.trim();
        let ours = name.parse::<Sampler>().ok().map(Sampler::name);
        self.sampler = ours.or_else(|| Some(name.to_owned()).filter(|name| !name.is_empty()));
    }

    /// Takes what the prompts are written in, and that none of them was cut where the syntax says so.
    pub(super) fn read_in(&mut self, syntax: PromptSyntax) {
        self.prompt_syntax = Some(syntax);
        self.long_prompt_chunks = LongPrompt::default_of(syntax) == LongPrompt::Chunks;
    }

    /// Whether the sampler is one that can be asked for here.
    #[must_use]
    pub fn knows_sampler(&self) -> bool {
        self.sampler.as_deref().is_some_and(|name| name.parse::<Sampler>().is_ok())
    }

    /// Whether nothing was found that a request could take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let without_names =
            Settings { model: None, version: None, prompt_syntax: None, long_prompt_chunks: false, ..self.clone() };
        without_names == Settings::default()
    }

    /// Other forms than our own do not say it, but where the size needs it, it was so.
    fn guess_any_size(&mut self) {
        let sides = || self.width.into_iter().chain(self.height);
        self.any_size =
            sides().all(|side| side.is_multiple_of(SIDE_MULTIPLE)) && sides().any(|side| !side.is_multiple_of(64));
    }

    /// All parameters, where none is missing that every picture has. Both have the same names.
    pub(super) fn complete(self) -> Option<Parameters> {
        let (seed, variation_seed) = (self.seed?, self.variation_seed);
        let mut json = serde_json::to_value(self).ok()?;
        json["seed"] = seed.into();
        if let Some(seed) = variation_seed {
            json["variation_seed"] = seed.into();
        }
        if json["prompt"].is_null() {
            json["prompt"] = "".into();
        }
        serde_json::from_value(json).ok()
    }
}

/// Settings, who wrote them, and what could not be taken of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Found {
    /// The program by the form of what it wrote, such as `ComfyUI`; several write AUTOMATIC1111's.
    pub program: String,
    /// What could be taken.
    #[serde(flatten)]
    pub settings: Settings,
    /// The beginning of the SHA-256 of the model's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub model_hash: Option<String>,
    /// The VAE that took the place of the model's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub vae: Option<String>,
    /// The embeddings whose words the prompts have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(optional, as = "Option<Vec<UsedEmbedding>>"))]
    pub embeddings: Vec<UsedEmbedding>,
    /// The type that the model's weights were held in, where they were quantised for the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub weights: Option<WeightType>,
    /// What could not, in sentences without a full stop.
    pub notes: Vec<String>,
}

impl Found {
    /// Nothing yet, of this program.
    pub(super) fn of(program: &str) -> Self {
        Found {
            program: program.to_owned(),
            settings: Settings::default(),
            model_hash: None,
            vae: None,
            embeddings: Vec::new(),
            weights: None,
            notes: Vec::new(),
        }
    }

    /// Looks through what [`crate::image::picture_text`] gave; `None` where no program is known by it. Of several forms the
    /// one that loses least wins.
    #[must_use]
    pub fn in_text(text: &[(String, String)]) -> Option<Self> {
        let find = |key: &str| text.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
        // Ours is whole, or was tampered with.
        if let Some(own) = find(JSON_KEY)
            && serde_json::from_str::<Parameters>(own).is_ok()
            && let Ok(settings) = serde_json::from_str::<Settings>(own)
        {
            let named = |name: Option<String>| name.filter(|name| !name.is_empty());
            let (model, version) = (named(settings.model), named(settings.version));
            // Without a word about it the picture is from before there was a choice.
            let prompt_syntax = settings.prompt_syntax.or(Some(PromptSyntax::Plain));
            let settings = Settings { model, version, prompt_syntax, ..settings };
            let own = serde_json::from_str::<Parameters>(own).unwrap_or_default();
            let (embeddings, weights) = (own.embeddings, own.weights);
            return Some(Found { settings, embeddings, weights, ..Found::of("darkroom") });
        }
        let in_a1111 = find(A1111_KEY).or(find("UserComment")).and_then(a1111::read).map(|mut found| {
            if let Some(version) = found.settings.version.as_deref().filter(|version| version.starts_with("darkroom")) {
                found.program = version.split(' ').next().unwrap_or(version).to_owned();
            }
            let default = if found.program == "darkroom" { PromptSyntax::Plain } else { PromptSyntax::A1111 };
            found.settings.read_in(found.settings.prompt_syntax.unwrap_or(default));
            found
        });
        let mut found = in_a1111.or_else(|| other_programs::read(text))?;
        found.drop_impossible();
        found.settings.guess_any_size();
        if found.settings.is_empty() && found.notes.is_empty() {
            found.notes.push("none of its settings can be understood".to_owned());
        }
        Some(found)
    }

    /// Numbers that no picture can have been drawn with here are notes.
    fn drop_impossible(&mut self) {
        let Settings { width, height, steps, guidance_scale, strength, eta, .. } = &mut self.settings;
        let any_side = |test: &dyn Fn(u32) -> bool| [&*width, &*height].into_iter().any(|side| side.is_some_and(test));
        let why_not = if any_side(&|side| side as usize > MAX_SIDE) {
            Some(format!("{MAX_SIDE} pixels a side are the most"))
        } else if any_side(&|side| side == 0) {
            Some("a side has pixels".to_owned())
        } else if any_side(&|side| !side.is_multiple_of(SIDE_MULTIPLE)) {
            Some(format!("sides are multiples of {SIDE_MULTIPLE}"))
        } else {
            None
        };
        if let Some(why_not) = why_not {
            let side = |side: Option<u32>| side.map_or_else(|| "?".to_owned(), |side| side.to_string());
            let size = format!("{}x{}", side(width.take()), side(height.take()));
            self.notes.push(format!("its size {size} cannot be used here: {why_not}"));
        }
        for (name, value) in
            [("guidance scale", &mut *guidance_scale), ("strength", &mut *strength), ("eta", &mut *eta)]
        {
            if let Some(number) = value.take_if(|number| !number.is_finite()) {
                self.notes.push(format!("its {name} {number} cannot be used here"));
            }
        }
        for (name, value) in [("strength", strength), ("eta", eta)] {
            if let Some(number) = value.take_if(|number| !(0.0..=1.0).contains(number)) {
                self.notes.push(format!("its {name} {number} cannot be used here: 0 to 1 is drawn"));
            }
        }
        if let Some(n) = steps.take_if(|n| !(1..=MAX_STEPS as u32).contains(n)) {
            self.notes.push(format!("its steps {n} cannot be used here: 1 to {MAX_STEPS} are drawn"));
        }
        let counting = self.settings.clip_skip_counting.unwrap_or_default();
        let can_skip = |layers: u32| SDConfig::can_skip_layers(layers as usize, counting);
        if let Some(layers) = self.settings.clip_skip.take_if(|layers| !can_skip(*layers)) {
            self.settings.clip_skip_counting = None;
            self.notes.push(format!("its clip skip {layers} cannot be used here: no text encoder has as many layers"));
        }
        let most = MAX_LORA_STRENGTH;
        let fits = |strength: f64| (-most..=most).contains(&strength);
        for lora in
            self.settings.loras.extract_if(.., |lora| !fits(lora.strength) || !lora.text_strength.is_none_or(fits))
        {
            let (name, strength) = (lora.name, lora.strength);
            self.notes
                .push(format!("its LoRA {name} with strength {strength} cannot be used here: use -{most} to {most}"));
        }
        let variation = &mut self.settings.variation_strength;
        if let Some(strength) = variation.take_if(|strength| !(0.0..=1.0).contains(strength)) {
            self.notes.push(format!("its variation strength {strength} cannot be used here: 0 to 1 is drawn"));
            self.settings.variation_seed = None;
        }
        let blur = &mut self.settings.mask_blur;
        if let Some(radius) = blur.take_if(|radius| !(0.0..=MAX_MASK_BLUR).contains(radius)) {
            self.notes.push(format!("its mask blur {radius} cannot be used here: 0 to {MAX_MASK_BLUR} is done"));
        }
        let padding = &mut self.settings.padding_mask_crop;
        if let Some(pixels) = padding.take_if(|pixels| *pixels > MAX_SIDE as u32) {
            self.notes
                .push(format!("its masked area padding {pixels} cannot be used here: {MAX_SIDE} pixels are the most"));
        }
        let most = MAX_GUIDANCE_SCALE;
        if let Some(scale) = self.settings.guidance_scale.take_if(|scale| !(0.0..=most).contains(scale)) {
            self.notes.push(format!("its guidance scale {scale} cannot be used here: 0 to {most} is drawn"));
        }
    }
}

fn number_or_text<S: Serializer>(seed: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match *seed {
        None => serializer.serialize_none(),
        Some(seed) if seed <= MAX_SAFE_INTEGER => serializer.serialize_u64(seed),
        Some(seed) => serializer.serialize_str(&seed.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_setting_is_said() {
        let in_text = |key: &str, text: &str| Found::in_text(&[(key.to_owned(), text.to_owned())]).unwrap();
        let invoke = r#"{"positive_prompt": 5, "seed": "x", "loras": {"a": 1}, "model": [], "width": 512.0}"#;
        let found = in_text("invokeai_metadata", invoke);
        assert_eq!(found.settings.width, Some(512));
        assert_eq!(
            found.notes,
            [
                "its prompt 5 cannot be used here",
                "its seed \"x\" cannot be used here",
                "its model [] cannot be used here",
                "its LoRAs {\"a\":1} cannot be used here",
            ]
        );
        let found = in_text("parameters", r#"{"sui_image_params": {"prompt": "a", "width": -512, "seed": null}}"#);
        assert_eq!(found.notes, ["its width -512 cannot be used here"]);
        assert_eq!(in_text("invokeai_metadata", "{}").notes, ["none of its settings can be understood"]);
        let found =
            in_text("invokeai_metadata", r#"{"seed": 1, "loras": [{"model": {"name": "ink"}, "weight": 1e9}]}"#);
        assert_eq!((found.settings.loras.len(), found.notes.len()), (0, 1), "{:?}", found.notes);
        let graph = r#"{"3": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 20, "cfg": 8, "sampler_name": "euler",
            "positive": "", "latent_image": ["5", 0]}}, "5": {"class_type": "EmptyLatentImage", "inputs": {"width": -512,
            "height": "512"}}}"#;
        let found = in_text("prompt", graph);
        assert_eq!((found.settings.width, found.settings.height), (None, Some(512)));
        assert!(found.notes.contains(&"its width -512 cannot be used here".to_owned()), "{:?}", found.notes);
    }

    #[test]
    fn impossible_numbers_are_notes() {
        for (line, n_notes) in [
            ("CFG scale: NaN, Size: 512x512", 1),
            ("CFG scale: 1e999, Size: 4096x4096", 1),
            ("CFG scale: -inf, Size: 4097x512", 2),
            ("CFG scale: 7, Size: 512x999999", 1),
            ("CFG scale: 7, Size: 4096x512", 0),
            ("CFG scale: 7, Size: 504x512", 0),
            ("CFG scale: 7, Size: 510x512", 1),
            ("CFG scale: 7, Size: 0x0", 1),
            ("CFG scale: 7, Size: 512x512, Denoising strength: 5", 1),
            ("CFG scale: 7, Size: 512x512, Denoising strength: 1", 0),
            ("CFG scale: 7, Size: 512x512, Clip skip: 99", 1),
            ("CFG scale: 7, Size: 512x512, Clip skip: 12", 0),
            ("CFG scale: 7, Size: 512x512, Sampler: DDIM, Eta DDIM: 2", 1),
        ] {
            let text = format!("x\nSteps: 1, RNG: CPU, {line}");
            let found = Found::in_text(&[(A1111_KEY.to_owned(), text)]).unwrap();
            let settings = &found.settings;
            assert_eq!(found.notes.len(), n_notes, "{line}: {:?}", found.notes);
            assert_eq!(settings.guidance_scale, line.contains(": 7").then_some(7.0), "{line}");
            let is_fine = !["4097", "999999", "510", "0x0"].iter().any(|side| line.contains(side));
            assert_eq!((settings.clip_skip == Some(99), settings.strength == Some(5.0)), (false, false), "{line}");
            assert_eq!((settings.width.is_some(), settings.height.is_some()), (is_fine, is_fine), "{line}");
        }
    }
}
