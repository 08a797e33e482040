//! The model, what changed it on its way to the sampler, and what of that is not done here.

use std::collections::BTreeSet;

use serde_json::Value;

use super::graph::{Graph, Node};
use crate::parameters::UsedLora;
use crate::parameters::found::Found;
use crate::parameters::other_programs::{number, text_of};

/// The most LoRAs that are listed.
pub(super) const MAX_LORAS: usize = 64;

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

impl Graph {
    /// The model, and what changed it on its way.
    pub(super) fn tell_model(&self, link: Option<&Value>, found: &mut Found) {
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
}

/// A file's name without folders and ending.
pub(super) fn bare(name: &str) -> &str {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    name.strip_suffix(".safetensors").unwrap_or(name)
}

/// Notes what these classes do that is not done here; gives those that are known.
pub(super) fn about<'a>(classes: &BTreeSet<&'a str>, notes: &mut Vec<String>) -> BTreeSet<&'a str> {
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
