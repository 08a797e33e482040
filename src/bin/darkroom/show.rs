//! `darkroom show`: what a picture says of itself, and the command that draws it again.

use std::path::PathBuf;

use darkroom::image::picture_text;
use darkroom::model::SDVersion;
use darkroom::parameters::Settings;
use darkroom::parameters::{Found, UsedEmbedding};
use darkroom::prompt::PromptSyntax;
use darkroom::prompt::wildcards::is_template;
use darkroom::request::{ClipSkipCounting, Defaults, LongPrompt, LoraUse, Request, SideRule};
use darkroom::rng::Noise;
use darkroom::{Error, Result};
use serde_json::json;

use crate::visible::is_hidden;

/// `darkroom show`.
#[derive(clap::Args)]
pub struct Args {
    /// A picture file.
    file: PathBuf,
    /// Print one JSON object: the settings that were understood, what was not, and the command that draws the picture again.
    #[arg(long)]
    json: bool,
}

/// Prints every text that the picture carries, its parameters first; for a picture of another program then what was
/// understood of them. What a terminal would act on is made visible.
///
/// # Errors
/// When the file cannot be read, is no picture, is cut off, or carries no text.
pub fn run(args: &Args) -> Result<()> {
    let bytes = std::fs::read(&args.file).map_err(|e| Error::io(&args.file, e))?;
    let mut texts = picture_text(&bytes).map_err(|error| error.about(args.file.display().to_string()))?;
    if texts.is_empty() {
        let reason = "the picture carries no parameters".to_string();
        return Err(Error::Image { what: args.file.display().to_string(), reason });
    }
    let found = Found::in_text(&texts);
    if args.json {
        let command = found.as_ref().filter(|found| !found.settings.is_empty()).map(command);
        let mut object = json!(found.as_ref().map_or_else(|| json!({ "program": null }), |found| json!(found)));
        if let Some(found) = &found {
            object["notes"] = json!(notes(found));
        }
        object["command"] = json!(command);
        return crate::print_json(&object);
    }
    texts.sort_by_key(|(key, _)| match key.as_str() {
        "parameters" => 0,
        "darkroom" => 1,
        _ => 2,
    });
    for (key, text) in texts {
        crate::print_text(format_args!("{key}:\n{text}\n"))?;
    }
    match found.filter(|found| found.program != "darkroom") {
        Some(found) => lines(&found).iter().try_for_each(crate::print_line),
        None => Ok(()),
    }
}

/// What was understood, for people.
fn lines(found: &Found) -> Vec<String> {
    let settings = &found.settings;
    let mut lines = vec![format!("written by {}", found.program)];
    let hash = |hash: &str| if hash.is_empty() { String::new() } else { format!(" (hash {hash})") };
    if let Some(model) = &settings.model {
        lines.push(format!("model: {model}{}", hash(found.model_hash.as_deref().unwrap_or_default())));
    }
    if let Some(vae) = &found.vae {
        lines.push(format!("VAE: {vae}"));
    }
    for lora in &settings.loras {
        let text = lora.text_strength.map_or_else(String::new, |text| format!(", text encoder {text}"));
        let hash = hash(lora.hash.as_deref().or(lora.sha256.as_deref()).unwrap_or_default());
        lines.push(format!("LoRA: {}, strength {}{text}{hash}", lora.name, lora.strength));
    }
    let hash_of = |used: &UsedEmbedding| used.hash.clone().or(used.sha256.clone()).unwrap_or_default();
    lines.extend(found.embeddings.iter().map(|used| format!("embedding: {}{}", used.name, hash(&hash_of(used)))));
    if let Some(weights) = found.weights {
        lines.push(format!("weights: {}", weights.name()));
    }
    if !settings.is_empty() {
        lines.push(format!("to draw it again: {}", command(found)));
    }
    lines.extend(notes(found).into_iter().map(|note| format!("note: {note}")));
    lines
}

