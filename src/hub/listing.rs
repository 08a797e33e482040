//! The list of a repository's files that the Hub's API gives. Makes no request.

use serde::Deserialize;

/// A file of a repository or folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedFile {
    /// Its path, with `/` between folders.
    pub path: String,
    /// Its length, where known.
    pub bytes: Option<u64>,
    /// The SHA-256 of its bytes in hexadecimal, where known: the Hub tells it for files in large-file storage.
    pub sha256: Option<String>,
    /// Git's identifier of its content, where known: the Hub tells it for all other files.
    pub git_oid: Option<String>,
}

impl ListedFile {
    /// A file of which only the path and perhaps the length are known.
    #[must_use]
    pub fn new(path: impl Into<String>, bytes: Option<u64>) -> Self {
        ListedFile { path: path.into(), bytes, ..ListedFile::default() }
    }
}

/// A file's entry in large-file storage; its `oid` is the SHA-256.
#[derive(Deserialize)]
struct Lfs {
    oid: Option<String>,
    size: Option<u64>,
}

/// An identifier of `n_digits` hexadecimal digits, in lower case.
fn hexadecimal(text: Option<String>, n_digits: usize) -> Option<String> {
    text.filter(|text| text.len() == n_digits && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(|text| text.to_ascii_lowercase())
}

/// Reads the answer to `/api/models/{repo}/tree/{revision}?recursive=true`. Folders are left out. The Hub cuts this
/// list into pages of a thousand entries, which no diffusers repository comes near.
///
/// # Errors
/// A sentence on what is wrong with the JSON.
pub fn parse_tree(json: &str) -> Result<Vec<ListedFile>, String> {
    #[derive(Deserialize)]
    struct TreeEntry {
        #[serde(rename = "type")]
        kind: String,
        path: String,
        oid: Option<String>,
        size: Option<u64>,
        lfs: Option<Lfs>,
    }
    let entries: Vec<TreeEntry> = serde_json::from_str(json).map_err(|error| format!("the list of files: {error}"))?;
    let files = entries.into_iter().filter(|entry| entry.kind == "file");
    let listed = |entry: TreeEntry| match entry.lfs {
        // Of a file in large-file storage, git's identifier is that of the pointer.
        Some(lfs) => ListedFile {
            path: entry.path,
            bytes: lfs.size.or(entry.size),
            sha256: hexadecimal(lfs.oid, 64),
            git_oid: None,
        },
        None => ListedFile { path: entry.path, bytes: entry.size, sha256: None, git_oid: hexadecimal(entry.oid, 40) },
    };
    Ok(files.map(listed).collect())
}
