//! The graph that ComfyUI ran, as it writes it into a picture under `prompt`: from the picture's node back to the sampler,
//! and from there to prompts, size, model and LoRAs.
//!
//! Nodes are told by their inputs' names more than by their class, as extensions have their own classes with the usual
//! names. What changes the picture and is not known here is named. Links may form circles: of one walk each node is asked
//! once, and so many at most.

use std::collections::BTreeSet;

use serde_json::Value;

use super::found::Found;
use super::other_programs::{Object, number, object, text_of};
use super::{UsedEmbedding, UsedLora, spelled};
use crate::prompt::PromptSyntax;
use crate::rng::Noise;

/// How many nodes one walk asks.
const MAX_NODES: usize = 64;
/// The most texts that are joined to one.
const MAX_JOINED: usize = 16;
/// The most characters of a value that a note shows.
const MAX_SHOWN: usize = 80;
/// The most LoRAs that are listed.
const MAX_LORAS: usize = 64;

/// Inputs that lead from a picture or latents to what they were made from, the nearest first.
const OF_LATENTS: [&str; 12] = [
    "samples",
    "latent_image",
    "latent",
    "pixels",
    "images",
    "image",
    "samples_to",
    "latents",
    "optional_latent",
    "upscaled_latent",
    "any",
    "",
];
/// Inputs that lead from conditioning to what it was made from.
const OF_CONDITIONING: [&str; 6] =
    ["conditioning", "conditioning_1", "conditioning_to", "conditioning_a", "cond1", "base_conditioning"];
/// Inputs that hold a text, the most telling first.
const TEXTS: [&str; 13] = [
    "populated_text",
    "text",
    "text_g",
    "string",
    "value",
    "prompt",
    "clip_l",
    "t5xxl",
    "text_positive",
    "Text",
    "STRING",
    "any",
    "",
];
/// Inputs whose texts a node joins.
const JOINED: [&[&str]; 5] = [
    &["string_a", "string_b"],
    &["text_a", "text_b", "text_c", "text_d"],
    &["text1", "text2", "text3", "text4"],
    &["string1", "string2", "string3", "string4"],
    &["text_1", "text_2", "text_3", "text_4"],
];
/// Inputs that hold a number.
const NUMBERS: [&str; 10] = ["value", "seed", "noise_seed", "int", "float", "number", "Number", "Value", "any", ""];

/// What is not done here, by a part of the class's name in lower case.
const NOT_DONE: [(&str, &str); 24] = [
    ("controlnet", "ControlNet steered it"),
    ("t2iadapter", "a T2I-Adapter steered it"),
    ("ipadapter", "a picture steered it (IP-Adapter)"),
    ("unclip", "a picture steered it (unCLIP)"),
    ("stylemodel", "a picture steered it (style model)"),
    ("gligen", "boxes steered it (GLIGEN)"),
    ("setarea", "its prompts have regions"),
    ("conditioningsetmask", "its prompts have regions"),
    ("settimesteprange", "its prompts change over the steps"),
    ("conditioningcombine", "several prompts were combined, of which the first is taken"),
    ("conditioningconcat", "several prompts were joined, of which the first is taken"),
    ("conditioningaverage", "two prompts were mixed, of which the first is taken"),
    ("freeu", "FreeU changed the model"),
    ("hypernetwork", "a hypernetwork changed the model"),
    ("modelmerge", "several models were merged"),
    ("rescalecfg", "its guidance was rescaled"),
    ("deepshrink", "the UNet ran smaller at first"),
    ("patchmodeladddownscale", "the UNet ran smaller at first"),
    ("perturbedattention", "perturbed attention steered it"),
    ("selfattentionguidance", "self-attention guidance steered it"),
    ("tomepatch", "tokens were merged to save time"),
    ("hypertile", "the UNet ran in tiles"),
    ("dynamicthreshold", "its guidance was held in bounds"),
    ("modelsampling", "its noise levels were changed"),
];

/// Classes that pass a model on and change nothing that is not read here.
const HARMLESS: [&str; 8] = ["lora", "reroute", "loader", "cache", "compile", "switch", "pipe", "clipsetlastlayer"];

/// The nodes by their ids.
struct Graph {
    nodes: Object,
}

#[derive(Clone, Copy)]
struct Node<'a> {
    id: &'a str,
    class: &'a str,
    inputs: &'a Object,
}

/// A walk along links, which asks each node once.
struct Walk<'a> {
    graph: &'a Graph,
    seen: BTreeSet<&'a str>,
    /// Whether a part of a joined text was not found.
    is_lost: bool,
}

/// Where links to conditioning lead.
enum Led<'a> {
    /// To the node that encodes a text.
    Text(Node<'a>),
    /// To conditioning of zeros, which has no text.
    Zeros,
    /// To what is not known here, or not there.
    Nowhere,
}

/// Which of two conditionings is followed where a node has both.
#[derive(Clone, Copy)]
enum Side {
    Positive,
    Negative,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Positive => "positive",
            Side::Negative => "negative",
        }
    }
}

