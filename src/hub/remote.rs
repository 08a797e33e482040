//! A server that has models: a Hub, a folder that is served in the Hub's layout of addresses, or one file at an address.
//! Finds which files a model has there, pinned to a commit, and where each is.
//!
//! `GET /api/models/{repo}/revision/{revision}` tells the commit, `…/tree/{commit}` the files with lengths and digests.
//! A server of plain files has no commits; it may have the listing as a file, else names are tried.

mod probe;
mod refusal;
mod request;

use serde_json::Value;

use super::address::{FileUrl, Origin, RepoFile, endpoint, escaped_part, escaped_path, name_in_disposition};
use super::http::{Http, Reply};
use super::listing::parse_tree;
use super::{IndexTexts, ListedFile, ModelFile, Needs, RepoId, Variant, choose_files, index_files};
use crate::error::{Error, Result};
use crate::model::SDVersion;
use crate::store::{Manifest, StoredFile};

pub use refusal::{Advice, Refusal};

/// The Hub that is asked where nothing else is said.
pub const HUGGING_FACE: &str = "https://huggingface.co";

/// The most pages of a listing that are read; the Hub's have a thousand files each.
const MAX_PAGES: usize = 50;

/// How many files a message lists at most.
const N_LISTED: usize = 8;

/// Where the files are on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Layout {
    /// A Hub with its API.
    Hub,
    /// Plain files in the Hub's layout.
    Folder,
    /// One file.
    Address(FileUrl),
}

/// See the module.
#[derive(Clone)]
pub struct Remote {
    endpoint: String,
    token: Option<String>,
    layout: Layout,
    advice: Advice,
    /// How often a request for a listing is made before its failure counts.
    max_attempts: u32,
    /// The wait after the first failure, doubled with each further one, in milliseconds.
    base_ms: u64,
}

// A token does not belong into a log.
impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("endpoint", &self.endpoint).field("layout", &self.layout).finish()
    }
}

impl Remote {
    fn new(endpoint: String, token: Option<String>, layout: Layout) -> Self {
        Remote { endpoint, token, layout, advice: Advice::PAGE, max_attempts: 5, base_ms: 500 }
    }

