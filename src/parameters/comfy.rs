//! The graph that ComfyUI ran, as it writes it into a picture under `prompt`: from the picture's node back to the sampler,
//! and from there to prompts, size, model and LoRAs.
//!
//! Nodes are told by their inputs' names more than by their class, as extensions have their own classes with the usual
//! names. What changes the picture and is not known here is named. Links may form circles: of one walk each node is asked
//! once, and so many at most.
mod graph;
mod model;
mod prompts;
#[cfg(test)]
mod tests;

use serde_json::Value;

use self::graph::{Graph, Node, cannot_be_used};
use super::found::Found;
use super::other_programs::{Object, object, text_of};
use super::spelled;
use crate::prompt::PromptSyntax;
use crate::rng::Noise;

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
            found.settings.width = self.number_or_note("width", node.inputs.get("width"), &mut found.notes);
            found.settings.height = self.number_or_note("height", node.inputs.get("height"), &mut found.notes);
        } else if let Some(loader) =
            self.walk().nearest(link, &OF_LATENTS, &|n| n.inputs.contains_key("empty_latent_width"))
        {
            let side = |name: &str| loader.inputs.get(name);
            found.settings.width = self.number_or_note("width", side("empty_latent_width"), &mut found.notes);
            found.settings.height = self.number_or_note("height", side("empty_latent_height"), &mut found.notes);
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
