//! The layout of AUTOMATIC1111's web interface, as its own and other programs write it.
//!
//! What is there is taken: a setting that is absent or malformed does not refuse the others. Settings that have no field
//! here are passed over. Text behind the line of settings, where extensions put theirs, is passed over too.

mod line;
mod not_done;

use serde::Deserialize;

use self::line::{Line, split_at_settings, split_prompts, split_settings};
use self::not_done::about_the_rest;
use super::found::{Found, Settings};
use super::{UsedEmbedding, UsedLora, spelled};
use crate::prompt::PromptSyntax;
use crate::request::{ClipSkipCounting, take_lora_tags};
use crate::rng::Noise;
use crate::weights::WeightType;

/// Pixels around the mask where AUTOMATIC1111 does not say how many.
const A1111_PADDING: u32 = 32;

/// A resource as Civitai's own generator lists it.
#[derive(Deserialize)]
struct Resource {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "modelName")]
    name: Option<String>,
    weight: Option<f64>,
}

/// Reads such a text; `None` where no line of it is one of settings.
pub(super) fn read(text: &str) -> Option<Found> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Ours has its lines as they were.
    let lines = if text.contains("Version: darkroom") { text.to_owned() } else { text.replace("\r\n", "\n") };
    let (prompts, settings) = split_at_settings(&lines)?;
    let (prompt, negative_prompt) = split_prompts(prompts);
    let line = Line(split_settings(settings));
    let mut notes = Vec::new();
    let version = line.find("Version").map(str::to_owned);
    let is_own = version.as_deref().is_some_and(|version| version.starts_with("darkroom"));
    let mut taken = Settings {
        prompt: Some(prompt.to_owned()),
        negative_prompt: Some(negative_prompt.to_owned()).filter(|text| !text.is_empty()),
        steps: number("Steps", line.find("Steps"), &mut notes),
        guidance_scale: number("CFG scale", line.find("CFG scale"), &mut notes),
        // Also -1, which people write for a random one, is none.
        seed: number("Seed", line.find("Seed"), &mut notes),
        model: line.find("Model").map(str::to_owned),
        template: line.find("Template").map(str::to_owned),
        negative_template: line.find("Negative Template").map(str::to_owned),
        version,
        ..Settings::default()
    };
    if let Some(size) = line.find("Size") {
        let sides = size
            .split_once('x')
            .and_then(|(width, height)| Some((width.trim().parse().ok()?, height.trim().parse().ok()?)));
        match sides {
            Some((width, height)) => (taken.width, taken.height) = (Some(width), Some(height)),
            None => notes.push(format!("its size {size:?} is not a width and a height")),
        }
    }
    match line.find("Sampler") {
        Some(sampler) if is_own => taken.set_sampler(sampler),
        Some(sampler) => spelled::take(&mut taken, sampler, line.find("Schedule type"), &mut notes),
        None => {}
    }
    let eta = number("Eta", line.find("Eta DDIM").or(line.find("Eta")), &mut notes);
    match taken.sampler.as_deref() {
        Some("ddim" | "tcd") => taken.eta = eta.filter(|eta| *eta != 0.0),
        _ if eta.is_some_and(|eta: f64| eta != 1.0) => {
            notes.push("the noise of its steps was changed (Eta)".to_owned())
        }
        _ => {}
    }
    take_variation(&mut taken, &line, &mut notes);
    taken.noise = noise(line.find("RNG"), is_own, &mut notes);
    // With hires fix, the strength is that of the second pass; the first one is from text.
    if !line.0.iter().any(|(key, _)| key.starts_with("Hires ")) {
        taken.strength = number("Denoising strength", line.find("Denoising strength"), &mut notes);
    }
    take_mask(&mut taken, &line, is_own, &mut notes);
    let skipped: Option<u32> = number("Clip skip", line.find("Clip skip"), &mut notes);
    taken.clip_skip = skipped.filter(|&layer| layer > 1);
    taken.clip_skip_counting = taken.clip_skip.map(|_| ClipSkipCounting::A1111);
    taken.prompt_syntax = line.find(super::SYNTAX_KEY).and_then(PromptSyntax::named);
    take_loras(&mut taken, &line, &mut notes);
    if let Some(emphasis) = line.find("Emphasis").filter(|emphasis| *emphasis != "Original") {
        notes.push(format!("its weights of words were applied in another way (Emphasis: {emphasis})"));
    }
    let held = line.find(super::WEIGHTS_KEY);
    let weights = held.and_then(WeightType::named);
    if let Some(held) = held.filter(|_| weights.is_none()) {
        notes.push(format!("its weights were held in {held}, which is not one of ours"));
    }
    about_the_rest(&line, &mut notes);
    let mut embeddings: Vec<UsedEmbedding> =
        line.hashes("TI hashes").into_iter().map(|(name, hash)| UsedEmbedding::of_other(name, Some(hash))).collect();
    let more = line.find("TI").unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
    for name in more.map(|name| name.split(':').next().unwrap_or(name)) {
        if !embeddings.iter().any(|known| known.name == name) {
            embeddings.push(UsedEmbedding::of_other(name.to_owned(), None));
        }
    }
    Some(Found {
        program: "AUTOMATIC1111".to_owned(),
        settings: taken,
        model_hash: line.find("Model hash").map(str::to_owned),
        vae: line.find("VAE").map(str::to_owned),
        embeddings,
        weights,
        notes,
    })
}