impl Graph {
    fn node<'a>(&'a self, id: &str) -> Option<Node<'a>> {
        let (id, node) = self.nodes.get_key_value(id)?;
        let inputs = node.get("inputs")?.as_object()?;
        Some(Node { id, class: node.get("class_type").and_then(Value::as_str).unwrap_or_default(), inputs })
    }

    /// The node that a link, `[id, output]`, leads to.
    fn linked<'a>(&'a self, link: Option<&Value>) -> Option<Node<'a>> {
        let [id, _output] = &link?.as_array()?[..] else { return None };
        match id {
            Value::String(id) => self.node(id),
            Value::Number(id) => self.node(&id.to_string()),
            _ => None,
        }
    }

    fn walk(&self) -> Walk<'_> {
        Walk { graph: self, seen: BTreeSet::new(), is_lost: false }
    }

    /// The nodes in the order of their numbers.
    fn in_order(&self) -> Vec<Node<'_>> {
        let mut nodes: Vec<Node> = self.nodes.keys().filter_map(|id| self.node(id)).collect();
        nodes.sort_by_key(|node| {
            (node.id.split(':').next().and_then(|id| id.parse::<u64>().ok()).unwrap_or(u64::MAX), node.id)
        });
        nodes
    }

    /// A number, or that of the node that a link leads to.
    fn number<T: std::str::FromStr>(&self, value: Option<&Value>) -> Option<T> {
        let mut walk = self.walk();
        let mut value = value?;
        while value.is_array() {
            let node = walk.enter(value)?;
            value = NUMBERS.iter().find_map(|name| node.inputs.get(*name))?;
        }
        number(Some(value))
    }

    /// Likewise, and a note where there is a value that is no such number.
    fn number_or_note<T: std::str::FromStr>(
        &self,
        what: &str,
        value: Option<&Value>,
        notes: &mut Vec<String>,
    ) -> Option<T> {
        let number = self.number(value);
        if let (None, Some(value)) = (&number, value) {
            notes.push(cannot_be_used(what, value));
        }
        number
    }
}

/// A note about an input that is not what it should be.
fn cannot_be_used(what: &str, value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Null => format!("its {what} cannot be followed through the graph"),
        value => {
            let shown: String = value.to_string().chars().take(MAX_SHOWN).collect();
            format!("its {what} {shown} cannot be used here")
        }
    }
}

impl<'a> Walk<'a> {
    /// The node that a link leads to, the first time and while there are not too many.
    fn enter(&mut self, link: &Value) -> Option<Node<'a>> {
        let node = self.graph.linked(Some(link))?;
        (self.seen.len() < MAX_NODES && self.seen.insert(node.id)).then_some(node)
    }

    /// The nearest node from a link, along inputs of these names, that is wanted.
    fn nearest(&mut self, link: &Value, along: &[&str], wanted: &dyn Fn(&Node) -> bool) -> Option<Node<'a>> {
        let node = self.enter(link)?;
        if wanted(&node) {
            return Some(node);
        }
        along.iter().find_map(|name| self.nearest(node.inputs.get(*name)?, along, wanted))
    }

    /// A text, also one that other nodes make.
    fn text(&mut self, value: &Value) -> Option<String> {
        if let Some(text) = value.as_str() {
            return Some(text.to_owned());
        }
        let node = self.enter(value)?;
        for names in JOINED {
            let parts: Vec<&Value> = names.iter().filter_map(|name| node.inputs.get(*name)).collect();
            if parts.len() > 1 {
                let between = text_of(node.inputs, &["delimiter", "separator"]).unwrap_or_default();
                let texts: Vec<String> = parts
                    .into_iter()
                    .take(MAX_JOINED)
                    .filter_map(|part| {
                        let text = self.text(part);
                        self.is_lost |= text.is_none();
                        text
                    })
                    .filter(|t| !t.is_empty())
                    .collect();
                return (!texts.is_empty()).then(|| texts.join(&between.replace("\\n", "\n")));
            }
        }
        TEXTS.iter().find_map(|name| self.text(node.inputs.get(*name)?))
    }
}

/// Looks for a graph, under `prompt`, or only the one that ComfyUI shows, under `workflow`; in WebP behind that word and a
/// colon.
pub(super) fn read(text: &[(String, String)]) -> Option<Found> {
    let graph = |name: &str| {
        text.iter().find_map(|(key, value)| {
            let is_named = key == name;
            let value =
                value.strip_prefix(name).and_then(|rest| rest.strip_prefix(':')).or(is_named.then_some(value))?;
            object(value)
        })
    };
    let is_graph = |nodes: &Object| nodes.values().any(|node| node.get("class_type").is_some());
    let mut found = Found::of("ComfyUI");
    match graph("prompt").filter(is_graph) {
        Some(nodes) => Graph { nodes }.tell(&mut found),
        None => {
            let shown = graph("workflow").filter(|workflow| workflow.contains_key("nodes"))?;
            let n_nodes = shown.get("nodes").and_then(Value::as_array).map_or(0, Vec::len);
            found.notes.push(format!("it holds a workflow of {n_nodes} nodes, not the settings it ran with"));
        }
    }
    Some(found)
}

