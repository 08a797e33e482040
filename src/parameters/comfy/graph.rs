//! The graph as nodes and links, and walks along them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::parameters::other_programs::{self, Object, number, text_of};

/// How many nodes one walk asks.
const MAX_NODES: usize = 64;
/// The most texts that are joined to one.
const MAX_JOINED: usize = 16;

/// Inputs that hold a text, the most telling first.
pub(super) const TEXTS: [&str; 13] = [
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

/// The nodes by their ids.
pub(super) struct Graph {
    pub(super) nodes: Object,
}

/// A node by its id, its class, and what goes into it.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) id: &'a str,
    pub(super) class: &'a str,
    pub(super) inputs: &'a Object,
}

/// A walk along links, which asks each node once.
pub(super) struct Walk<'a> {
    graph: &'a Graph,
    pub(super) seen: BTreeSet<&'a str>,
    /// Whether a part of a joined text was not found.
    pub(super) is_lost: bool,
}

impl Graph {
    fn node<'a>(&'a self, id: &str) -> Option<Node<'a>> {
        let (id, node) = self.nodes.get_key_value(id)?;
        let inputs = node.get("inputs")?.as_object()?;
        Some(Node { id, class: node.get("class_type").and_then(Value::as_str).unwrap_or_default(), inputs })
    }

    /// The node that a link, `[id, output]`, leads to.
    pub(super) fn linked<'a>(&'a self, link: Option<&Value>) -> Option<Node<'a>> {
        let [id, _output] = &link?.as_array()?[..] else { return None };
        match id {
            Value::String(id) => self.node(id),
            Value::Number(id) => self.node(&id.to_string()),
            _ => None,
        }
    }

    pub(super) fn walk(&self) -> Walk<'_> {
        Walk { graph: self, seen: BTreeSet::new(), is_lost: false }
    }

    /// The nodes in the order of their numbers.
    pub(super) fn in_order(&self) -> Vec<Node<'_>> {
        let mut nodes: Vec<Node> = self.nodes.keys().filter_map(|id| self.node(id)).collect();
        nodes.sort_by_key(|node| {
            (node.id.split(':').next().and_then(|id| id.parse::<u64>().ok()).unwrap_or(u64::MAX), node.id)
        });
        nodes
    }

    /// A number, or that of the node that a link leads to.
    pub(super) fn number<T: std::str::FromStr>(&self, value: Option<&Value>) -> Option<T> {
        let mut walk = self.walk();
        let mut value = value?;
        while value.is_array() {
            let node = walk.enter(value)?;
            value = NUMBERS.iter().find_map(|name| node.inputs.get(*name))?;
        }
        number(Some(value))
    }

    /// Likewise, and a note where there is a value that is no such number.
    pub(super) fn number_or_note<T: std::str::FromStr>(
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
pub(super) fn cannot_be_used(what: &str, value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Null => format!("its {what} cannot be followed through the graph"),
        value => other_programs::cannot_be_used(what, value),
    }
}

impl<'a> Walk<'a> {
    /// The node that a link leads to, the first time and while there are not too many.
    pub(super) fn enter(&mut self, link: &Value) -> Option<Node<'a>> {
        let node = self.graph.linked(Some(link))?;
        (self.seen.len() < MAX_NODES && self.seen.insert(node.id)).then_some(node)
    }

    /// The nearest node from a link, along inputs of these names, that is wanted.
    pub(super) fn nearest(&mut self, link: &Value, along: &[&str], wanted: &dyn Fn(&Node) -> bool) -> Option<Node<'a>> {
        let node = self.enter(link)?;
        if wanted(&node) {
            return Some(node);
        }
        along.iter().find_map(|name| self.nearest(node.inputs.get(*name)?, along, wanted))
    }

    /// A text, also one that other nodes make.
    pub(super) fn text(&mut self, value: &Value) -> Option<String> {
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