/// The other seed, and how far the noise was turned towards it: neither is anything without the other.
fn take_variation(taken: &mut Settings, line: &Line, notes: &mut Vec<String>) {
    let seed = number("Variation seed", line.find("Variation seed"), notes);
    let strength = number("Variation seed strength", line.find("Variation seed strength"), notes);
    if let (Some(seed), Some(strength)) = (seed, strength.filter(|strength| *strength != 0.0)) {
        (taken.variation_seed, taken.variation_strength) = (Some(seed), Some(strength));
    } else if strength.is_some_and(|strength| strength != 0.0) {
        notes.push("its noise is mixed with that of a variation seed which it does not tell".to_owned());
    }
}

/// How a mask was used, which the file does not hold.
fn take_mask(taken: &mut Settings, line: &Line, is_own: bool, notes: &mut Vec<String>) {
    let blur = number("Mask blur", line.find("Mask blur"), notes);
    taken.mask_blur = blur;
    if line.find("Inpaint area") == Some("Only masked") {
        let padding = number("Masked area padding", line.find("Masked area padding"), notes);
        taken.padding_mask_crop = padding.or(Some(A1111_PADDING));
    }
    let keys = ["Mask blur", "Inpaint area", "Masked content", "Mask mode"];
    if !is_own && keys.iter().any(|key| line.find(key).is_some()) {
        notes.push("a part of another picture was drawn again with a mask, which the file does not hold".to_owned());
    }
}

/// Where the noise came from. AUTOMATIC1111 says so only where it was not the GPU.
fn noise(said: Option<&str>, is_own: bool, notes: &mut Vec<String>) -> Option<Noise> {
    match said.map(str::to_ascii_lowercase).as_deref() {
        Some("cpu") => Some(Noise::Cpu),
        Some("gpu" | "nv" | "cuda") => Some(Noise::Philox),
        None if is_own => None,
        None => Some(Noise::Philox),
        Some(other) => {
            notes.push(format!("its noise is of another generator (RNG: {other})"));
            None
        }
    }
}

/// The LoRAs: tags of the prompt, which leave it, with the hashes that stand in the line; or Civitai's list.
fn take_loras(taken: &mut Settings, line: &Line, notes: &mut Vec<String>) {
    let prompt = taken.prompt.clone().unwrap_or_default();
    match take_lora_tags(&prompt) {
        Ok((_, uses)) if uses.is_empty() => {}
        Ok((without, uses)) => {
            taken.prompt = Some(without.trim_end().to_owned());
            taken.loras = uses.into_iter().map(UsedLora::from).collect();
        }
        Err(error) => notes.push(format!("a tag of its prompt cannot be read: {error}")),
    }
    let hashes = line.hashes("Lora hashes");
    for lora in &mut taken.loras {
        lora.hash = hashes.iter().find(|(name, _)| *name == lora.name).map(|(_, hash)| hash.clone());
    }
    let resources: Vec<Resource> =
        line.find("Civitai resources").and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default();
    let is_without_tags = taken.loras.is_empty();
    for Resource { kind, name, weight } in resources {
        match (kind.as_deref(), name) {
            (Some("checkpoint"), Some(name)) if taken.model.is_none() => taken.model = Some(name),
            (Some("lora" | "lycoris" | "dora"), Some(name)) if is_without_tags => {
                taken.loras.push(UsedLora { strength: weight.unwrap_or(1.0), ..UsedLora::named(&name) });
            }
            _ => {}
        }
    }
}