/// Whether a node turns noise into latents.
fn is_sampler(node: &Node) -> bool {
    let has = |name: &str| node.inputs.contains_key(name);
    (has("steps") && (has("positive") || node.class.contains("KSampler")))
        || (has("sigmas") && (has("guider") || has("positive")))
        || (node.class.contains("KSampler") && has("latent_image"))
}

impl Graph {
    fn tell(&self, found: &mut Found) {
        let nodes = self.in_order();
        let is_output = |node: &&Node| {
            let class = node.class.to_lowercase();
            class.contains("save") || class.contains("preview") || class.contains("output")
        };
        let mut last = None;
        // Saved pictures first, then those that are only shown.
        let (saved, shown): (Vec<&Node>, Vec<&Node>) =
            nodes.iter().filter(is_output).partition(|node| node.class.to_lowercase().contains("save"));
        for output in saved.into_iter().chain(shown) {
            let link = OF_LATENTS.iter().find_map(|name| output.inputs.get(*name).filter(|link| link.is_array()));
            let sampler = link.and_then(|link| self.walk().nearest(link, &OF_LATENTS, &is_sampler));
            if let (Some(sampler), Some(link)) = (sampler, link) {
                last = Some((sampler, link));
                break;
            }
        }
        let samplers = nodes.iter().filter(|node| is_sampler(node)).count();
        let Some(last_sampler) = last.map(|(sampler, _)| sampler).or_else(|| nodes.iter().copied().find(is_sampler))
        else {
            found.notes.push("its workflow has no sampler of the usual kind".to_owned());
            return;
        };
        if let Some((_, link)) = last {
            let decode = self.walk().nearest(link, &OF_LATENTS, &|node| node.inputs.contains_key("vae"));
            let vae = decode.and_then(|node| self.walk().nearest(node.inputs.get("vae")?, &["vae", ""], &|_| true));
            found.vae = vae.and_then(|node| text_of(node.inputs, &["vae_name"])).map(str::to_owned);
        }
        let passes = self.passes(last_sampler);
        let first = passes.last().copied().unwrap_or(last_sampler);
        if passes.len() > 1 {
            found.notes.push(format!(
                "{} samplers ran one after the other, as in hires fix or with a refiner: the settings are those of the first",
                passes.len()
            ));
        }
        if samplers > passes.len() {
            found.notes.push(format!(
                "its workflow has {samplers} samplers: the settings are those that lead to the first picture"
            ));
        }
        self.tell_sampler(first, found);
    }

    /// The samplers that a picture went through, the last one first.
    fn passes<'a>(&'a self, last: Node<'a>) -> Vec<Node<'a>> {
        let mut passes = vec![last];
        let mut walk = self.walk();
        walk.seen.insert(last.id);
        let mut at = last;
        while let Some(link) = at.inputs.get("latent_image").or_else(|| at.inputs.get("latent"))
            && let Some(before) = walk.nearest(link, &OF_LATENTS, &is_sampler)
        {
            passes.push(before);
            at = before;
        }
        passes
    }

    fn tell_sampler(&self, sampler: Node, found: &mut Found) {
        let inputs = sampler.inputs;
        let linked = |name: &str| self.linked(inputs.get(name));
        let guider = linked("guider").map_or(inputs, |node| node.inputs);
        let settings = &mut found.settings;
        settings.guidance_scale = self.number_or_note("guidance scale", guider.get("cfg"), &mut found.notes);
        if linked("guider").is_some() && settings.guidance_scale.is_none() && guider.contains_key("conditioning") {
            settings.guidance_scale = Some(1.0);
        }
        let of_noise = linked("noise").map_or(inputs, |node| node.inputs);
        let seed = of_noise.get("seed").or_else(|| of_noise.get("noise_seed")).or_else(|| inputs.get("noise"));
        settings.seed = self.number_or_note("seed", seed, &mut found.notes);
        settings.noise = settings.seed.map(|_| Noise::Cpu);
        // Of a custom sampler, steps, denoising and schedule are those of the node that makes its noise levels.
        let is_schedule = |node: &Node| node.inputs.contains_key("steps");
        let schedule = inputs.get("sigmas").and_then(|link| self.walk().nearest(link, &["sigmas", ""], &is_schedule));
        let of_steps = schedule.map_or(inputs, |node| node.inputs);
        settings.steps = self.number_or_note("steps", of_steps.get("steps"), &mut found.notes);
        let named = linked("sampler").map(|node| {
            let name = text_of(node.inputs, &["sampler_name"]).map(str::to_owned);
            name.unwrap_or_else(|| node.class.trim_start_matches("Sampler").to_owned())
        });
        let name = named.or_else(|| text_of(inputs, &["sampler_name", "sampler"]).map(str::to_owned));
        let spaced = schedule.filter(|node| !node.inputs.contains_key("scheduler"));
        let spaced = spaced.map(|node| node.class.trim_end_matches("Scheduler").to_owned());
        let spaced = spaced.or_else(|| text_of(of_steps, &["scheduler"]).map(str::to_owned));
        match name {
            Some(name) => spelled::take(settings, &name, spaced.as_deref(), &mut found.notes),
            None => {
                let value = ["sampler_name", "sampler"].iter().find_map(|name| inputs.get(*name));
                found.notes.push(cannot_be_used("sampler", value.unwrap_or(&Value::Null)));
            }
        }
        self.tell_range(inputs, found);
        self.tell_prompts(guider, found);
        self.tell_model(guider.get("model").or_else(|| inputs.get("model")), found);
        self.tell_latents(inputs, of_steps, found);
        found.settings.read_in(PromptSyntax::Comfy);
    }

