//! Addresses: of Hubs, of files on them, and of files anywhere on the web. Makes no request.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::RepoId;
use crate::error::{Error, Result};

/// What is escaped in one part of a path.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What is escaped in a path.
const PATH: &AsciiSet = &PART.remove(b'/');

/// The longest file name that is taken from an address, in bytes; file systems allow 255.
const MAX_NAME_BYTES: usize = 200;

/// The name of a file whose address has none.
const UNNAMED: &str = "model.safetensors";

/// Escapes a name, slashes too.
pub(super) fn escaped_part(text: &str) -> String {
    utf8_percent_encode(text, PART).to_string()
}

/// Escapes a path, but not its slashes.
pub(super) fn escaped_path(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// Checks the address of a server: http or https, a host, perhaps a path. Returns it without a slash at its end.
///
/// # Errors
/// [`Error::Request`] for anything else.
pub fn endpoint(text: &str) -> Result<String> {
    let text = text.trim().trim_end_matches('/');
    match web_uri(text) {
        Some(uri) if uri.query().is_none() && !text.contains('#') => Ok(text.to_owned()),
        _ => Err(Error::Request {
            field: "endpoint",
            got: format!("{text:?}"),
            expected: "an address such as https://huggingface.co, with http:// or https:// in front".to_owned(),
        }),
    }
}

/// An http or https address with a host and no user name.
fn web_uri(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let is_web = matches!(uri.scheme_str(), Some("https" | "http"));
    let authority = uri.authority()?;
    (is_web && !authority.host().is_empty() && !authority.as_str().contains('@')).then_some(uri)
}

/// One file at an address on the web.
#[derive(Clone, PartialEq, Eq)]
pub struct FileUrl {
    url: String,
    uri: Uri,
}

impl FileUrl {
    /// Whether a text is meant as such an address.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("https://") || text.starts_with("http://")
    }

    /// The address as it is requested, with whatever tokens it carries.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The host, with the port where there is one.
    #[must_use]
    pub fn host(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// Scheme and host.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", self.uri.scheme_str().unwrap_or("https"), self.host())
    }

    /// The last part of the path, safe as a file's name.
    #[must_use]
    pub fn file_name(&self) -> String {
        file_name(self.uri.path()).unwrap_or_else(|| UNNAMED.to_owned())
    }

    /// The file of a repository that this address is on a Hub: `{endpoint}/owner/name/resolve/revision/path`, or with
    /// `blob` for `resolve`, as the Hub's pages have it.
    #[must_use]
    pub fn on_hub(&self, endpoint: &str) -> Option<RepoFile> {
        let rest = self.url.strip_prefix(endpoint)?.strip_prefix('/')?;
        let rest = rest.split(['?', '#']).next()?;
        let mut parts = rest.splitn(5, '/');
        let (owner, name, kind) = (parts.next()?, parts.next()?, parts.next()?);
        let (revision, path) = (decoded(parts.next()?)?, decoded(parts.next()?)?);
        if !matches!(kind, "resolve" | "blob") {
            return None;
        }
        RepoFile::new(format!("{owner}/{name}@{revision}").parse().ok()?, &path).ok()
    }
}

impl FromStr for FileUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let url = text.trim().split('#').next().unwrap_or_default();
        match web_uri(url) {
            Some(uri) => Ok(FileUrl { url: url.to_owned(), uri }),
            None => Err(Error::Request {
                field: "address",
                got: format!("{text:?}"),
                expected: "write it as https://host/path/file.safetensors".to_owned(),
            }),
        }
    }
}

/// Without what follows the path, which may be a token.
impl fmt::Display for FileUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.uri.path())
    }
}

impl fmt::Debug for FileUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileUrl({self})")
    }
}

