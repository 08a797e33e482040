//! The place of a module in a checkpoint, as a dotted path.

use std::fmt;

/// A module's path in the checkpoint: `Path::root().pp("mid_block").pp("resnets").pp(0)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// The empty path.
    #[must_use]
    pub fn root() -> Self {
        Path(String::new())
    }

    /// The path of a child, pushed behind this one.
    #[must_use]
    pub fn pp(&self, child: impl fmt::Display) -> Self {
        if self.0.is_empty() { Path(child.to_string()) } else { Path(format!("{}.{child}", self.0)) }
    }

    /// The path as the checkpoint spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