    /// A Hub: its address without a path, and an access token where its models need one.
    ///
    /// # Errors
    /// [`Error::Request`] for what is no address or no token.
    pub fn hub(address: &str, token: Option<&str>) -> Result<Self> {
        let token = token.map(str::trim).filter(|token| !token.is_empty()).map(str::to_owned);
        if token.as_deref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(Error::Request {
                field: "token",
                got: "with blanks or special characters".to_owned(),
                expected: "an access token is one word, such as hf_…".to_owned(),
            });
        }
        Ok(Remote::new(endpoint(address)?, token, Layout::Hub))
    }

    /// A folder that a web server gives as it is, in the Hub's layout: `{base}/{owner}/{name}/resolve/main/{path}`.
    ///
    /// # Errors
    /// [`Error::Request`] for what is no address.
    pub fn folder(base: &str) -> Result<Self> {
        Ok(Remote::new(endpoint(base)?, None, Layout::Folder))
    }

    /// One file at an address.
    #[must_use]
    pub fn address(url: FileUrl) -> Self {
        Remote::new(url.origin(), None, Layout::Address(url))
    }

    /// Another wording of what to do about a refusal than the page's.
    #[must_use]
    pub fn with_advice(mut self, advice: Advice) -> Self {
        self.advice = advice;
        self
    }

    /// How often a request for a listing is made before its failure counts, and the wait after the first failure, which
    /// doubles with each further one, in milliseconds.
    #[must_use]
    pub fn with_retries(mut self, max_attempts: u32, base_ms: u64) -> Self {
        (self.max_attempts, self.base_ms) = (max_attempts, base_ms);
        self
    }

    /// Where something comes from: this server, or the host of an address.
    #[must_use]
    pub fn of(&self, origin: &Origin) -> Self {
        match origin {
            Origin::Address(url) => Remote::address(url.clone()).with_retries(self.max_attempts, self.base_ms),
            Origin::Model(_) | Origin::File(_) => self.clone(),
        }
    }

    /// Finds what a name stands for on the server of [`Remote::of`], and lists its files. Nothing is downloaded.
    ///
    /// # Errors
    /// As [`Remote::find`], [`Remote::find_file`] and [`Remote::find_address`].
    pub async fn find_origin(&self, http: &dyn Http, origin: &Origin, variant: &Variant) -> Result<Manifest> {
        match origin {
            Origin::Model(name) => self.find(http, name, variant).await,
            Origin::File(file) => self.find_file(http, file).await,
            Origin::Address(_) => self.find_address(http).await,
        }
    }

    /// The address without a slash at its end.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The token for a request to `url`; none for any other host than the Hub itself.
    #[must_use]
    pub fn token_for(&self, url: &str) -> Option<&str> {
        let rest = url.strip_prefix(&self.endpoint)?;
        rest.starts_with('/').then_some(())?;
        self.token.as_deref()
    }

    /// Where a file of a repository is.
    #[must_use]
    pub fn file_url(&self, repo: &str, commit: &str, path: &str) -> String {
        match &self.layout {
            Layout::Address(url) => url.as_str().to_owned(),
            _ => format!("{}/{repo}/resolve/{}/{}", self.endpoint, escaped_part(commit), escaped_path(path)),
        }
    }

    /// Finds a model, a version's short name or `owner/repo[@revision]`, and lists its files. Nothing is downloaded.
    ///
    /// A version that its own repository does not give is looked for in the others that have it.
    ///
    /// # Errors
    /// [`Error::Request`] for a name that is neither; [`Error::Hub`] that says what the place lacks or refuses;
    /// [`Error::Network`] where it cannot be reached.
    pub async fn find(&self, http: &dyn Http, name: &str, variant: &Variant) -> Result<Manifest> {
        let mut first_error = None;
        let mut others = Vec::new();
        for repo in repositories(name)? {
            match self.find_in(http, &repo, variant).await {
                Ok(manifest) => return Ok(manifest),
                Err(Refusal::Other(error)) => return Err(error),
                // Only a repository that is not available makes another one worth a try; the first one's error counts.
                Err(Refusal::Status(status)) => {
                    let error = self.refusal(repo.path(), None, status);
                    if !matches!(status, 401 | 403 | 404 | 410 | 451) {
                        return Err(error);
                    }
                    match first_error {
                        None => first_error = Some(error),
                        Some(_) => others.push(repo.to_string()),
                    }
                }
            }
        }
        Err(match first_error {
            Some(Error::Hub { repo, reason }) if !others.is_empty() => {
                Error::Hub { repo, reason: format!("{reason}; {} does not have it either", others.join(", ")) }
            }
            Some(error) => error,
            None => self.refusal(name, None, 404),
        })
    }

    /// Finds one file of a repository. Its model's name is the file's whole name, `owner/repo[@revision]/path`.
    ///
    /// # Errors
    /// [`Error::Hub`] that says what the place lacks or refuses; [`Error::Network`] where it cannot be reached.
    pub async fn find_file(&self, http: &dyn Http, file: &RepoFile) -> Result<Manifest> {
        match self.find_file_in(http, file).await {
            Ok(manifest) => Ok(manifest),
            Err(Refusal::Other(error)) => Err(error),
            Err(Refusal::Status(status)) => Err(self.refusal(file.repo().path(), None, status)),
        }
    }

    /// Finds the weights of a repository that has one file of them, as those of LoRAs do: the one that diffusers writes, or
    /// the only one.
    ///
    /// # Errors
    /// As [`Remote::find_file`]; with the files that there are, where it is not one.
    pub async fn find_only_file(&self, http: &dyn Http, repo: &RepoId) -> Result<RepoFile> {
        let listed = async { self.tree(http, repo, &self.commit(http, repo).await?).await };
        let listed = match listed.await {
            Ok(listed) => listed,
            Err(Refusal::Other(error)) => return Err(error),
            Err(Refusal::Status(status)) => return Err(self.refusal(repo.path(), None, status)),
        };
        let paths: Vec<&str> = listed.iter().map(|file| file.path.as_str()).collect();
        match only_file(&paths) {
            Some(path) => RepoFile::new(repo.clone(), path),
            None => Err(lacks(repo, LORA_FILE, &listed)),
        }
    }

    async fn find_file_in(&self, http: &dyn Http, file: &RepoFile) -> Result<Manifest, Refusal> {
        let (repo, path) = (file.repo(), file.path());
        let commit = self.commit(http, repo).await?;
        let stored = if self.layout == Layout::Folder {
            let url = self.file_url(repo.path(), &commit, path);
            let bytes = self.head(http, &file.to_string(), &url).await?.bytes;
            StoredFile::new(path, bytes.ok_or_else(|| self.odd(repo, &format!("the length of {path} is not told")))?)
        } else {
            let listed = self.tree(http, repo, &commit).await?;
            match listed.iter().find(|listed| listed.path == path) {
                Some(ListedFile { bytes: Some(bytes), sha256, git_oid, .. }) => {
                    StoredFile { sha256: sha256.clone(), git_oid: git_oid.clone(), ..StoredFile::new(path, *bytes) }
                }
                _ => return Err(lacks(repo, path, &listed).into()),
            }
        };
        Ok(Manifest { model: file.to_string(), repo: repo.path().to_owned(), commit, files: vec![stored] })
    }

    /// Finds the file of [`Remote::address`]: its name and length. Its model's name is the address without what follows the
    /// path.
    ///
    /// # Errors
    /// [`Error::Hub`] that says what the host refuses or does not tell; [`Error::Network`] where it cannot be reached.
    pub async fn find_address(&self, http: &dyn Http) -> Result<Manifest> {
        let Layout::Address(url) = &self.layout else {
            return Err(Error::Hub { repo: self.endpoint.clone(), reason: "is not the address of a file".to_owned() });
        };
        let name = url.to_string();
        let head = match self.head(http, &name, url.as_str()).await {
            Ok(head) => head,
            Err(Refusal::Other(error)) => return Err(error),
            Err(Refusal::Status(status)) => return Err(self.refusal(&name, None, status)),
        };
        let Some(bytes) = head.bytes else {
            let reason = format!("{} does not tell the length of the file: download it and give its path", url.host());
            return Err(Error::Hub { repo: name, reason });
        };
        let behind: Option<FileUrl> = head.url.parse().ok();
        let path = head.disposition.as_deref().and_then(name_in_disposition);
        // An address such as /download/123 may redirect to one with a name.
        let has_extension = |name: &String| name.contains('.');
        let path = path
            .or_else(|| Some(url.file_name()).filter(has_extension))
            .or_else(|| behind.map(|behind| behind.file_name()).filter(has_extension))
            .unwrap_or_else(|| url.file_name());
        let files = vec![StoredFile::new(path, bytes)];
        Ok(Manifest { model: name, repo: String::new(), commit: String::new(), files })
    }

    async fn find_in(&self, http: &dyn Http, repo: &RepoId, variant: &Variant) -> Result<Manifest, Refusal> {
        let commit = self.commit(http, repo).await?;
        let listed = match self.tree(http, repo, &commit).await {
            Err(Refusal::Status(404)) if self.layout == Layout::Folder => self.probe(http, repo, &commit).await?,
            listed => listed?,
        };
        let index = "model_index.json";
        let index_text = match self.text(http, repo, &self.file_url(repo.path(), &commit, index)).await {
            Err(Refusal::Status(404)) => return Err(no_model(repo, &listed).into()),
            text => text?.0,
        };
        let needs = Needs::from_model_index(&format!("{repo}: {index}"), &index_text)?;
        let mut indexes = IndexTexts::new();
        for path in index_files(&listed, needs, variant) {
            let text = self.text(http, repo, &self.file_url(repo.path(), &commit, &path)).await?.0;
            indexes.insert(path, text);
        }
        let mut files = Vec::new();
        for file in choose_files(&repo.to_string(), &listed, needs, variant, &indexes)? {
            let git_oid =
                listed.iter().find(|listed| listed.path == file.path).and_then(|listed| listed.git_oid.clone());
            files.push(StoredFile { git_oid, ..self.stored_file(http, repo, &commit, file).await? });
        }
        Ok(Manifest { model: repo.to_string(), repo: repo.path().to_owned(), commit, files })
    }

    async fn commit(&self, http: &dyn Http, repo: &RepoId) -> Result<String, Refusal> {
        if self.layout == Layout::Folder {
            return Ok(repo.revision().to_owned());
        }
        let revision = escaped_part(repo.revision());
        let url = format!("{}/api/models/{}/revision/{revision}", self.endpoint, repo.path());
        let (text, _) = self.text(http, repo, &url).await?;
        let commit =
            serde_json::from_str::<Value>(&text).ok().and_then(|info| Some(info.get("sha")?.as_str()?.to_owned()));
        match commit {
            Some(commit) if !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(commit),
            _ => Err(self.odd(repo, &format!("{url} names no commit")).into()),
        }
    }

    async fn tree(&self, http: &dyn Http, repo: &RepoId, commit: &str) -> Result<Vec<ListedFile>, Refusal> {
        let mut url =
            format!("{}/api/models/{}/tree/{}?recursive=true", self.endpoint, repo.path(), escaped_part(commit));
        let mut files = Vec::new();
        for _ in 0..MAX_PAGES {
            let (text, link) = self.text(http, repo, &url).await?;
            files.extend(parse_tree(&text).map_err(|reason| self.odd(repo, &reason))?);
            match link.as_deref().and_then(next_page) {
                // Another host would get the token.
                Some(next) if self.token_for(&next).is_some() || self.token.is_none() => url = next,
                _ => return Ok(files),
            }
        }
        Err(self.odd(repo, "the list of files has no end").into())
    }

    /// A file with its length, which is asked for where the listing does not tell it.
    async fn stored_file(
        &self,
        http: &dyn Http,
        repo: &RepoId,
        commit: &str,
        file: ModelFile,
    ) -> Result<StoredFile, Refusal> {
        let bytes = match file.bytes {
            Some(bytes) => bytes,
            None => {
                let url = self.file_url(repo.path(), commit, &file.path);
                match self.head(http, &repo.to_string(), &url).await?.bytes {
                    Some(bytes) if file.is_weights() => bytes,
                    // A text may be compressed in transfer; the announced length is that of the compressed bytes.
                    _ if !file.is_weights() => self.text(http, repo, &url).await?.0.len() as u64,
                    _ => return Err(self.odd(repo, &format!("the length of {} is not told", file.path)).into()),
                }
            }
        };
        Ok(StoredFile { sha256: file.sha256, ..StoredFile::new(file.path, bytes) })
    }
}

