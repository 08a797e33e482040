//! The prompts: from the sampler along conditioning to the nodes that encode texts.

use std::collections::BTreeSet;

use serde_json::Value;

use super::graph::{Graph, Node, TEXTS};
use super::model::{MAX_LORAS, about, bare};
use crate::parameters::UsedEmbedding;
use crate::parameters::found::Found;
use crate::parameters::other_programs::{Object, text_of};

/// Inputs that lead from conditioning to what it was made from.
const OF_CONDITIONING: [&str; 6] =
    ["conditioning", "conditioning_1", "conditioning_to", "conditioning_a", "cond1", "base_conditioning"];

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
    /// The two prompts, with the embeddings whose words they have.
    pub(super) fn tell_prompts(&self, guider: &Object, found: &mut Found) {
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
}

/// The names of `embedding:name` in a prompt.
fn embeddings(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| !c.is_whitespace() && !",():".contains(c);
    text.split("embedding:").skip(1).filter_map(move |after| {
        let end = after.find(|c| !is_part(c)).unwrap_or(after.len());
        Some(bare(&after[..end])).filter(|name| !name.is_empty())
    })
}
