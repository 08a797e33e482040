//! LoRAs and kin that were fitted to a model, and those that a request draws with.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::hub::Component;
use crate::request::LoraUse;
use crate::weights::merged::{Applied, Change, Changes};

/// What one file does to a model.
#[derive(Debug)]
pub struct Lora {
    /// What requests call it.
    pub name: String,
    /// The SHA-256 of the file in lower-case hexadecimal, where it was computed.
    pub sha256: Option<String>,
    /// The changes, by component and tensor.
    pub changes: Vec<(Component, String, Rc<Change>)>,
    /// What is worth telling about it: one line each.
    pub notes: Vec<String>,
}

/// A LoRA with its strengths.
#[derive(Clone, Debug)]
struct Active {
    lora: Rc<Lora>,
    strength: f32,
    text_strength: f32,
}

impl PartialEq for Active {
    fn eq(&self, other: &Self) -> bool {
        let strengths = |active: &Self| (active.strength, active.text_strength);
        Rc::ptr_eq(&self.lora, &other.lora) && strengths(self) == strengths(other)
    }
}

/// The LoRAs of a request. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct ActiveLoras(Rc<Vec<Active>>);

impl PartialEq for ActiveLoras {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl ActiveLoras {
    /// Those that a request names, of the ones that are `known`.
    ///
    /// # Errors
    /// [`Error::Request`] with the names that there are.
    pub fn of(used: &[LoraUse], known: &[Rc<Lora>]) -> Result<Self> {
        let active = used.iter().map(|used| {
            let lora = known.iter().find(|lora| lora.name == used.name).ok_or_else(|| {
                let names: Vec<&str> = known.iter().map(|lora| lora.name.as_str()).collect();
                unknown(&used.name, &names)
            })?;
            Ok(Active {
                lora: Rc::clone(lora),
                strength: used.strength as f32,
                text_strength: used.text_strength.unwrap_or(used.strength) as f32,
            })
        });
        Ok(ActiveLoras(Rc::new(active.collect::<Result<_>>()?)))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they do to a component's tensors. One without strength does nothing.
    #[must_use]
    pub fn changes(&self, component: Component) -> Changes {
        let mut changes: Changes = BTreeMap::new();
        for active in &*self.0 {
            let strength = if component == Component::Unet { active.strength } else { active.text_strength };
            if strength == 0.0 {
                continue;
            }
            for (_, tensor, change) in active.lora.changes.iter().filter(|(of, ..)| *of == component) {
                let applied = Applied { change: Rc::clone(change), strength };
                changes.entry(tensor.clone()).or_default().push(applied);
            }
        }
        changes
    }
}

/// That there is no LoRA of a name, and which there are.
#[must_use]
pub fn unknown(name: &str, names: &[&str]) -> Error {
    let expected = match names {
        [] => "no LoRA is loaded: pass the file with --lora FILE, or its folder with --lora-dir FOLDER".to_owned(),
        names => format!("there are {}", names.join(", ")),
    };
    Error::Request { field: "lora", got: format!("{name:?}"), expected }
}

/// The tensors whose changes differ between two states of a component.
#[must_use]
pub(super) fn differing(before: &Changes, after: &Changes) -> Vec<String> {
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}