fn decoded(text: &str) -> Option<String> {
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

/// The last part of a path as a name that is safe on every disk.
fn file_name(path: &str) -> Option<String> {
    let name = decoded(path.rsplit('/').next()?)?;
    let name: String = name.chars().map(|c| if is_plain_char(c) && c != '/' { c } else { '_' }).collect();
    let name = name.trim().trim_start_matches('.');
    let is_name = !name.is_empty() && name.len() <= MAX_NAME_BYTES;
    is_name.then(|| name.to_owned())
}

/// The name in a header such as `attachment; filename="model.safetensors"`, safe on every disk.
pub(super) fn name_in_disposition(header: &str) -> Option<String> {
    let (_, value) = header.split_once("filename=")?;
    let name = match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => value.split(';').next()?.trim(),
    };
    file_name(name)
}

/// One file of a repository: `owner/name/path`, or `owner/name@revision/path`. A revision with slashes is understood where
/// it is one of the Hub's own (`refs/pr/7`, `refs/convert/parquet`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RepoFile {
    repo: RepoId,
    path: String,
}

impl RepoFile {
    /// A file of a repository by its path.
    ///
    /// # Errors
    /// [`Error::Request`] for a path that leads out of the repository, or that a disk may not have.
    pub fn new(repo: RepoId, path: &str) -> Result<Self> {
        let is_plain = |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(is_plain_char);
        if path.split('/').all(is_plain) {
            return Ok(RepoFile { repo, path: path.to_owned() });
        }
        Err(Error::Request {
            field: "file",
            got: format!("{path:?}"),
            expected: format!("write a file of the repository as {repo}/path/file.safetensors"),
        })
    }

    /// The repository.
    #[must_use]
    pub fn repo(&self) -> &RepoId {
        &self.repo
    }

    /// The path in the repository.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// What a name stands for that is no folder or file here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A version's short name or `owner/repo[@revision]`, unchecked; in a store also the name of an import.
    Model(String),
    /// One file of a repository.
    File(RepoFile),
    /// One file at an address that is not on the Hub.
    Address(FileUrl),
}

impl Origin {
    /// Reads a name; `endpoint` is the Hub's address, whose files are those of repositories.
    ///
    /// # Errors
    /// [`Error::Request`] for a file's path or an address that is none.
    pub fn parse(name: &str, endpoint: &str) -> Result<Self> {
        if FileUrl::is_meant(name) {
            let url: FileUrl = name.parse()?;
            return Ok(url.on_hub(endpoint).map_or_else(|| Origin::Address(url), Origin::File));
        }
        // A revision may have slashes, too, so behind one only the ending tells that a file is meant.
        let is_repo = name.parse::<RepoId>().is_ok() && !has_weights_ending(name);
        if is_repo || name.matches('/').count() <= 1 {
            return Ok(Origin::Model(name.to_owned()));
        }
        name.parse().map(Origin::File)
    }
}

/// Whether a name ends as files of weights do.
fn has_weights_ending(name: &str) -> bool {
    let ending = name.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending);
    matches!(ending, Some("safetensors" | "gguf" | "ckpt" | "bin" | "pt" | "pth"))
}

/// The name that it is kept under.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Model(name) => f.write_str(name),
            Origin::File(file) => file.fmt(f),
            Origin::Address(url) => url.fmt(f),
        }
    }
}

fn is_plain_char(c: char) -> bool {
    !c.is_control() && !matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
}

impl FromStr for RepoFile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let n_parts = match parts.get(1) {
            // The revision is the rest of this part, and two more of `refs/kind/name`.
            Some(name) if name.ends_with("@refs") => 4,
            _ => 2,
        };
        if parts.len() <= n_parts {
            return Err(Error::Request {
                field: "file",
                got: format!("{text:?}"),
                expected: "write owner/name/path/file.safetensors or owner/name@revision/path/file.safetensors"
                    .to_owned(),
            });
        }
        RepoFile::new(parts[..n_parts].join("/").parse()?, &parts[n_parts..].join("/"))
    }
}