    /// A sampler that does a part of the steps.
    fn tell_range(&self, inputs: &Object, found: &mut Found) {
        let steps = found.settings.steps.unwrap_or(u32::MAX);
        let start: u32 = self.number(inputs.get("start_at_step")).unwrap_or(0);
        let end: u32 = self.number(inputs.get("end_at_step")).unwrap_or(u32::MAX);
        if start > 0 || end < steps {
            found.notes.push(format!("only its steps from {start} to {} were done", end.min(steps)));
        }
    }

    fn tell_prompts(&self, guider: &Object, found: &mut Found) {
        let mut classes = BTreeSet::new();
        let positive = guider.get("positive").or_else(|| guider.get("conditioning"));
        let led = positive.map_or(Led::Nowhere, |link| self.conditioning(link, Side::Positive, &mut classes));
        if let Led::Text(node) = led {
            self.tell_encoder(node, found);
        }
        let prompt = self.prompt_of(led, Side::Positive, &mut found.notes);
        // Without such an input nothing is avoided.
        let led = guider.get("negative").map(|link| self.conditioning(link, Side::Negative, &mut classes));
        let negative = led.and_then(|led| self.prompt_of(led, Side::Negative, &mut found.notes));
        for text in [&prompt, &negative].into_iter().flatten() {
            for name in embeddings(text) {
                if !found.embeddings.iter().any(|known| known.name == name) && found.embeddings.len() < MAX_LORAS {
                    found.embeddings.push(UsedEmbedding::of_other(name.to_owned(), None));
                }
            }
        }
        found.settings.prompt = prompt;
        found.settings.negative_prompt = negative.filter(|text| !text.is_empty());
        about(&classes, &mut found.notes);
    }

    /// The node that encodes a text, from a link to conditioning. Classes on the way are noted.
    fn conditioning<'a>(&'a self, link: &Value, side: Side, classes: &mut BTreeSet<&'a str>) -> Led<'a> {
        let mut walk = self.walk();
        let mut link = link;
        while let Some(node) = walk.enter(link) {
            let is_text = |name: &&str| node.inputs.get(*name).is_some_and(|value| !value.is_null());
            if node.inputs.contains_key("clip") && TEXTS[..11].iter().any(is_text) {
                return Led::Text(node);
            }
            // A loader with prompts of its own.
            if node.inputs.get(side.name()).is_some_and(Value::is_string) {
                return Led::Text(node);
            }
            if node.class == "ConditioningZeroOut" {
                return Led::Zeros;
            }
            classes.insert(node.class);
            let along = OF_CONDITIONING.iter().copied().chain([side.name(), ""]);
            let Some(next) = along.filter_map(|name| node.inputs.get(name)).find(|link| link.is_array()) else { break };
            link = next;
        }
        Led::Nowhere
    }

    /// The text that links led to; one that was not found, or not whole, is a note.
    fn prompt_of(&self, led: Led, side: Side, notes: &mut Vec<String>) -> Option<String> {
        let (text, is_lost) = match led {
            Led::Zeros => return None,
            Led::Nowhere => (None, true),
            Led::Text(node) => {
                let own = node.inputs.get(side.name());
                let mut is_lost = false;
                let mut texts = own.into_iter().chain(TEXTS.iter().filter_map(|name| node.inputs.get(*name)));
                let text = texts.find_map(|value| {
                    let mut walk = self.walk();
                    let text = walk.text(value);
                    is_lost |= walk.is_lost;
                    text
                });
                is_lost |= text.is_none();
                (text, is_lost)
            }
        };
        if is_lost {
            let which = match side {
                Side::Positive => "prompt",
                Side::Negative => "negative prompt",
            };
            let whole = if text.is_some() { " to its end" } else { "" };
            notes.push(format!("its {which} cannot be followed through the graph{whole}"));
        }
        text
    }

    /// What the encoder of the prompt says beside it: XL's second text and sizes, and layers that are left out.
    fn tell_encoder(&self, node: Node, found: &mut Found) {
        let text = |name: &str| node.inputs.get(name).and_then(|value| self.walk().text(value));
        if let (Some(g), Some(l)) = (text("text_g"), text("text_l"))
            && g != l
            && !l.is_empty()
        {
            found.notes.push("its two text encoders read two prompts, of which the first (text_g) is taken".to_owned());
        }
        let pair = |x: &str, y: &str| {
            Some((self.number::<usize>(node.inputs.get(x))?, self.number::<usize>(node.inputs.get(y))?))
        };
        let settings = &mut found.settings;
        if node.class.contains("SDXL") && !node.class.contains("Refiner") {
            let target = pair("target_width", "target_height");
            settings.original_size = pair("width", "height").filter(|size| Some(*size) != target);
            settings.crop = pair("crop_w", "crop_h").filter(|crop| *crop != (0, 0));
        }
        let interpreter = text_of(node.inputs, &["weight_interpretation", "parser"]);
        if let Some(other) = interpreter.filter(|name| !name.eq_ignore_ascii_case("comfy")) {
            found.notes.push(format!("its weights of words were applied in another way ({other})"));
        }
        let has_layer = |node: &Node| node.inputs.contains_key("stop_at_clip_layer");
        let link = node.inputs.get("clip");
        let layer = link.and_then(|link| self.walk().nearest(link, &["clip", ""], &has_layer));
        let layer = layer.and_then(|node| self.number::<i64>(node.inputs.get("stop_at_clip_layer")));
        let skipped = layer.and_then(|layer| layer.checked_neg()).and_then(|layer| u32::try_from(layer - 1).ok());
        found.settings.clip_skip = skipped.filter(|&layers| layers > 0);
    }

