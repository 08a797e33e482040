//! Which LoRAs a request draws with, as a list and as tags in a prompt (`<lora:name:weight:unet>`), the way people write them.
//!
//! Files are not known here: a name means what the caller loaded under it.

use serde::{Deserialize, Serialize};

use super::refuse;
use crate::error::Result;

/// How strong a LoRA may be, either way.
pub const MAX_LORA_STRENGTH: f64 = 100.0;

/// The most LoRAs of a request.
pub const MAX_LORAS: usize = 64;

/// How a tag begins; LyCORIS' own extension had the second form.
const STARTS: [&str; 2] = ["<lora:", "<lyco:"];

/// A LoRA with its strengths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub struct LoraUse {
    /// What the LoRA is called: its file's name without the ending, or the name that its metadata gives.
    pub name: String,
    /// How strong its changes of the UNet are; 1 where absent.
    #[serde(default = "one")]
    #[cfg_attr(test, ts(optional, as = "Option<f64>"))]
    pub strength: f64,
    /// Of the text encoders; `strength` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_strength: Option<f64>,
}

fn one() -> f64 {
    1.0
}

impl LoraUse {
    /// With one strength for everything.
    #[must_use]
    pub fn new(name: impl Into<String>, strength: f64) -> Self {
        LoraUse { name: name.into(), strength, text_strength: None }
    }

    /// As a tag that [`take_lora_tags`] reads; `None` for a name that a tag cannot have.
    #[must_use]
    pub fn tag(&self) -> Option<String> {
        let LoraUse { name, strength, text_strength } = self;
        let fits = !name.is_empty() && !name.contains([':', '>', '\n']);
        fits.then(|| match text_strength {
            Some(text) if text != strength => format!("<lora:{name}:{text}:{strength}>"),
            _ => format!("<lora:{name}:{strength}>"),
        })
    }

    fn check(&self) -> Result<()> {
        for strength in [Some(self.strength), self.text_strength].into_iter().flatten() {
            if !(-MAX_LORA_STRENGTH..=MAX_LORA_STRENGTH).contains(&strength) {
                let most = MAX_LORA_STRENGTH;
                return refuse(
                    "lora",
                    format!("{:?} with strength {strength}", self.name),
                    format!("use -{most} to {most}"),
                );
            }
        }
        Ok(())
    }
}

/// Checks the strengths and the number of LoRAs.
///
/// # Errors
/// [`crate::Error::Request`] with what would work.
pub(super) fn check(loras: &[LoraUse]) -> Result<()> {
    if loras.len() > MAX_LORAS {
        return refuse("loras", loras.len(), format!("use {MAX_LORAS} at most"));
    }
    loras.iter().try_for_each(LoraUse::check)
}

/// Cuts the tags out of a prompt. Of two numbers the first is for the text encoders and the second for the UNet, as in
/// A1111 and Forge; `te=` and `unet=` say which is which.
///
/// # Errors
/// [`crate::Error::Request`] for a tag whose strengths are no numbers, and for one that asks for a part of the rank.
pub fn take_lora_tags(prompt: &str) -> Result<(String, Vec<LoraUse>)> {
    let (mut text, mut loras) = (String::with_capacity(prompt.len()), Vec::new());
    let mut rest = prompt;
    while let Some(at) = rest.find('<') {
        let tag = &rest[at..];
        let start =
            STARTS.iter().find(|start| tag.get(..start.len()).is_some_and(|got| got.eq_ignore_ascii_case(start)));
        let Some((inside, after)) = start.and_then(|start| tag[start.len()..].split_once('>')) else {
            text.push_str(&rest[..=at]);
            rest = &rest[at + 1..];
            continue;
        };
        text.push_str(&rest[..at]);
        rest = after;
        loras.push(of_tag(inside)?);
    }
    text.push_str(rest);
    Ok((text, loras))
}

/// `name[:te[:unet]]`, also with `te=` and `unet=`.
fn of_tag(inside: &str) -> Result<LoraUse> {
    let mut parts = inside.split(':');
    let name = parts.next().unwrap_or_default().trim();
    let whole = || format!("with the tag <lora:{inside}>");
    if name.is_empty() {
        return refuse("prompt", whole(), "a tag is <lora:name:weight>, or <lora:name:text:unet>");
    }
    let (mut text, mut unet, mut position) = (None, None, 0);
    for part in parts {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), value),
            None => {
                position += 1;
                (["te", "unet", "dyn"].get(position - 1).copied().unwrap_or_default().to_owned(), part)
            }
        };
        let number = value.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        match (key.as_str(), number) {
            ("te", Some(number)) => text = Some(number),
            ("unet", Some(number)) => unet = Some(number),
            ("dyn", _) => {
                let expected = "a part of a LoRA's rank cannot be used: leave the number behind the strengths out";
                return refuse("prompt", whole(), expected);
            }
            _ => return refuse("prompt", whole(), "strengths are numbers: <lora:name:0.8>, or <lora:name:text:unet>"),
        }
    }
    let text = text.unwrap_or(1.0);
    let strength = unet.unwrap_or(text);
    Ok(LoraUse { name: name.to_owned(), strength, text_strength: (text != strength).then_some(text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_cut_from_the_prompt() {
        let lora = |name: &str, strength, text_strength| LoraUse { name: name.to_owned(), strength, text_strength };
        for (prompt, text, loras) in [
            ("a fox <lora:a:0.5>, snow", "a fox , snow", vec![lora("a", 0.5, None)]),
            ("<lora:a:0.5:0.25>x", "x", vec![lora("a", 0.25, Some(0.5))]),
            ("<lora:a b>", "", vec![lora("a b", 1.0, None)]),
            ("<LoRA:a:-1><lyco:b:2>", "", vec![lora("a", -1.0, None), lora("b", 2.0, None)]),
            ("<lora:a:unet=0.5>", "", vec![lora("a", 0.5, Some(1.0))]),
            ("<lora:a:te=0.5:unet=1>", "", vec![lora("a", 1.0, Some(0.5))]),
            ("a < b <x> <lora:a", "a < b <x> <lora:a", vec![]),
            ("é<lora:ä:1>é", "éé", vec![lora("ä", 1.0, None)]),
        ] {
            assert_eq!(take_lora_tags(prompt).unwrap(), (text.to_owned(), loras), "{prompt}");
        }
        for prompt in ["<lora:>", "<lora:a:x>", "<lora:a:1:1:8>", "<lora:a:nan>", "<lora:a:to=1>"] {
            assert!(take_lora_tags(prompt).unwrap_err().to_string().starts_with("prompt with the tag"), "{prompt}");
        }
    }

    #[test]
    fn a_tag_is_read_as_it_is_written() {
        for used in [LoraUse::new("a", 0.5), LoraUse { text_strength: Some(-0.25), ..LoraUse::new("b c", 1.0) }] {
            assert_eq!(take_lora_tags(&used.tag().unwrap()).unwrap(), (String::new(), vec![used]));
        }
        assert_eq!(LoraUse::new("a:b", 1.0).tag(), None);
        assert!(check(&[LoraUse::new("a", f64::NAN)]).is_err());
        assert!(check(&[LoraUse::new("a", -100.0)]).is_ok());
    }
}
