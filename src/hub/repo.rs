//! The name of a repository on the Hub.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// `owner/name`, or `owner/name@revision` for another branch, tag or commit than `main`.
///
/// Every part is safe as a path and in an address: letters, digits, `-`, `_`, `.`, in a revision also `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoId {
    path: String,
    revision: String,
}

impl RepoId {
    /// `owner/name`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The branch, tag or commit: `main` where none was given.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }
}

/// A name that is one component of a path, and means itself there.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.chars().all(|c| c == '.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

impl FromStr for RepoId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (path, revision) = text.split_once('@').unwrap_or((text, "main"));
        let is_repo = path.split_once('/').is_some_and(|(owner, name)| is_plain_name(owner) && is_plain_name(name));
        if is_repo && revision.split('/').all(is_plain_name) {
            Ok(RepoId { path: path.to_owned(), revision: revision.to_owned() })
        } else {
            Err(Error::Request {
                field: "repository",
                got: format!("{text:?}"),
                expected: "write owner/name or owner/name@revision, as on the Hugging Face Hub".to_owned(),
            })
        }
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revision.as_str() {
            "main" => f.write_str(&self.path),
            revision => write!(f, "{}@{revision}", self.path),
        }
    }
}
