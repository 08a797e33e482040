//! The two listings of a repository that the Hub's API gives, as one type. It deliberately makes no request.

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
}

impl ListedFile {
    /// A file of which only the path and perhaps the length are known.
    #[must_use]
    pub fn new(path: impl Into<String>, bytes: Option<u64>) -> Self {
        ListedFile { path: path.into(), bytes, sha256: None }
    }
}

/// What `GET /api/models/{repo}/revision/{revision}?blobs=true` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoListing {
    /// The commit that the revision stands for.
    pub commit: String,
    /// Its files.
    pub files: Vec<ListedFile>,
}

/// Large-file storage calls the digest `sha256` in one listing and `oid` in the other.
#[derive(Deserialize)]
struct Lfs {
    #[serde(alias = "oid")]
    sha256: Option<String>,
    size: Option<u64>,
}

fn listed(path: String, size: Option<u64>, lfs: Option<Lfs>) -> ListedFile {
    let (sha256, lfs_size) = lfs.map_or((None, None), |lfs| (lfs.sha256, lfs.size));
    let is_digest = |text: &String| text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
    let sha256 = sha256.filter(is_digest).map(|digest| digest.to_ascii_lowercase());
    ListedFile { path, bytes: lfs_size.or(size), sha256 }
}

/// Reads the answer to `/api/models/{repo}/revision/{revision}?blobs=true`.
///
/// # Errors
/// A sentence on what is wrong with the JSON.
pub fn parse_revision(json: &str) -> Result<RepoListing, String> {
    #[derive(Deserialize)]
    struct Answer {
        sha: String,
        siblings: Vec<Sibling>,
    }
    #[derive(Deserialize)]
    struct Sibling {
        rfilename: String,
        size: Option<u64>,
        lfs: Option<Lfs>,
    }
    let answer: Answer = serde_json::from_str(json).map_err(|error| format!("the list of files: {error}"))?;
    let files = answer.siblings.into_iter().map(|file| listed(file.rfilename, file.size, file.lfs)).collect();
    Ok(RepoListing { commit: answer.sha, files })
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
        size: Option<u64>,
        lfs: Option<Lfs>,
    }
    let entries: Vec<TreeEntry> = serde_json::from_str(json).map_err(|error| format!("the list of files: {error}"))?;
    let files = entries.into_iter().filter(|entry| entry.kind == "file");
    Ok(files.map(|entry| listed(entry.path, entry.size, entry.lfs)).collect())
}
