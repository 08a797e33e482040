//! The names of weight files that are split into numbered parts.

/// The most files that one component may be split into.
pub(super) const MAX_SHARDS: usize = 1000;

/// Where a part's name has its variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spelling {
    /// `model-00001-of-00002.safetensors`, `model.fp16-00001-of-00002.safetensors`.
    Before,
    /// `model-00001-of-00002.fp16.safetensors`, which diffusers wrote until 2024.
    After,
}

impl Spelling {
    pub(super) fn spell(self, stem: &str, variant: Option<&str>, part: usize, n_parts: usize) -> String {
        let variant = variant.map(|variant| format!(".{variant}")).unwrap_or_default();
        let (before, after) = match self {
            Spelling::Before => (variant.as_str(), ""),
            Spelling::After => ("", variant.as_str()),
        };
        format!("{stem}{before}-{part:05}-of-{n_parts:05}{after}.safetensors")
    }
}

/// A part of a file of weights, read from its name.
pub(super) struct Part {
    pub(super) spelling: Spelling,
    pub(super) part: usize,
    pub(super) n_parts: usize,
}

impl Part {
    pub(super) fn parse(name: &str, stem: &str, variant: Option<&str>) -> Option<Part> {
        let rest = name.strip_prefix(stem)?.strip_suffix(".safetensors")?;
        let (spelling, rest) = match variant.map(|variant| format!(".{variant}")) {
            None => (Spelling::Before, rest),
            Some(variant) => match (rest.strip_prefix(&variant), rest.strip_suffix(&variant)) {
                (Some(rest), _) => (Spelling::Before, rest),
                (None, Some(rest)) => (Spelling::After, rest),
                (None, None) => return None,
            },
        };
        let (part, n_parts) = rest.strip_prefix('-')?.split_once("-of-")?;
        let number = |text: &str| {
            let is_number = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
            if is_number { text.parse::<usize>().ok() } else { None }
        };
        let (part, n_parts) = (number(part)?, number(n_parts)?);
        ((1..=n_parts).contains(&part) && n_parts <= MAX_SHARDS).then_some(Part { spelling, part, n_parts })
    }
}