    /// The model, and what changed it on its way.
    fn tell_model(&self, link: Option<&Value>, found: &mut Found) {
        let mut walk = self.walk();
        let mut classes = BTreeSet::new();
        let mut loras = Vec::new();
        let mut link = link.cloned();
        while let Some(node) = link.as_ref().and_then(|link| walk.enter(link)) {
            self.loras_of(node, &mut loras);
            let name = text_of(node.inputs, &["ckpt_name", "unet_name", "model_name", "checkpoint"]);
            let named =
                ["ckpt_name", "model_name"].iter().find_map(|key| node.inputs.get(*key)?.get("content")?.as_str());
            if let Some(name) = name.or(named) {
                found.settings.model = Some(name.to_owned());
                break;
            }
            classes.insert(node.class);
            let along = ["model", "model1", "base_model", "MODEL", ""];
            link = along.iter().filter_map(|name| node.inputs.get(*name)).find(|link| link.is_array()).cloned();
        }
        loras.reverse();
        loras.truncate(MAX_LORAS);
        found.settings.loras = loras;
        let known = about(&classes, &mut found.notes);
        for class in classes.difference(&known) {
            let lower = class.to_lowercase();
            if !HARMLESS.iter().any(|part| lower.contains(part)) && !class.is_empty() {
                found.notes.push(format!("its model went through {class:?}, which is not known here"));
            }
        }
    }

    /// The LoRAs that a node adds to a model: one, or a list.
    fn loras_of(&self, node: Node, loras: &mut Vec<UsedLora>) {
        let mut add = |name: &str, model: Option<f64>, clip: Option<f64>| {
            let strength = model.unwrap_or(1.0);
            let is_off = strength == 0.0 && clip.unwrap_or(strength) == 0.0;
            if name != "None" && !name.is_empty() && !is_off && loras.len() < MAX_LORAS {
                let text_strength = clip.filter(|clip| *clip != strength);
                loras.push(UsedLora { strength, text_strength, ..UsedLora::named(bare(name)) });
            }
        };
        let strength = |names: &[&str]| names.iter().find_map(|name| self.number::<f64>(node.inputs.get(*name)));
        let content = node.inputs.get("lora_name").and_then(|name| name.get("content")?.as_str());
        if let Some(name) = text_of(node.inputs, &["lora_name"]).or(content) {
            // Without a strength of its own for the text encoder it changes the UNet alone.
            let is_model_only = !node.inputs.contains_key("clip") && !node.inputs.contains_key("strength_clip");
            let clip = strength(&["strength_clip", "lora_clip_strength"]).or(is_model_only.then_some(0.0));
            add(name, strength(&["strength_model", "strength", "lora_model_strength"]), clip);
        }
        for (key, value) in node.inputs.iter().rev() {
            // The stacks of extensions: `lora_1: {on, lora, strength}`, or `lora_name_1` beside `lora_wt_1`.
            if let (true, Value::Object(entry)) = (key.starts_with("lora_"), value)
                && entry.get("on") != Some(&Value::Bool(false))
                && let Some(name) = text_of(entry, &["lora"])
            {
                add(name, number(entry.get("strength")), number(entry.get("strengthTwo")));
            } else if let (Some(idx), Some(name)) = (key.strip_prefix("lora_name_"), value.as_str()) {
                let of = |stem: &str| format!("{stem}_{idx}");
                let (model, clip) = (of("model_str"), of("clip_str"));
                add(name, strength(&[&of("lora_wt"), &model]), strength(&[&clip]));
            }
        }
    }