/// What could not be taken, and what to know of what was, for people and for `--json`.
fn notes(found: &Found) -> Vec<String> {
    let settings = &found.settings;
    let mut notes = found.notes.clone();
    if settings.noise == Some(Noise::Philox) {
        notes.push("its noise is of torch's CUDA generator, which --noise philox gives".to_owned());
    }
    if let Some(sampler) = settings.sampler.as_ref().filter(|_| !settings.knows_sampler()) {
        notes.push(format!("its sampler {sampler} is not one of ours"));
    }
    if settings.model.is_none() && !settings.is_empty() {
        notes.push("the file does not name its model: write one in place of MODEL".to_owned());
    }
    let texts = [&settings.prompt, &settings.negative_prompt, &settings.model];
    if texts.into_iter().flatten().any(|text| text.contains('\0')) {
        notes.push(
            "a text of it has characters of number 0, which no command can hold and which are left out".to_owned(),
        );
    }
    // What was drawn here can be drawn again, whatever sides its model has.
    if let Some(error) = refusal(settings).filter(|_| found.program != "darkroom") {
        notes.push(format!("the command is refused as it is: {error}"));
    }
    let folders =
        [("LORAS", "LoRAs", settings.loras.is_empty()), ("EMBEDDINGS", "embeddings", found.embeddings.is_empty())];
    for (name, what, _) in folders.into_iter().filter(|(.., is_empty)| !is_empty) {
        notes.push(format!("the file does not hold its {what}: write the folder that has them in place of {name}"));
    }
    if has_picture(found) {
        notes.push("it was made from another picture, which the file does not hold (--init)".to_owned());
    }
    if has_mask(found) {
        notes.push("replace MASK in the command with its mask's file; where a border was extended, --outpaint takes the place of --mask".to_owned());
    }
    notes
}

/// The rule of sides that every published version keeps with `--any-size`.
const ANY_SIDES: SideRule = SideRule { multiple: 8, any_multiple: 8 };