/// A number, or a note that it is none.
fn number<T: std::str::FromStr>(key: &str, value: Option<&str>, notes: &mut Vec<String>) -> Option<T> {
    let value = value?;
    let number = value.trim().parse().ok();
    if number.is_none() {
        notes.push(format!("its {key} {value:?} cannot be used here"));
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        read(text).unwrap_or_else(|| panic!("nothing found in {text:?}")).settings
    }

    #[test]
    fn what_is_there_is_taken() {
        let got = settings("a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 123, Size: 512x768");
        assert_eq!(got.prompt.as_deref(), Some("a cat"));
        assert_eq!((got.steps, got.seed, got.width, got.height), (Some(20), Some(123), Some(512), Some(768)));
        assert_eq!((got.sampler.as_deref(), got.guidance_scale), (Some("euler_a"), Some(7.0)));
        let got = settings("a cat\nSteps: 20, CFG scale: 7, Seed: 5\nTemplate: a __animal__\nNegative Template: dog");
        assert_eq!((got.steps, got.seed, got.sampler, got.width), (Some(20), Some(5), None, None));
        assert_eq!(got.prompt.as_deref(), Some("a cat"));
        let got = settings("a cat\r\nNegative prompt: dog\r\nSampler: DPM++ 2M, Seed: 7\r\n");
        assert_eq!((got.seed, got.steps, got.sampler.as_deref()), (Some(7), None, Some("dpm++2m")));
        let got = settings("a cat,\r\nsitting\r\nNegative prompt: dog,\r\nfog\r\nSteps: 20, Seed: 7");
        assert_eq!(got.prompt.as_deref(), Some("a cat,\nsitting"));
        assert_eq!(got.negative_prompt.as_deref(), Some("dog,\nfog"));
        let got = settings("Steps: 20");
        assert_eq!((got.prompt.as_deref(), got.steps), (Some(""), Some(20)));
        for text in ["", "a prompt", "Time: noon, Place: a harbour", "{\"sui_image_params\":{}}"] {
            assert!(read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_a_note() {
        let found =
            read("x\nSteps: many, Seed: -1, CFG scale: 7, Size: 512, nonsense, Model: \"\\x\", Clip skip: 2").unwrap();
        let got = &found.settings;
        assert_eq!((got.steps, got.seed, got.width, got.guidance_scale), (None, None, None, Some(7.0)));
        assert_eq!((got.model.as_deref(), got.clip_skip), (Some("\"\\x\""), Some(2)));
        assert_eq!(got.clip_skip_counting, Some(ClipSkipCounting::A1111));
        assert_eq!(
            found.notes,
            [
                "its Steps \"many\" cannot be used here",
                "its Seed \"-1\" cannot be used here",
                "its size \"512\" is not a width and a height"
            ]
        );
    }

    #[test]
    fn samplers_are_named_with_their_schedule() {
        for (line, expected) in [
            ("Sampler: DPM++ 2M", "dpm++2m"),
            ("Sampler: DPM++ 2M Karras", "dpm++2m_karras"),
            ("Sampler: DPM++ 2M, Schedule type: Karras", "dpm++2m_karras"),
            ("Sampler: DPM++ 2M, Schedule type: Automatic", "dpm++2m_karras"),
            ("Sampler: DPM++ 2M SDE", "dpm++2m_sde"),
            ("Sampler: DPM++ 2M SDE Karras, Schedule type: Karras", "dpm++2m_sde_karras"),
            ("Sampler: DPM++ 2M SDE, Schedule type: Exponential", "dpm++2m_sde_exponential"),
            ("Sampler: Euler a, Schedule type: Automatic", "euler_a"),
            ("Sampler: Euler, Schedule type: Uniform", "euler"),
            ("Sampler: DDIM", "ddim"),
            ("Sampler: PLMS", "pndm"),
            ("Sampler: UniPC", "unipc"),
            ("Sampler: LCM", "lcm"),
            ("Sampler: Heun", "heun"),
            ("Sampler: Restart", "Restart"),
            ("Sampler: DPM2 a, Schedule type: Automatic", "dpm2_a_karras"),
        ] {
            let got = settings(&format!("x\nSteps: 1, {line}"));
            assert_eq!(got.sampler.as_deref(), Some(expected), "{line}");
            assert_eq!(got.knows_sampler(), expected != "Restart");
        }
    }

    #[test]
    fn hires_fix_is_no_picture_to_start_from() {
        let found =
            read("x\nSteps: 1, Size: 512x512, Denoising strength: 0.55, Hires upscale: 2, Hires upscaler: Latent")
                .unwrap();
        assert_eq!(found.settings.strength, None);
        assert_eq!(
            found.notes,
            ["it was enlarged with hires fix, which is not done here (Hires upscale: 2, Hires upscaler: Latent)"]
        );
        assert_eq!(settings("x\nSteps: 1, Denoising strength: 0.55, Mask blur: 4").strength, Some(0.55));
    }

    #[test]
    fn noise_is_the_gpus_unless_it_is_said() {
        for (line, expected) in [
            ("", Some(Noise::Philox)),
            (", RNG: CPU", Some(Noise::Cpu)),
            (", RNG: NV", Some(Noise::Philox)),
            (", RNG: cuda", Some(Noise::Philox)),
            (", RNG: std_default", None),
            (", Version: darkroom 0.1.0", None),
            (", RNG: NV, Version: darkroom 0.1.0", Some(Noise::Philox)),
        ] {
            let found = read(&format!("x\nSteps: 1{line}")).unwrap();
            assert_eq!(found.settings.noise, expected, "{line}");
            assert_eq!(found.notes.len(), usize::from(line.contains("std")), "{line}");
        }
    }

    #[test]
    fn how_a_mask_was_used_is_taken() {
        for (line, padding, blur) in [
            ("Mask blur: 4, Inpaint area: Only masked, Masked area padding: 16", Some(16), Some(4.0)),
            ("Mask blur: 0, Inpaint area: Only masked", Some(32), Some(0.0)),
            ("Mask blur: 4, Masked area padding: 16", None, Some(4.0)),
            ("Inpaint area: Whole picture, Masked area padding: 16", None, None),
        ] {
            let found = read(&format!("x\nSteps: 1, Seed: 7, Denoising strength: 0.5, {line}")).unwrap();
            assert_eq!((found.settings.padding_mask_crop, found.settings.mask_blur), (padding, blur), "{line}");
            assert_eq!(found.notes.len(), 1, "{line}: {:?}", found.notes);
            assert!(found.notes[0].contains("which the file does not hold"), "{line}: {:?}", found.notes);
        }
    }

    #[test]
    fn a_variation_is_a_seed_and_a_strength() {
        for (line, seed, strength, n_notes) in [
            ("Variation seed: 5, Variation seed strength: 0.2", Some(5), Some(0.2), 0),
            ("Variation seed: 5, Variation seed strength: 0", None, None, 0),
            ("Variation seed: 5", None, None, 0),
            ("Variation seed strength: 0.2", None, None, 1),
            ("Variation seed: many, Variation seed strength: 0.2", None, None, 2),
        ] {
            let found = read(&format!("x\nSteps: 1, Seed: 7, {line}")).unwrap();
            assert_eq!((found.settings.variation_seed, found.settings.variation_strength), (seed, strength), "{line}");
            assert_eq!(found.notes.len(), n_notes, "{line}: {:?}", found.notes);
        }
    }

    #[test]
    fn loras_and_embeddings_are_listed_with_their_hashes() {
        let found = read(
            "a fox in ink, <lora:ink wash:0.8> <lora:add-detail:0.5:1>\nNegative prompt: bad_hands, fog\nSteps: 20, \
             Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 5, Size: 512x512, Model hash: 6ce0161689, \
             Model: v1-5-pruned-emaonly, VAE hash: 735e4c3a44, VAE: vae-ft-mse-840000-ema-pruned.safetensors, \
             Lora hashes: \"ink wash: 0123456789ab, add-detail: 7c6bad76eb54\", TI hashes: \"bad_hands: aa7651be154c\", \
             Emphasis: No norm, Foo: 7, Version: v1.10.1",
        )
        .unwrap();
        let [ink, detail] = &found.settings.loras[..] else { panic!("{found:?}") };
        assert_eq!((ink.name.as_str(), ink.strength, ink.text_strength), ("ink wash", 0.8, None));
        assert_eq!((detail.strength, detail.text_strength), (1.0, Some(0.5)));
        assert_eq!((ink.hash.as_deref(), detail.hash.as_deref()), (Some("0123456789ab"), Some("7c6bad76eb54")));
        assert_eq!(found.settings.prompt.as_deref(), Some("a fox in ink,"));
        assert_eq!(
            found.embeddings,
            [UsedEmbedding::of_other("bad_hands".to_owned(), Some("aa7651be154c".to_owned()))]
        );
        assert_eq!(found.model_hash.as_deref(), Some("6ce0161689"));
        assert_eq!(found.vae.as_deref(), Some("vae-ft-mse-840000-ema-pruned.safetensors"));
        assert_eq!(
            found.notes,
            [
                "its weights of words were applied in another way (Emphasis: No norm)",
                "it also says what is not known here: Foo"
            ]
        );
    }

    #[test]
    fn all_that_we_write_is_known() {
        let sha256 = Some("7c6bad76eb54".repeat(6));
        let wrote = super::super::Parameters {
            prompt: "a foggy fox".into(),
            negative_prompt: Some("bad_hands".into()),
            steps: 20,
            sampler: "euler".into(),
            width: 512,
            height: 512,
            model: "v1-5".into(),
            strength: Some(0.5),
            padding_mask_crop: Some(32),
            mask_blur: Some(4.0),
            variation_seed: Some(9),
            variation_strength: Some(0.25),
            clip_skip: Some(2),
            prompt_syntax: Some(PromptSyntax::A1111),
            template: Some("a {foggy|red} fox".into()),
            negative_template: Some("{bad_hands|fog}".into()),
            loras: vec![UsedLora { sha256: sha256.clone(), ..UsedLora::named("ink") }],
            embeddings: vec![UsedEmbedding { sha256, ..UsedEmbedding::of_other("bad_hands".into(), None) }],
            weights: Some(WeightType::Q4_0),
            version: "darkroom 0.1.0".into(),
            ..Default::default()
        };
        let found = read(&wrote.to_a1111()).unwrap();
        assert_eq!((found.weights, found.notes), (wrote.weights, Vec::<String>::new()));
        let found = read("a\nSteps: 1, Seed: 2, Weights: q5_1, Version: darkroom 9").unwrap();
        assert_eq!(found.notes, ["its weights were held in q5_1, which is not one of ours"]);
    }

    #[test]
    fn civitais_list_of_resources_is_read() {
        let found = read(
            "a cat\nSteps: 25, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 7, Size: 832x1216, Clip skip: 2, \
             Created Date: 2025-01-02T0304:05.678Z, Civitai resources: [{\"type\":\"checkpoint\",\"modelVersionId\":1,\
             \"modelName\":\"Some, XL\"},{\"type\":\"lora\",\"weight\":0.8,\"modelName\":\"Ink\"}], Civitai metadata: {}",
        )
        .unwrap();
        assert_eq!(found.settings.model.as_deref(), Some("Some, XL"));
        assert_eq!((found.settings.loras[0].name.as_str(), found.settings.loras[0].strength), ("Ink", 0.8));
        assert_eq!(found.notes, Vec::<String>::new());
    }

    #[test]
    fn what_is_not_done_here_is_named_once() {
        let found = read(
            "x\nSteps: 1, Seed resize from: 512x512, ControlNet 0: \"Module: canny, Model: x\", \
             Refiner: xl-refiner, Refiner switch at: 0.8, ADetailer model: face_yolov8n.pt",
        )
        .unwrap();
        let said = |part: &str| found.notes.iter().filter(|note| note.contains(part)).count();
        for part in ["another size", "ControlNet", "refiner", "ADetailer"] {
            assert_eq!(said(part), 1, "{part}: {:?}", found.notes);
        }
        assert_eq!(found.notes.len(), 4, "{:?}", found.notes);
    }
}