    /// Where the latents came from: their size, or a picture.
    fn tell_latents(&self, inputs: &Object, of_steps: &Object, found: &mut Found) {
        let Some(link) = inputs.get("latent_image").or_else(|| inputs.get("latent")) else { return };
        let has_size = |node: &Node| node.inputs.contains_key("width") && node.inputs.contains_key("height");
        let is_picture = |node: &Node| {
            node.inputs.contains_key("pixels") || (node.inputs.contains_key("image") && node.class.contains("Load"))
        };
        let encode = self.walk().nearest(link, &OF_LATENTS, &is_picture);
        let size = self.walk().nearest(link, &OF_LATENTS, &has_size);
        if let Some(node) = size {
            found.settings.width = self.number(node.inputs.get("width"));
            found.settings.height = self.number(node.inputs.get("height"));
        } else if let Some(loader) =
            self.walk().nearest(link, &OF_LATENTS, &|n| n.inputs.contains_key("empty_latent_width"))
        {
            found.settings.width = self.number(loader.inputs.get("empty_latent_width"));
            found.settings.height = self.number(loader.inputs.get("empty_latent_height"));
        }
        let batch = |node: Node| self.number::<u32>(node.inputs.get("batch_size"));
        if let Some(n) = size.and_then(batch).filter(|&n| n > 1) {
            found
                .notes
                .push(format!("it is one of {n} drawn at once from one seed: only the first can be drawn again"));
        }
        let is_masked = |node: &Node| node.inputs.contains_key("mask");
        if self.walk().nearest(link, &OF_LATENTS, &is_masked).is_some() {
            found
                .notes
                .push("a part of another picture was drawn again with a mask, which the file does not hold".to_owned());
        }
        if encode.is_none() {
            return;
        }
        let strength: Option<f64> = self.number(of_steps.get("denoise"));
        found.settings.strength = strength;
        // There, that many steps are done of a longer run; here, a run has that many, of which some are done.
        if let (Some(strength), Some(steps)) = (strength.filter(|s| *s > 0.0 && *s < 1.0), found.settings.steps) {
            let whole = (f64::from(steps) / strength) as u32;
            found.settings.steps = Some(whole);
            found
                .notes
                .push(format!("its {steps} steps with denoise {strength} are {whole} steps with that strength here"));
        }
    }
}

/// A file's name without folders and ending.
fn bare(name: &str) -> &str {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    name.strip_suffix(".safetensors").unwrap_or(name)
}

/// The names of `embedding:name` in a prompt.
fn embeddings(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| !c.is_whitespace() && !",():".contains(c);
    text.split("embedding:").skip(1).filter_map(move |after| {
        let end = after.find(|c| !is_part(c)).unwrap_or(after.len());
        Some(bare(&after[..end])).filter(|name| !name.is_empty())
    })
}

