//! The layers of a model by every name that writers of LoRAs have for them. The table is made from the model's own tensors:
//! nothing is concluded from the underscores of a name.

use std::collections::{BTreeMap, HashMap};

use crate::checkpoint::names;
use crate::error::Result;
use crate::hub::Component;
use crate::pipeline::ModelConfigs;
use crate::weights::Cut;

/// In front of a layer's path, and the components that it may mean. The first one that leads to a layer counts; a path
/// without a prefix may be of any.
const PREFIXES: [(&str, &[Component]); 21] = [
    ("lora_unet_", &[Component::Unet]),
    ("lora_te1_", &[Component::TextEncoder]),
    ("lora_te2_", &[Component::TextEncoder2]),
    ("lora_te_", &[Component::TextEncoder]),
    ("lycoris_unet_", &[Component::Unet]),
    ("lycoris_te1_", &[Component::TextEncoder]),
    ("lycoris_te2_", &[Component::TextEncoder2]),
    ("lycoris_te_", &[Component::TextEncoder]),
    ("lycoris_", &ANY),
    ("model.diffusion_model.", &[Component::Unet]),
    ("diffusion_model.", &[Component::Unet]),
    ("unet.", &[Component::Unet]),
    ("text_encoder_2.", &[Component::TextEncoder2]),
    ("text_encoder.", &[Component::TextEncoder]),
    ("text_encoders.clip_l.transformer.", &[Component::TextEncoder]),
    ("text_encoders.clip_l.", &[Component::TextEncoder]),
    ("text_encoders.clip_h.transformer.", &[Component::TextEncoder]),
    ("text_encoders.clip_g.transformer.", &[Component::TextEncoder2]),
    ("text_encoders.clip_g.", &[Component::TextEncoder2]),
    ("cond_stage_model.transformer.", &[Component::TextEncoder]),
    ("", &ANY),
];

const ANY: [Component; 3] = [Component::Unet, Component::TextEncoder, Component::TextEncoder2];

/// What PEFT's wrapper puts in front of a path, with or without a component before it.
const WRAPPER: &str = "base_model.model.";

/// How a path of the text encoder begins without `text_model.`, which stands in a wrapper.
const LAYERS: &str = "text_model_encoder_layers_";

/// Where a layer of a file is in the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found<'t> {
    /// A component's layer, by diffusers' path.
    Layer(Component, &'t str),
    /// A layer of a text encoder that models of this family do not run: behind the last one, or its projection.
    Unused,
}

/// See the module.
pub(super) struct Table {
    /// Diffusers' paths by flat names.
    layers: Vec<(Component, HashMap<String, String>)>,
    /// The shapes of all tensors.
    shapes: BTreeMap<Component, BTreeMap<String, Vec<usize>>>,
    /// Text encoders with their layers.
    depths: Vec<(Component, usize)>,
}

fn flat(path: &str) -> String {
    path.replace('.', "_")
}

impl Table {
    /// The names of a model's UNet and text encoders.
    ///
    /// # Errors
    /// When the configs describe no model.
    pub fn new(configs: &ModelConfigs) -> Result<Self> {
        let (mut layers, mut shapes) = (Vec::new(), BTreeMap::new());
        for component in ANY {
            let specs = configs.weight_specs(component)?;
            let wanted = || specs.iter().map(|spec| spec.name.as_str());
            let mut flats = HashMap::new();
            let mut add = |name: &str, layer: &str| {
                flats.entry(flat(name)).or_insert_with(|| layer.to_owned());
            };
            let of_open_clip = component != Component::Unet;
            let written = names::written(component, configs.unet.text_time.is_some(), of_open_clip, wanted());
            for (name, place) in wanted().zip(&written) {
                let Some(layer) = name.strip_suffix(".weight") else { continue };
                add(layer, layer);
                if let (Cut::Whole, Some(stored)) = (&place.cut, place.stored.strip_suffix(".weight")) {
                    add(names::without_prefix(component, stored), layer);
                }
                if component != Component::Unet {
                    let short = layer.strip_prefix("text_model.").unwrap_or(layer);
                    add(short, layer);
                    add(&format!("text_model.{short}"), layer);
                    // Old diffusers' names of CLIP's attention.
                    for (ours, theirs) in
                        [("q_proj", "to_q"), ("k_proj", "to_k"), ("v_proj", "to_v"), ("out_proj", "to_out")]
                    {
                        if let Some(attention) = layer.strip_suffix(ours).filter(|path| path.ends_with(".self_attn.")) {
                            add(&format!("{attention}{theirs}"), layer);
                        }
                    }
                }
            }
            layers.push((component, flats));
            shapes.insert(component, specs.into_iter().map(|spec| (spec.name, spec.shape)).collect());
        }
        let components = [Component::TextEncoder, Component::TextEncoder2];
        let encoders = configs.text_encoders.iter().map(|encoder| encoder.config.num_hidden_layers);
        let depths = components.into_iter().zip(encoders).collect();
        Ok(Table { layers, shapes, depths })
    }

    /// The shape of a tensor, by diffusers' name.
    pub fn shape(&self, component: Component, name: &str) -> Option<&[usize]> {
        self.shapes.get(&component)?.get(name).map(Vec::as_slice)
    }

    /// The layer that a path of a file means.
    pub fn find(&self, path: &str) -> Option<Found<'_>> {
        let path = strip_wrapper(path);
        let mut unused = None;
        for (prefix, components) in PREFIXES {
            let Some(rest) = path.strip_prefix(prefix) else { continue };
            let name = flat(&processor_layer(strip_wrapper(rest)));
            for component in components {
                let of_component = self.layers.iter().find(|(known, _)| known == component);
                if let Some((component, layers)) = of_component
                    && let Some(layer) = layers.get(&name)
                {
                    return Some(Found::Layer(*component, layer));
                }
                if !prefix.is_empty() && self.is_unused(*component, &name) {
                    unused = Some(Found::Unused);
                }
            }
        }
        unused
    }

    /// Whether a flat name is that of a layer which the text encoder's file may have and the model does not run.
    fn is_unused(&self, component: Component, name: &str) -> bool {
        let Some((_, depth)) = self.depths.iter().find(|(known, _)| *known == component) else { return false };
        let number = name.strip_prefix(LAYERS).and_then(|rest| rest.split('_').next()?.parse::<usize>().ok());
        name == "text_projection" || number.is_some_and(|number| number >= *depth)
    }
}

fn strip_wrapper(path: &str) -> &str {
    path.strip_prefix(WRAPPER).unwrap_or(path)
}

/// The layer that an attention processor of old diffusers stands for: `attn1.processor.to_out` is `attn1.to_out.0`.
fn processor_layer(path: &str) -> String {
    match path.split_once(".processor.") {
        Some((attention, "to_out")) => format!("{attention}.to_out.0"),
        Some((attention, layer)) => format!("{attention}.{layer}"),
        None => path.to_owned(),
    }
}