/// Why none of the versions draws with the settings, where none does. A sampler that is not known has a note of its own.
fn refusal(settings: &Settings) -> Option<Error> {
    let sampler = settings.sampler.clone().filter(|_| settings.knows_sampler());
    let whole = |number: Option<u32>| number.map(|number| number as usize);
    let request = Request {
        width: whole(settings.width),
        height: whole(settings.height),
        any_size: settings.any_size,
        steps: whole(settings.steps).filter(|_| settings.timesteps.is_none() && settings.sigmas.is_none()),
        timesteps: settings.timesteps.clone(),
        sigmas: settings.sigmas.clone(),
        sampler,
        spacing: settings.spacing,
        eta: settings.eta,
        guidance_scale: settings.guidance_scale,
        seed: settings.seed,
        clip_skip: whole(settings.clip_skip),
        clip_skip_counting: settings.clip_skip_counting,
        original_size: settings.original_size,
        crop: settings.crop,
        loras: settings.loras.iter().cloned().map(LoraUse::from).collect(),
        ..Request::default()
    };
    let check = |version| request.resolve(&Defaults::of(version), None, false, 0)?.validate_for(ANY_SIDES);
    let mut refused = None;
    for version in SDVersion::ALL {
        match check(version) {
            Ok(()) => return None,
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    refused
}

/// Whether it was made from another picture.
fn has_picture(found: &Found) -> bool {
    found.settings.strength.is_some() || has_mask(found)
}

/// Whether a part of another picture was drawn.
fn has_mask(found: &Found) -> bool {
    let settings = &found.settings;
    settings.padding_mask_crop.is_some() || settings.mask_blur.is_some()
}

/// `darkroom generate` with the settings, as a shell reads it. What the file does not hold has names in capitals: LoRAs and
/// embeddings lie in folders, a start picture is a file, and the model may be anything.
fn command(found: &Found) -> String {
    let settings = &found.settings;
    let written_in = settings.prompt_syntax.unwrap_or_default();
    let text = |value: &Option<String>| value.clone();
    let mut flags: Vec<(&str, Option<String>)> =
        vec![("--model", Some(text(&settings.model).unwrap_or_else(|| "MODEL".to_owned())))];
    flags.push(("--prediction", text(&settings.prediction)));
    let (mut tags, mut files) = (String::new(), Vec::new());
    for lora in settings.loras.iter().cloned().map(LoraUse::from) {
        // A plain prompt has no tags: they would be text.
        match lora.tag().filter(|_| written_in != PromptSyntax::Plain) {
            Some(tag) => tags.push_str(&tag),
            None => files.push(lora_file(&lora)),
        }
    }
    let prompt = settings.prompt.as_deref().unwrap_or_default();
    let space = if prompt.is_empty() || tags.is_empty() { "" } else { " " };
    flags.push(("--prompt", Some(as_text(&format!("{prompt}{space}{tags}"), written_in))));
    flags.push(("--lora-dir", (!tags.is_empty()).then(|| "LORAS".to_owned())));
    flags.extend(files.into_iter().map(|file| ("--lora", Some(file))));
    let of_embedding = |used: &UsedEmbedding| Some(format!("EMBEDDINGS/{}.safetensors", used.name));
    flags.extend(found.embeddings.iter().map(|used| ("--embedding", of_embedding(used))));
    flags.push(("--weights", found.weights.map(|weights| weights.name().to_owned())));
    flags.push(("--negative", settings.negative_prompt.as_deref().map(|text| as_text(text, written_in))));
    flags.push(("--init", has_picture(found).then(|| "PICTURE".to_owned())));
    flags.push(("--mask", has_mask(found).then(|| "MASK".to_owned())));
    let whole = |number: Option<u32>| number.map(|number| number.to_string());
    let real = |number: Option<f64>| number.map(|number| number.to_string());
    let pair = |pair: Option<(usize, usize)>| pair.map(|(x, y)| format!("{x}x{y}"));
    let list = |list: Vec<String>| Some(list.join(",")).filter(|list| !list.is_empty());
    let timesteps = settings.timesteps.iter().flatten().map(ToString::to_string).collect();
    let sigmas = settings.sigmas.iter().flatten().map(ToString::to_string).collect();
    let is_a1111_skip = settings.clip_skip.is_some() && settings.clip_skip_counting == Some(ClipSkipCounting::A1111);
    // Flags that are the defaults are left out.
    let syntax = settings.prompt_syntax.filter(|syntax| *syntax != PromptSyntax::default());
    let cuts = !settings.long_prompt_chunks;
    let long_prompt = match settings.prompt_syntax.map(LongPrompt::default_of) {
        Some(LongPrompt::Chunks) if cuts => Some("truncate"),
        Some(LongPrompt::Truncate) if !cuts => Some("chunks"),
        _ => None,
    };
    let has_list = settings.timesteps.is_some() || settings.sigmas.is_some();
    flags.extend([
        ("--steps", whole(settings.steps.filter(|_| !has_list))),
        ("--timesteps", list(timesteps)),
        ("--sigmas", list(sigmas)),
        ("--sampler", text(&settings.sampler).filter(|_| settings.knows_sampler())),
        ("--spacing", settings.spacing.map(|spacing| spacing.name().to_owned())),
        ("--eta", real(settings.eta)),
        ("--guidance", real(settings.guidance_scale)),
        ("--seed", settings.seed.map(|seed| seed.to_string())),
        ("--variation-seed", settings.variation_seed.map(|seed| seed.to_string())),
        ("--variation-strength", real(settings.variation_strength)),
        ("--noise", settings.noise.filter(|noise| *noise == Noise::Philox).map(|_| "philox".to_owned())),
        ("--width", whole(settings.width)),
        ("--height", whole(settings.height)),
        ("--clip-skip", whole(settings.clip_skip)),
        ("--clip-skip-counting", settings.clip_skip_counting.filter(|_| is_a1111_skip).map(|_| "a1111".to_owned())),
        ("--prompt-syntax", syntax.map(|syntax| syntax.name().to_owned())),
        ("--long-prompt", long_prompt.map(str::to_owned)),
        ("--strength", real(settings.strength)),
        ("--fit", text(&settings.fit)),
        ("--padding-mask-crop", whole(settings.padding_mask_crop)),
        ("--mask-blur", real(settings.mask_blur.filter(|radius| *radius != 0.0))),
        ("--original-size", pair(settings.original_size)),
        ("--crop", pair(settings.crop)),
    ]);
    // A value that begins with a dash would be another flag.
    let is_flag = |value: &str| value.starts_with('-');
    let given = flags.into_iter().filter_map(|(flag, value)| {
        let value = value?;
        Some(format!(" {flag}{}{}", if is_flag(&value) { "=" } else { " " }, quoted(&value)))
    });
    let any_size = if settings.any_size { " --any-size" } else { "" };
    format!("darkroom generate{}{any_size} -o out.png", given.collect::<String>())
}

/// A LoRA as `--lora` takes it.
fn lora_file(LoraUse { name, strength, text_strength }: &LoraUse) -> String {
    let text = text_strength.map_or_else(String::new, |text| format!(":{text}"));
    format!("LORAS/{name}.safetensors:{strength}{text}")
}

/// A prompt in which nothing is decided: what would be options, or the name of a list, has backslashes.
fn as_text(prompt: &str, syntax: PromptSyntax) -> String {
    let has_choices = matches!(syntax, PromptSyntax::A1111 | PromptSyntax::Comfy);
    match has_choices && is_template(prompt) {
        true => prompt.replace('{', r"\{").replace('}', r"\}").replace('|', r"\|").replace("__", r"\__"),
        false => prompt.to_owned(),
    }
}

/// A value as a shell reads it, in one line and without anything that a terminal acts on. Where that takes escapes it is
/// `$'…'`, which POSIX has since 2024 and bash, zsh, ksh and busybox before. Bytes are in octal, since `\u` depends on the
/// locale.
fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./,+=@".contains(c);
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.to_owned();
    }
    if !value.contains(is_hidden) {
        return format!("'{}'", value.replace('\'', r"'\''"));
    }
    let mut escaped = String::new();
    for c in value.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            '\\' => escaped.push_str("\\\\"),
            // No argument of a program can hold it.
            '\0' => {}
            // Of a quote or an exclamation mark, shells that look at earlier commands make something else.
            c if is_hidden(c) || c == '\'' || c == '!' => {
                let mut bytes = [0; 4];
                c.encode_utf8(&mut bytes).bytes().for_each(|byte| escaped.push_str(&format!("\\{byte:03o}")));
            }
            c => escaped.push(c),
        }
    }
    format!("$'{escaped}'")
}