/// Notes what these classes do that is not done here; gives those that are known.
fn about<'a>(classes: &BTreeSet<&'a str>, notes: &mut Vec<String>) -> BTreeSet<&'a str> {
    let mut known = BTreeSet::new();
    for class in classes {
        let lower: String = class.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
        if let Some((_, what)) = NOT_DONE.iter().find(|(part, _)| lower.contains(part)) {
            known.insert(*class);
            let note = format!("{what}, which is not done here ({class})");
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(graph: &Value) -> Found {
        read(&[("prompt".to_owned(), graph.to_string())]).unwrap()
    }

    fn usual() -> Value {
        json!({
            "3": {"class_type": "KSampler", "inputs": {"seed": 7, "steps": 25, "cfg": 6.5, "sampler_name": "euler",
                "scheduler": "normal", "denoise": 1.0, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
                "latent_image": ["5", 0]}},
            "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15/paint.safetensors"}},
            "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 640, "height": 448, "batch_size": 1}},
            "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a castle", "clip": ["4", 1]}},
            "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "fog, embedding:bad_hands", "clip": ["4", 1]}},
            "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["10", 0]}},
            "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "x"}},
            "10": {"class_type": "VAELoader", "inputs": {"vae_name": "mse.safetensors"}},
        })
    }

    #[test]
    fn the_usual_graph_is_read() {
        let found = found(&usual());
        let settings = &found.settings;
        assert_eq!((settings.seed, settings.steps, settings.guidance_scale), (Some(7), Some(25), Some(6.5)));
        assert_eq!((settings.width, settings.height, settings.noise), (Some(640), Some(448), Some(Noise::Cpu)));
        assert_eq!((settings.prompt.as_deref(), settings.strength), (Some("a castle"), None));
        assert_eq!(settings.model.as_deref(), Some("sd15/paint.safetensors"));
        assert_eq!((found.vae.as_deref(), found.embeddings[0].name.as_str()), (Some("mse.safetensors"), "bad_hands"));
        assert_eq!(found.notes, Vec::<String>::new());
    }

    /// Each case changes the usual graph.
    #[test]
    fn other_nodes_lead_to_the_same() {
        type Check = fn(&Found) -> bool;
        let cases: [(&str, Value, Check); 14] = [
            (
                "LoRAs in a chain",
                json!({
                    "3": {"model": ["20", 0]},
                    "20": {"class_type": "LoraLoader", "inputs": {"lora_name": "a\\ink.safetensors", "strength_model": 0.7,
                        "strength_clip": 0.5, "model": ["21", 0], "clip": ["21", 1]}},
                    "21": {"class_type": "LoraLoaderModelOnly", "inputs": {"lora_name": "fast.safetensors",
                        "strength_model": 1.0, "model": ["4", 0]}},
                }),
                |found| {
                    let [fast, ink] = &found.settings.loras[..] else { return false };
                    fast.name == "fast"
                        && fast.text_strength == Some(0.0)
                        && ink.name == "ink"
                        && ink.strength == 0.7
                        && ink.text_strength == Some(0.5)
                        && found.settings.model.is_some()
                        && found.notes.is_empty()
                },
            ),
            (
                "a stack of LoRAs",
                json!({
                    "3": {"model": ["20", 0]},
                    "20": {"class_type": "Power Lora Loader (rgthree)", "inputs": {"model": ["4", 0], "clip": ["4", 1],
                        "lora_1": {"on": true, "lora": "one.safetensors", "strength": 0.4},
                        "lora_2": {"on": false, "lora": "two.safetensors", "strength": 1}}},
                }),
                |found| found.settings.loras.len() == 1 && found.settings.loras[0].strength == 0.4,
            ),
            (
                "an advanced sampler",
                json!({
                    "3": {"class_type": "KSamplerAdvanced", "noise_seed": 9, "seed": null, "add_noise": "enable",
                        "start_at_step": 0, "end_at_step": 10000},
                }),
                |found| found.settings.seed == Some(9) && found.notes.is_empty(),
            ),
            (
                "a part of the steps",
                json!({
                    "3": {"class_type": "KSamplerAdvanced", "start_at_step": 0, "end_at_step": 20},
                }),
                |found| found.notes == ["only its steps from 0 to 20 were done"],
            ),
            (
                "a custom sampler",
                json!({
                    "3": {"class_type": "SamplerCustom", "steps": null, "sampler_name": null, "scheduler": null, "seed": null,
                        "noise_seed": 11, "sampler": ["30", 0], "sigmas": ["31", 0]},
                    "30": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "dpmpp_2m"}},
                    "31": {"class_type": "KarrasScheduler", "inputs": {"steps": 12, "sigma_max": 14.6, "sigma_min": 0.03, "rho": 7}},
                }),
                |found| {
                    found.settings.steps == Some(12)
                        && found.settings.seed == Some(11)
                        && found.settings.sampler.as_deref() == Some("dpm++2m_karras")
                },
            ),
            (
                "an advanced custom sampler",
                json!({
                    "3": {"class_type": "SamplerCustomAdvanced", "steps": null, "sampler_name": null, "scheduler": null,
                        "seed": null, "cfg": null, "positive": null, "negative": null, "model": null, "noise": ["32", 0],
                        "guider": ["33", 0], "sampler": ["30", 0], "sigmas": ["31", 0]},
                    "30": {"class_type": "SamplerEulerAncestral", "inputs": {"eta": 1, "s_noise": 1}},
                    "31": {"class_type": "BasicScheduler", "inputs": {"steps": 8, "scheduler": "simple", "denoise": 1, "model": ["4", 0]}},
                    "32": {"class_type": "RandomNoise", "inputs": {"noise_seed": 12}},
                    "33": {"class_type": "CFGGuider", "inputs": {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "cfg": 4}},
                }),
                |found| {
                    found.settings.seed == Some(12)
                        && found.settings.steps == Some(8)
                        && found.settings.sampler.as_deref() == Some("euler_a")
                        && found.settings.guidance_scale == Some(4.0)
                        && found.settings.prompt.as_deref() == Some("a castle")
                        && found.settings.model.is_some()
                },
            ),
            (
                "texts and numbers from other nodes",
                json!({
                    "3": {"seed": ["40", 3], "steps": ["41", 0]},
                    "6": {"text": ["42", 0]},
                    "40": {"class_type": "Seed (rgthree)", "inputs": {"seed": 13}},
                    "41": {"class_type": "Reroute", "inputs": {"": ["43", 0]}},
                    "42": {"class_type": "StringConcatenate", "inputs": {"string_a": "a castle", "string_b": ["44", 0], "delimiter": ", "}},
                    "43": {"class_type": "PrimitiveInt", "inputs": {"value": 31}},
                    "44": {"class_type": "ShowText|pysssss", "inputs": {"text": ["45", 0]}},
                    "45": {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "in the rain"}},
                }),
                |found| {
                    found.settings.seed == Some(13)
                        && found.settings.steps == Some(31)
                        && found.settings.prompt.as_deref() == Some("a castle, in the rain")
                },
            ),
            (
                "XL's encoder",
                json!({
                    "6": {"class_type": "CLIPTextEncodeSDXL", "text": null, "text_g": "a castle", "text_l": "stone", "width": 1024,
                        "height": 1024, "crop_w": 0, "crop_h": 8, "target_width": 640, "target_height": 448},
                }),
                |found| {
                    found.settings.original_size == Some((1024, 1024))
                        && found.settings.crop == Some((0, 8))
                        && found.settings.prompt.as_deref() == Some("a castle")
                        && found.notes.len() == 1
                },
            ),
            (
                "layers that are left out",
                json!({
                    "6": {"clip": ["50", 0]},
                    "50": {"class_type": "CLIPSetLastLayer", "inputs": {"stop_at_clip_layer": -2, "clip": ["4", 1]}},
                }),
                |found| found.settings.clip_skip == Some(1),
            ),
            (
                "ControlNet",
                json!({
                    "3": {"positive": ["60", 0], "negative": ["60", 1]},
                    "60": {"class_type": "ControlNetApplyAdvanced", "inputs": {"positive": ["6", 0], "negative": ["7", 0],
                        "control_net": ["61", 0], "image": ["62", 0], "strength": 1}},
                }),
                |found| {
                    found.notes == ["ControlNet steered it, which is not done here (ControlNetApplyAdvanced)"]
                        && found.settings.prompt.as_deref() == Some("a castle")
                        && found.settings.negative_prompt.as_deref() == Some("fog, embedding:bad_hands")
                },
            ),
            (
                "a second pass",
                json!({
                    "8": {"samples": ["70", 0]},
                    "70": {"class_type": "KSampler", "inputs": {"seed": 99, "steps": 10, "cfg": 6.5, "sampler_name": "euler",
                        "scheduler": "normal", "denoise": 0.5, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
                        "latent_image": ["71", 0]}},
                    "71": {"class_type": "LatentUpscaleBy", "inputs": {"samples": ["3", 0], "scale_by": 1.5}},
                }),
                |found| {
                    found.settings.seed == Some(7)
                        && found.settings.strength.is_none()
                        && found.notes.len() == 1
                        && found.notes[0].contains("hires fix")
                },
            ),
            (
                "from a picture",
                json!({
                    "3": {"denoise": 0.5, "latent_image": ["80", 0]},
                    "80": {"class_type": "VAEEncode", "inputs": {"pixels": ["81", 0], "vae": ["4", 2]}},
                    "81": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
                }),
                |found| found.settings.strength == Some(0.5) && found.settings.steps == Some(50),
            ),
            (
                "a batch, and a model that is changed",
                json!({
                    "3": {"model": ["90", 0]},
                    "5": {"batch_size": 4},
                    "90": {"class_type": "FreeU_V2", "inputs": {"model": ["91", 0], "b1": 1.3}},
                    "91": {"class_type": "Wobble", "inputs": {"model": ["4", 0]}},
                }),
                |found| found.notes.len() == 3 && found.settings.model.is_some(),
            ),
            (
                "circles",
                json!({
                    "3": {"model": ["20", 0], "positive": ["6", 0], "latent_image": ["21", 0], "seed": ["22", 0]},
                    "6": {"text": ["23", 0]},
                    "20": {"class_type": "Reroute", "inputs": {"": ["20", 0]}},
                    "21": {"class_type": "LatentUpscale", "inputs": {"samples": ["3", 0]}},
                    "22": {"class_type": "PrimitiveInt", "inputs": {"value": ["22", 0]}},
                    "23": {"class_type": "JoinStrings", "inputs": {"text1": ["23", 0], "text2": ["23", 0]}},
                }),
                |found| {
                    found.settings.seed.is_none() && found.settings.prompt.is_none() && found.settings.model.is_none()
                },
            ),
        ];
        for (name, changes, check) in cases {
            let mut graph = usual();
            for (id, change) in changes.as_object().unwrap() {
                if change.get("inputs").is_some() {
                    graph[id] = change.clone();
                    continue;
                }
                for (key, value) in change.as_object().unwrap() {
                    match key.as_str() {
                        "class_type" => graph[id]["class_type"] = value.clone(),
                        _ if value.is_null() => drop(graph[id]["inputs"].as_object_mut().unwrap().remove(key)),
                        _ => graph[id]["inputs"][key] = value.clone(),
                    }
                }
            }
            let found = found(&graph);
            assert!(check(&found), "{name}: {found:#?}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_a_note() {
        for (id, key, value, note) in [
            ("6", "text", json!(["99", 0]), "its prompt cannot be followed through the graph"),
            ("7", "text", json!(["4", 0]), "its negative prompt cannot be followed through the graph"),
            ("3", "positive", json!(["99", 0]), "its prompt cannot be followed through the graph"),
            ("3", "negative", json!(["4", 0]), "its negative prompt cannot be followed through the graph"),
            ("3", "seed", json!(-1), "its seed -1 cannot be used here"),
            ("3", "seed", json!(["99", 0]), "its seed cannot be followed through the graph"),
            ("3", "steps", json!(1_000_000_000_000_u64), "its steps 1000000000000 cannot be used here"),
            ("3", "steps", json!("many"), "its steps \"many\" cannot be used here"),
            ("3", "cfg", json!({}), "its guidance scale {} cannot be used here"),
            ("3", "sampler_name", json!(5), "its sampler 5 cannot be used here"),
            ("3", "sampler_name", json!(["99", 0]), "its sampler cannot be followed through the graph"),
        ] {
            let mut graph = usual();
            graph[id]["inputs"][key] = value;
            assert_eq!(found(&graph).notes, [note], "{id} {key}");
        }
        let mut graph = usual();
        graph["6"]["inputs"]["text"] = json!(["20", 0]);
        graph["20"] = json!({"class_type": "Concat", "inputs": {"text_a": "a fox", "text_b": ["99", 0]}});
        let got = found(&graph);
        assert_eq!(got.settings.prompt.as_deref(), Some("a fox"));
        assert_eq!(got.notes, ["its prompt cannot be followed through the graph to its end"]);
        // Zeros have no text.
        let mut graph = usual();
        graph["7"] = json!({"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["6", 0]}});
        assert_eq!((found(&graph).settings.negative_prompt, found(&graph).notes), (None, Vec::new()));
    }
}