/// What diffusers calls a LoRA's file.
const LORA_FILE: &str = "pytorch_lora_weights.safetensors";

/// The file of weights of a repository that is for one file.
#[must_use]
pub fn only_file<'p>(paths: &[&'p str]) -> Option<&'p str> {
    if let Some(path) = paths.iter().find(|path| **path == LORA_FILE) {
        return Some(path);
    }
    let mut weights = paths.iter().filter(|path| path.ends_with(".safetensors"));
    weights.next().filter(|_| weights.next().is_none()).copied()
}

/// The repositories that a name stands for, best first.
///
/// # Errors
/// [`Error::Request`] for a name that is neither a version nor `owner/repo[@revision]`.
pub fn repositories(name: &str) -> Result<Vec<RepoId>> {
    if name.contains('/') {
        return Ok(vec![name.parse()?]);
    }
    let version: SDVersion = name.parse()?;
    version.repositories().map(str::parse).collect()
}

/// Whether an answer is a web page: of a login, a proxy, or an application that answers every address.
#[must_use]
pub fn is_html(reply: &dyn Reply) -> bool {
    reply.header("content-type").is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"))
}

/// The first files of a repository that may hold a model, for messages.
fn weight_files(listed: &[ListedFile]) -> Vec<&str> {
    let is_weights = |path: &&str| path.ends_with(".safetensors") || path.ends_with(".gguf");
    listed.iter().map(|file| file.path.as_str()).filter(is_weights).take(N_LISTED).collect()
}

/// The error for a repository in another layout than diffusers'.
fn no_model(repo: &RepoId, listed: &[ListedFile]) -> Error {
    let files = weight_files(listed);
    let instead = match files.as_slice() {
        [] => "and no safetensors or GGUF file: choose another repository".to_owned(),
        [first, ..] => format!("but single files, such as {repo}/{first}"),
    };
    Error::Hub { repo: repo.to_string(), reason: format!("has no model_index.json (404), {instead}") }
}

/// The error for a file that a repository does not have.
fn lacks(repo: &RepoId, path: &str, listed: &[ListedFile]) -> Error {
    let has = match weight_files(listed).as_slice() {
        [] => "it has no safetensors or GGUF file".to_owned(),
        files => format!("it has {}", files.join(", ")),
    };
    Error::Hub { repo: repo.to_string(), reason: format!("has no file {path}: {has}") }
}

/// The address of the next page in a header such as `<https://…?cursor=x>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    link.split(',').find_map(|part| {
        let (url, parameters) = part.trim().strip_prefix('<')?.split_once('>')?;
        parameters.contains("rel=\"next\"").then(|| url.to_owned())
    })
}