#[cfg(test)]
mod tests {
    use darkroom::parameters::UsedLora;
    use darkroom::prompt::wildcards::{Wildcards, expand};

    use super::*;

    #[test]
    fn the_command_is_that_of_a_shell() {
        let text = "it's a fox, <lora:ink:0.8>\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x768, Model: my model";
        let found = Found::in_text(&[("parameters".to_owned(), text.to_owned())]).unwrap();
        assert_eq!(
            command(&found),
            "darkroom generate --model 'my model' --prompt 'it'\\''s a fox, <lora:ink:0.8>' --lora-dir LORAS --steps 20 \
             --sampler euler_a --spacing linspace --guidance 7 --seed 5 --noise philox --width 512 --height 768 -o out.png"
        );
        let lines = lines(&found);
        assert_eq!(lines[..3], ["written by AUTOMATIC1111", "model: my model", "LoRA: ink, strength 0.8"]);
        assert_eq!(
            lines[4..],
            [
                "note: its noise is of torch's CUDA generator, which --noise philox gives",
                "note: the file does not hold its LoRAs: write the folder that has them in place of LORAS",
            ]
        );
    }

    fn found_in(line: &str) -> Found {
        Found::in_text(&[("parameters".to_owned(), line.to_owned())]).unwrap()
    }

    #[test]
    fn a_plain_prompt_takes_its_loras_as_files() {
        let line = "a {cat|dog}\nSteps: 20, Seed: 5, Prompt syntax: plain, Version: darkroom 0.1.0";
        let mut found = found_in(line);
        let lora = |name, text_strength| UsedLora { strength: 0.8, text_strength, ..UsedLora::named(name) };
        found.settings.loras = vec![lora("ink", None), lora("a wash", Some(0.5))];
        let command = command(&found);
        let expected =
            " --prompt 'a {cat|dog}' --lora 'LORAS/ink.safetensors:0.8' --lora 'LORAS/a wash.safetensors:0.8:0.5' ";
        assert!(command.contains(expected), "{command}");
        assert!(!command.contains("--lora-dir"), "{command}");
        // A name that a tag cannot have.
        let mut found = found_in("a cat <lora:ink:1>\nSteps: 20, Seed: 5");
        found.settings.loras.push(lora("a:b", None));
        let command = super::command(&found);
        let expected = "--prompt 'a cat <lora:ink:1>' --lora-dir LORAS --lora 'LORAS/a:b.safetensors:0.8' ";
        assert!(command.contains(expected), "{command}");
    }

    #[test]
    fn prompts_decide_nothing_again() {
        for text in [
            "a {cat|dog}, __name__, 1|2",
            r"\{a\|b\} \\{ \__x__ ___ ____ \(c\)",
            r"a\|b \}",
            "${x} {2$$a|b} {{a}} }{",
            "_{_ \\",
            "__",
        ] {
            for syntax in [PromptSyntax::A1111, PromptSyntax::Comfy] {
                assert_eq!(expand(&as_text(text, syntax), Some(&Wildcards::new()), 7).unwrap().text, text);
            }
            assert_eq!(as_text(text, PromptSyntax::Compel), text);
        }
        let found = found_in("a {cat}, <lora:x__y__:1>\nNegative prompt: __a__\nSteps: 20, Seed: 5, Template: __b__");
        let command = command(&found);
        assert!(
            command.contains(r"--prompt 'a \{cat\}, <lora:x\__y\__:1>' --lora-dir LORAS --negative '\__a\__' "),
            "{command}"
        );
    }

