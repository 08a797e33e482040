//! The layout of AUTOMATIC1111's web interface, as its own and other programs write it.
//!
//! What is there is taken: a setting that is absent or malformed does not refuse the others. Settings that have no field
//! here are passed over. Text behind the line of settings, where extensions put theirs, is passed over too.

use super::NEGATIVE;
use super::found::{Found, Settings};
use crate::prompt::PromptSyntax;
use crate::request::ClipSkipCounting;

/// Keys that tell a line of settings from a line of a prompt.
const KNOWN_KEYS: [&str; 8] =
    ["Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model hash", "Denoising strength"];
/// How many of them a line needs that does not begin with `Steps:`.
const ENOUGH_KEYS: usize = 2;

/// Reads such a text; `None` where no line of it is one of settings.
pub(super) fn read(text: &str) -> Option<Found> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (prompts, settings) = split_at_settings(text)?;
    let (prompt, negative_prompt) = split_prompts(prompts);
    let settings = split_settings(settings);
    let find = |key: &str| settings.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
    let mut notes = Vec::new();
    let mut taken = Settings {
        prompt: Some(prompt.to_owned()),
        negative_prompt: Some(negative_prompt.to_owned()).filter(|text| !text.is_empty()),
        steps: number("Steps", find("Steps"), &mut notes),
        guidance_scale: number("CFG scale", find("CFG scale"), &mut notes),
        // What people write for a random one.
        seed: number("Seed", find("Seed").filter(|seed| *seed != "-1"), &mut notes),
        model: find("Model").map(str::to_owned).filter(|model| !model.is_empty()),
        version: find("Version").map(str::to_owned).filter(|version| !version.is_empty()),
        ..Settings::default()
    };
    if let Some(size) = find("Size") {
        let sides = size
            .split_once('x')
            .and_then(|(width, height)| Some((width.trim().parse().ok()?, height.trim().parse().ok()?)));
        match sides {
            Some((width, height)) => (taken.width, taken.height) = (Some(width), Some(height)),
            None => notes.push(format!("its size {size:?} is not a width and a height")),
        }
    }
    if let Some(sampler) = find("Sampler") {
        taken.set_sampler(&with_schedule(sampler, find("Schedule type")));
    }
    // With hires fix, the strength is that of the second pass; the first one is from text.
    if settings.iter().any(|(key, _)| key.starts_with("Hires ")) {
        notes.push("it was enlarged with hires fix, which is not done here".to_owned());
    } else {
        taken.strength = number("Denoising strength", find("Denoising strength"), &mut notes);
    }
    let skipped: Option<u32> = number("Clip skip", find("Clip skip"), &mut notes);
    taken.clip_skip = skipped.filter(|&layer| layer > 1);
    taken.clip_skip_counting = taken.clip_skip.map(|_| ClipSkipCounting::A1111);
    taken.prompt_syntax = find(super::SYNTAX_KEY).and_then(PromptSyntax::named);
    Some(Found { program: "AUTOMATIC1111".to_owned(), settings: taken, notes })
}

/// A sampler's name with its schedule. `Automatic` is what the web interface chooses for the sampler.
fn with_schedule(sampler: &str, schedule: Option<&str>) -> String {
    let schedule = match schedule {
        Some("Automatic") => match sampler {
            "DPM++ 2M" => Some("Karras"),
            "DPM++ 2M SDE" => Some("Exponential"),
            _ => None,
        },
        // These are the model's own spacing.
        Some("Uniform" | "Normal" | "Simple" | "SGM Uniform" | "") | None => None,
        other => other,
    };
    match schedule {
        Some(schedule) if !sampler.ends_with(schedule) => format!("{sampler} {schedule}"),
        _ => sampler.to_owned(),
    }
}

/// The prompts, and the last line of settings.
fn split_at_settings(text: &str) -> Option<(&str, &str)> {
    let mut lines: Vec<(usize, &str)> = Vec::new();
    let mut at = 0;
    for line in text.split('\n') {
        lines.push((at, line.trim_end_matches('\r')));
        at += line.len() + 1;
    }
    let n_known = |line: &str| {
        let keys = split_settings(line);
        KNOWN_KEYS.iter().filter(|known| keys.iter().any(|(key, _)| key == *known)).count()
    };
    let is_settings = |line: &&(usize, &str)| line.1.starts_with("Steps:");
    let has_settings = |line: &&(usize, &str)| n_known(line.1) >= ENOUGH_KEYS;
    let &(start, line) = lines.iter().rev().find(is_settings).or_else(|| lines.iter().rev().find(has_settings))?;
    Some((text[..start].strip_suffix('\n').unwrap_or(&text[..start]), line))
}

/// The two prompts in the lines before the settings.
fn split_prompts(text: &str) -> (&str, &str) {
    let marked = if text.starts_with(NEGATIVE) { Some(0) } else { text.find("\nNegative prompt:").map(|i| i + 1) };
    match marked {
        None => (text, ""),
        Some(start) => {
            let negative = &text[start + NEGATIVE.len()..];
            (text[..start].strip_suffix('\n').unwrap_or(""), negative.strip_prefix(' ').unwrap_or(negative))
        }
    }
}

/// The settings `key: value, key: "value, quoted", …`; what has no colon is passed over.
fn split_settings(line: &str) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut rest = line.trim();
    while let Some((key, after)) = rest.split_once(':') {
        // What stood before the key without a colon is nobody's.
        let key = key.rsplit(',').next().unwrap_or(key).trim();
        let after = after.trim_start();
        let quoted = quoted_len(after)
            .and_then(|len| Some((serde_json::from_str::<String>(&after[..len]).ok()?, &after[len..])));
        let (value, after) = match quoted {
            // What may stand between the closing quote and the comma is nobody's.
            Some((value, after)) => (value, after.split_once(',').map_or("", |(_, next)| next)),
            None => after
                .split_once(',')
                .map_or_else(|| (after.trim().to_owned(), ""), |(value, next)| (value.trim().to_owned(), next)),
        };
        settings.push((key.to_owned(), value));
        rest = after.trim_start();
    }
    settings
}

/// The length of the JSON string that `text` starts with, quotes included.
fn quoted_len(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    for (i, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(i + 2),
            _ => {}
        }
    }
    None
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
            ["its Steps \"many\" cannot be used here", "its size \"512\" is not a width and a height"]
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
        assert!(found.notes[0].contains("hires fix"), "{found:?}");
        assert_eq!(settings("x\nSteps: 1, Denoising strength: 0.55, Mask blur: 4").strength, Some(0.55));
    }
}
