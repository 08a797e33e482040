//! What AUTOMATIC1111 and its extensions did to a picture and is not done here, by the keys of their settings.

use super::line::Line;

/// What is not done here, by how its keys begin (in lower case).
const NOT_DONE: [(&str, &str); 34] = [
    ("hires", "it was enlarged with hires fix"),
    ("first pass size", "it was enlarged with hires fix"),
    ("controlnet", "ControlNet steered it"),
    ("refiner", "a refiner finished it"),
    ("seed resize", "its noise is that of another size"),
    ("ensd", "the noise of its steps has a seed of its own"),
    ("eta noise seed delta", "the noise of its steps has a seed of its own"),
    ("face restoration", "its faces were restored"),
    ("adetailer", "ADetailer drew parts of it again"),
    ("tiling", "its edges fit together"),
    ("token merging", "tokens were merged to save time"),
    ("hypernet", "a hypernetwork changed the model"),
    ("regional prompter", "its prompts have regions"),
    ("rp ", "its prompts have regions"),
    ("latent couple", "its prompts have regions"),
    ("forge couple", "its prompts have regions"),
    ("tiled diffusion", "it was drawn in tiles"),
    ("ultimate sd upscale", "it was enlarged in tiles"),
    ("sd upscale", "it was enlarged in tiles"),
    ("postprocess upscale", "it was enlarged afterwards"),
    ("dynamic thresholding", "its guidance was held in bounds"),
    ("cfg rescale", "its guidance was rescaled"),
    ("freeu", "FreeU changed the model"),
    ("sag guidance", "self-attention guidance steered it"),
    ("ngms", "the negative prompt was left out in some steps"),
    ("skip early cfg", "the negative prompt was left out in some steps"),
    ("sigma ", "the noise of its steps was changed"),
    ("schedule max sigma", "the range of its noise levels was changed"),
    ("schedule min sigma", "the range of its noise levels was changed"),
    ("schedule rho", "the curve of its noise levels was changed"),
    ("noise multiplier", "its noise was made stronger or weaker"),
    ("extra noise", "noise was added to the start picture"),
    ("animatediff", "it is a frame of AnimateDiff"),
    ("ip-adapter", "a picture steered it (IP-Adapter)"),
];

/// Keys that change nothing, or are read elsewhere, in lower case.
const KNOWN: [&str; 42] = [
    "steps",
    "sampler",
    "schedule type",
    "cfg scale",
    "seed",
    "variation seed",
    "variation seed strength",
    "size",
    "model",
    "model hash",
    "vae",
    "vae hash",
    "denoising strength",
    "clip skip",
    "rng",
    "emphasis",
    "eta",
    "eta ddim",
    "lora hashes",
    "ti hashes",
    "ti",
    "hashes",
    "version",
    "user",
    "batch size",
    "batch pos",
    "created date",
    "civitai resources",
    "civitai metadata",
    "weights",
    "template",
    "negative template",
    "prompt syntax",
    "wildcard prompt",
    "wildcard negative prompt",
    "discard penultimate sigma",
    "mask blur",
    "mask mode",
    "inpaint area",
    "masked area padding",
    "masked content",
    "pad conds",
];

/// Names what was done to the picture and is not done here, and what is not known.
pub(super) fn about_the_rest(line: &Line, notes: &mut Vec<String>) {
    let mut unknown = Vec::new();
    let mut done: Vec<&str> = Vec::new();
    for (key, _) in &line.0 {
        let lower = key.to_lowercase();
        let is_like = |start: &&(&str, &str)| lower.starts_with(start.0);
        if let Some((_, what)) = NOT_DONE.iter().find(is_like) {
            if !done.contains(what) {
                done.push(what);
            }
        } else if !KNOWN.contains(&lower.as_str()) && !lower.is_empty() {
            unknown.push(key.as_str());
        }
    }
    for what in done {
        let is_like = |key: &str| {
            let lower = key.to_lowercase();
            NOT_DONE.iter().find(|(start, _)| lower.starts_with(start)).is_some_and(|(_, of_key)| *of_key == what)
        };
        let said = line.0.iter().filter(|(key, _)| is_like(key)).map(|(key, value)| format!("{key}: {value}"));
        let said: Vec<String> = said.take(4).collect();
        notes.push(format!("{what}, which is not done here ({})", said.join(", ")));
    }
    if !unknown.is_empty() {
        unknown.truncate(8);
        notes.push(format!("it also says what is not known here: {}", unknown.join(", ")));
    }
}