impl fmt::Display for RepoFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.repo, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_repositories() {
        for (text, repo, path) in [
            ("owner/repo/a.safetensors", "owner/repo", "a.safetensors"),
            ("owner/repo/deep/er/a b.gguf", "owner/repo", "deep/er/a b.gguf"),
            ("owner/repo@v1/a.safetensors", "owner/repo@v1", "a.safetensors"),
            ("owner/repo@refs/pr/7/vae/a.safetensors", "owner/repo@refs/pr/7", "vae/a.safetensors"),
        ] {
            let file: RepoFile = text.parse().unwrap();
            assert_eq!((file.repo().to_string().as_str(), file.path()), (repo, path));
            assert_eq!(file.to_string(), text);
        }
        for text in
            ["owner/repo", "owner/repo/", "owner/repo/../x", "owner/repo/a//b", "owner/re po/x", "owner/repo/a\\b"]
        {
            assert!(matches!(text.parse::<RepoFile>(), Err(Error::Request { .. })), "{text}");
        }
    }

    #[test]
    fn addresses_of_files() {
        let url: FileUrl = "https://models.example:8443/a%20b/x%2Fy.safetensors?token=secret#top".parse().unwrap();
        assert_eq!(url.as_str(), "https://models.example:8443/a%20b/x%2Fy.safetensors?token=secret");
        assert_eq!((url.host(), url.file_name().as_str()), ("models.example:8443", "x_y.safetensors"));
        assert!(!format!("{url} {url:?}").contains("secret"), "a token in a message");
        let named = |text: &str| text.parse::<FileUrl>().unwrap().file_name();
        assert_eq!(named("https://a.example"), UNNAMED);
        assert_eq!(named("https://a.example/.."), UNNAMED);
        assert_eq!(named("http://a.example/m/.hidden"), "hidden");
        for text in
            ["", "a.example/x", "ftp://a.example/x", "https://", "https://a b/x", "https://user:word@a.example/x"]
        {
            assert!(matches!(text.parse::<FileUrl>(), Err(Error::Request { .. })), "{text}");
        }
        assert_eq!(name_in_disposition("attachment; filename=\"a b.safetensors\"").as_deref(), Some("a b.safetensors"));
        assert_eq!(name_in_disposition("attachment; filename=../../x.gguf; size=3").as_deref(), Some("x.gguf"));
        assert_eq!(name_in_disposition("inline"), None);
    }

    #[test]
    fn names_say_where_a_model_comes_from() {
        let hub = "https://huggingface.co";
        let parsed = |name: &str| Origin::parse(name, hub);
        for name in ["turbo", "owner/repo", "owner/v1.bin", "owner/repo@v1/b.2", "owner/repo@refs/pr/7", "owner/re po"]
        {
            assert_eq!(parsed(name).unwrap(), Origin::Model(name.to_owned()));
        }
        for name in ["owner/repo/a.json", "owner/repo@v1/a.gguf", "owner/repo@refs/pr/7/vae/a.safetensors"] {
            assert_eq!(parsed(name).unwrap(), Origin::File(name.parse().unwrap()));
        }
        let file = "owner/repo/a.safetensors";
        assert_eq!(parsed(file).unwrap(), Origin::File(file.parse().unwrap()));
        assert_eq!(parsed(&format!("{hub}/owner/repo/resolve/main/a.safetensors")).unwrap().to_string(), file);
        let url = "https://a.example/x.safetensors?token=secret";
        assert_eq!(parsed(url).unwrap(), Origin::Address(url.parse().unwrap()));
        assert_eq!(parsed(url).unwrap().to_string(), "https://a.example/x.safetensors");
        assert!(parsed("owner/repo/../x").is_err() && parsed("https://").is_err());
    }

    #[test]
    fn addresses_on_the_hub_are_files_of_repositories() {
        let hub = "https://huggingface.co";
        let on_hub =
            |path: &str| format!("{hub}/{path}").parse::<FileUrl>().unwrap().on_hub(hub).map(|f| f.to_string());
        assert_eq!(
            on_hub("o/r/resolve/main/vae/a.safetensors?download=true").as_deref(),
            Some("o/r/vae/a.safetensors")
        );
        assert_eq!(on_hub("o/r/blob/refs%2Fpr%2F7/a%20b.gguf").as_deref(), Some("o/r@refs/pr/7/a b.gguf"));
        assert_eq!(on_hub("o/r/tree/main/vae"), None);
        assert_eq!("https://huggingface.com/o/r/resolve/main/x".parse::<FileUrl>().unwrap().on_hub(hub), None);
    }
}