    /// What a shell passes on of the words of a command.
    fn words_of(shell: &str, command: &str) -> Vec<String> {
        let script = format!("darkroom() {{ printf '%s\\0' \"$@\"; }}\n{command}");
        let run = std::process::Command::new(shell).env("LC_ALL", "C").args(["-c", &script]).output().unwrap();
        assert!(run.status.success(), "{command}: {run:?}");
        let text = String::from_utf8(run.stdout).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    #[test]
    fn a_shell_reads_the_very_prompt() {
        for prompt in [
            "line1\nline2\n\n  line3",
            "a\tb \u{202e}exe\u{2069} it's \\n \"x\" $HOME `id` !! \u{1b}[2J7\u{7f}8",
            "\u{85}\u{feff}1 ein Äpfelchen 👩\u{200d}🚀\n",
            "plain it's $(x) \\",
            "--help",
            "-x\n",
        ] {
            let mut found = found_in("x\nSteps: 20, Seed: 5, Prompt syntax: compel, Version: darkroom 0.1.0");
            found.settings.prompt = Some(prompt.to_owned());
            found.settings.negative_prompt = Some(prompt.to_owned());
            let command = command(&found);
            assert_eq!(crate::visible::visible_line(&command), command, "nothing is left for the terminal");
            let words = words_of("bash", &command);
            let value = |flag: &str| {
                let at = words.iter().position(|word| word.split('=').next() == Some(flag)).unwrap();
                words[at].strip_prefix(&format!("{flag}=")).map_or_else(|| words[at + 1].clone(), str::to_owned)
            };
            assert_eq!((value("--prompt"), value("--negative")), (prompt.to_owned(), prompt.to_owned()), "{command}");
        }
        let mut found = found_in("x\nSteps: 20, Seed: 5");
        found.settings.prompt = Some("a\0b".to_owned());
        assert!(notes(&found).iter().any(|note| note.contains("number 0")), "{:?}", notes(&found));
        assert!(!command(&found).contains('\0') && !command(&found).contains("000"), "{}", command(&found));
    }

    #[test]
    fn a_command_that_cannot_run_says_why() {
        let found = found_in(
            "p\nSteps: 20, Sampler: Foo, CFG scale: NaN, Size: 0x0, Denoising strength: 5, Clip skip: 99, RNG: CPU",
        );
        assert_eq!(command(&found), "darkroom generate --model MODEL --prompt p --steps 20 -o out.png");
        assert_eq!(notes(&found).len(), 6, "{:?}", notes(&found));
        assert!(notes(&found).iter().any(|note| note.contains("place of MODEL")), "{:?}", notes(&found));
        let found = found_in("p\nSteps: 20, Size: 510x512, Model: x, RNG: CPU");
        assert_eq!(command(&found), "darkroom generate --model x --prompt p --steps 20 -o out.png");
        assert_eq!(notes(&found).len(), 1, "{:?}", notes(&found));
        // What no rule of another program's settings caught.
        let mut found = found_in("p\nSteps: 20, Size: 512x512, Model: x, RNG: CPU");
        assert!(refusal(&found.settings).is_none());
        found.settings.width = Some(20);
        assert!(notes(&found).iter().any(|note| note.contains("refused as it is: width 20")), "{:?}", notes(&found));
    }

    #[test]
    fn a_mask_is_that_of_a_picture() {
        let found = found_in("a cat\nSteps: 20, Seed: 5, Mask blur: 4, Clip skip: 1");
        let command = command(&found);
        assert!(command.contains(" --init PICTURE --mask MASK ") && command.contains(" --mask-blur 4 "), "{command}");
        assert!(!command.contains("--clip-skip"), "{command}");
        assert_eq!(notes(&found).iter().filter(|note| note.contains("MASK")).count(), 1, "{:?}", notes(&found));
    }

    #[test]
    fn what_the_file_does_not_hold_is_named() {
        let line =
            "a cat\nSteps: 20, Sampler: Restart, Seed: 5, Denoising strength: 0.5, TI hashes: \"bad hands: aa, b: bb\"";
        let found = found_in(line);
        let command = command(&found);
        for part in
            ["--embedding 'EMBEDDINGS/bad hands.safetensors' --embedding EMBEDDINGS/b.safetensors", " --init PICTURE "]
        {
            assert!(command.contains(part), "{command}");
        }
        assert_eq!(notes(&found).len(), 5, "{:?}", notes(&found));
        let embeddings = "the file does not hold its embeddings: write the folder that has them in place of EMBEDDINGS";
        assert_eq!(notes(&found).iter().filter(|note| *note == embeddings).count(), 1);
        let in_lines: Vec<String> =
            lines(&found).into_iter().filter_map(|line| Some(line.strip_prefix("note: ")?.to_owned())).collect();
        assert_eq!(in_lines, notes(&found));
    }
}
