//! Which of several files of the same weights is taken.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The variant that most repositories publish beside their plain files.
pub(super) const FP16: &str = "fp16";

/// Which of several files of the same weights is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Variant {
    /// The plain files, and where a component has none its fp16 ones. What lies in a folder or cache is read so: files
    /// that somebody changed are the plain ones, because that is what `save_pretrained` writes.
    #[default]
    PlainFirst,
    /// The fp16 files, and where a component has none its plain ones: half the bytes, for downloads of what one
    /// publisher made.
    Fp16First,
    /// The plain files: `none` on the command line. As [`Variant::PlainFirst`], but at least one component must have them.
    Plain,
    /// The files of this variant, and where a component has none its plain ones, as `variant="…"` in diffusers. At least
    /// one component must have it.
    Named(String),
}

impl Variant {
    /// Whether this is what somebody asked for, and not a default.
    #[must_use]
    pub fn is_asked_for(&self) -> bool {
        matches!(self, Variant::Plain | Variant::Named(_))
    }

    /// The spellings of a file's name to look for, best first; `None` is the plain one.
    pub(super) fn names(&self) -> Vec<Option<&str>> {
        match self {
            Variant::PlainFirst | Variant::Plain => vec![None, Some(FP16)],
            Variant::Fp16First => vec![Some(FP16), None],
            Variant::Named(name) => vec![Some(name), None],
        }
    }
}

impl FromStr for Variant {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_word = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        match text {
            "none" => Ok(Variant::Plain),
            _ if is_word => Ok(Variant::Named(text.to_owned())),
            _ => Err(Error::Request {
                field: "variant",
                got: format!("{text:?}"),
                expected: "use fp16, none for the plain files, or another variant's name".to_owned(),
            }),
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Variant::PlainFirst => "plain files first",
            Variant::Fp16First => "fp16 files first",
            Variant::Plain => "none",
            Variant::Named(name) => name,
        })
    }
}
