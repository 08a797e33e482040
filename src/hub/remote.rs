//! A Hub, or a folder that is served in the Hub's layout of addresses: which files a model has there, pinned to a commit.
//!
//! `GET /api/models/{repo}/revision/{revision}` tells the commit, `…/tree/{commit}` the files with lengths and digests.
//! A server of plain files has no commits; it may have the listing as a file, else the names that a model's files can
//! have are tried one by one.

use serde_json::Value;

use super::http::{Broken, Get, Http, Reply};
use super::listing::parse_tree;
use super::retry::{MAX_RETRY_AFTER_MS, backoff_ms, is_passing, retry_after_ms};
use super::{IndexTexts, ListedFile, ModelFile, Needs, RepoId, Variant, choose_files, index_files};
use crate::error::{Error, Result};
use crate::model::SDVersion;
use crate::store::{Manifest, StoredFile};

/// The Hub that is asked where nothing else is said.
pub const HUGGING_FACE: &str = "https://huggingface.co";

/// The longest listing or configuration that is read, in bytes.
const MAX_TEXT_BYTES: usize = 32 << 20;

/// The most pages of a listing that are read; the Hub's have a thousand files each.
const MAX_PAGES: usize = 50;

/// How often a request for a listing is made before its failure counts.
const MAX_ATTEMPTS: u32 = 5;

/// Where models come from.
#[derive(Clone)]
pub struct Remote {
    endpoint: String,
    token: Option<String>,
    /// Whether it is a server of plain files.
    is_static: bool,
}

// A token does not belong into a log.
impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("endpoint", &self.endpoint).field("is_static", &self.is_static).finish()
    }
}

/// Why a text could not be had.
enum Refusal {
    /// The server answered with this status.
    Status(u16),
    /// Anything else, said already.
    Other(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Other(error)
    }
}

impl Remote {
    /// A Hub: its address without a path, and an access token where its models need one.
    ///
    /// # Errors
    /// [`Error::Request`] for what is no address.
    pub fn hub(endpoint: &str, token: Option<&str>) -> Result<Self> {
        let token = token.map(str::trim).filter(|token| !token.is_empty()).map(str::to_owned);
        if token.as_deref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(Error::Request {
                field: "token",
                got: "with blanks or special characters".to_owned(),
                expected: "an access token is one word, such as hf_…".to_owned(),
            });
        }
        Ok(Remote { endpoint: address(endpoint)?, token, is_static: false })
    }

    /// A folder that a web server gives as it is, in the Hub's layout: `{base}/{owner}/{name}/resolve/main/{path}`.
    ///
    /// # Errors
    /// [`Error::Request`] for what is no address.
    pub fn folder(base: &str) -> Result<Self> {
        Ok(Remote { endpoint: address(base)?, token: None, is_static: true })
    }

    /// The address without a slash at its end.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The token for a request to `url`, which no other host than the Hub itself gets to see.
    #[must_use]
    pub fn token_for(&self, url: &str) -> Option<&str> {
        let rest = url.strip_prefix(&self.endpoint)?;
        rest.starts_with('/').then_some(())?;
        self.token.as_deref()
    }

    /// Where a file of a repository is.
    #[must_use]
    pub fn file_url(&self, repo: &str, commit: &str, path: &str) -> String {
        format!("{}/{repo}/resolve/{}/{}", self.endpoint, encoded(commit, ""), encoded(path, "/"))
    }

    /// The error for a status that will not pass, with what to do.
    #[must_use]
    pub fn refusal(&self, repo: &str, path: &str, status: u16) -> Error {
        let endpoint = &self.endpoint;
        let reason = match status {
            401 | 403 if self.token.is_none() => format!(
                "{endpoint} refuses {path} ({status}): the model is gated or private, so an access token is needed. Accept \
                 its licence at {endpoint}/{repo} and give a token from {endpoint}/settings/tokens"
            ),
            401 | 403 => format!(
                "{endpoint} refuses {path} ({status}): the model is gated or private, and the access token is wrong or not \
                 allowed to read it. Accept its licence at {endpoint}/{repo} and check the token at \
                 {endpoint}/settings/tokens"
            ),
            404 | 410 => format!(
                "{endpoint} has no {path} of it ({status}): check the spelling (owner/name@revision), or choose another \
                 model"
            ),
            429 => format!("{endpoint} gets too many requests from here (429): wait some minutes, then go on"),
            _ => format!("{endpoint} answers {path} with HTTP status {status}: try again later, which goes on"),
        };
        Error::Hub { repo: repo.to_owned(), reason }
    }

    /// Finds a model, a version's short name or `owner/repo[@revision]`, and lists its files: nothing is there yet.
    ///
    /// A version that its own repository does not give is looked for in the others that have it.
    ///
    /// # Errors
    /// [`Error::Request`] for a name that is neither; [`Error::Hub`] that says what the place lacks, refuses, or how it
    /// failed.
    pub async fn find(&self, http: &dyn Http, name: &str, variant: &Variant) -> Result<Manifest> {
        let mut first_error = None;
        for repo in repositories(name)? {
            match self.find_in(http, &repo, variant).await {
                Ok(manifest) => return Ok(manifest),
                Err(Refusal::Other(error)) => return Err(error),
                // Only a repository that is not to be had makes another one worth a try; the first one's error counts.
                Err(Refusal::Status(status)) => {
                    let error = self.refusal(repo.path(), "list of files", status);
                    if !matches!(status, 401 | 403 | 404 | 410 | 451) {
                        return Err(error);
                    }
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or_else(|| self.refusal(name, "list of files", 404)))
    }

    async fn find_in(&self, http: &dyn Http, repo: &RepoId, variant: &Variant) -> Result<Manifest, Refusal> {
        let commit = if self.is_static { repo.revision().to_owned() } else { self.commit(http, repo).await? };
        let listed = match self.tree(http, repo, &commit).await {
            Err(Refusal::Status(404)) if self.is_static => self.probe(http, repo, &commit).await?,
            listed => listed?,
        };
        let index = "model_index.json";
        let index_text = self.text(http, repo, &self.file_url(repo.path(), &commit, index)).await?.0;
        let needs = Needs::from_model_index(&format!("{repo}: {index}"), &index_text)?;
        let mut indexes = IndexTexts::new();
        for path in index_files(&listed, needs, variant) {
            let text = self.text(http, repo, &self.file_url(repo.path(), &commit, &path)).await?.0;
            indexes.insert(path, text);
        }
        let mut files = Vec::new();
        for file in choose_files(&repo.to_string(), &listed, needs, variant, &indexes)? {
            files.push(self.stored_file(http, repo, &commit, file).await?);
        }
        Ok(Manifest { model: repo.to_string(), repo: repo.path().to_owned(), commit, files })
    }

    async fn commit(&self, http: &dyn Http, repo: &RepoId) -> Result<String, Refusal> {
        let url = format!("{}/api/models/{}/revision/{}", self.endpoint, repo.path(), encoded(repo.revision(), ""));
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
            format!("{}/api/models/{}/tree/{}?recursive=true", self.endpoint, repo.path(), encoded(commit, ""));
        let mut files = Vec::new();
        for _ in 0..MAX_PAGES {
            let (text, link) = self.text(http, repo, &url).await?;
            files.extend(parse_tree(&text).map_err(|reason| self.odd(repo, &reason))?);
            match link.as_deref().and_then(next_page) {
                // Another host would get to see the token.
                Some(next) if self.is_static || self.token_for(&next).is_some() || self.token.is_none() => url = next,
                _ => return Ok(files),
            }
        }
        Err(self.odd(repo, "the list of files has no end").into())
    }

    /// Tries the names that a model's files can have.
    async fn probe(&self, http: &dyn Http, repo: &RepoId, commit: &str) -> Result<Vec<ListedFile>, Refusal> {
        let index = self.text(http, repo, &self.file_url(repo.path(), commit, "model_index.json")).await?.0;
        let needs = Needs::from_model_index(&format!("{repo}: model_index.json"), &index)?;
        let mut listed = vec![ListedFile::new("model_index.json", Some(index.len() as u64))];
        for path in possible_paths(needs) {
            let url = self.file_url(repo.path(), commit, &path);
            match self.length(http, repo, &url).await {
                Ok(bytes) => listed.push(ListedFile::new(path, bytes)),
                Err(Refusal::Status(404 | 403)) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(listed)
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
                match self.length(http, repo, &url).await? {
                    Some(bytes) if file.is_weights() => bytes,
                    // Text may be compressed on its way, and its announced length is that of the compressed bytes.
                    _ if !file.is_weights() => self.text(http, repo, &url).await?.0.len() as u64,
                    _ => return Err(self.odd(repo, &format!("the length of {} is not told", file.path)).into()),
                }
            }
        };
        Ok(StoredFile { path: file.path, bytes, sha256: file.sha256, etag: None, complete: false })
    }

    /// The length of a file, where the server tells it. Its bytes are not read.
    async fn length(&self, http: &dyn Http, repo: &RepoId, url: &str) -> Result<Option<u64>, Refusal> {
        let get = Get { range: Some((0, 1)), ..Get::whole(url, self.token_for(url)) };
        let reply = self.reply(http, repo, &get).await?;
        let header = |name: &str| reply.header(name);
        Ok(match reply.status() {
            206 => header("content-range").and_then(|range| range.rsplit('/').next()?.parse().ok()),
            200 if is_html(&*reply) => return Err(Refusal::Status(404)),
            200 => header("content-length").and_then(|length| length.parse().ok()),
            status => return Err(Refusal::Status(status)),
        })
    }

    /// A text and the header `Link`.
    async fn text(&self, http: &dyn Http, repo: &RepoId, url: &str) -> Result<(String, Option<String>), Refusal> {
        let get = Get::whole(url, self.token_for(url));
        let mut attempt = 1;
        loop {
            let mut reply = self.reply(http, repo, &get).await?;
            if reply.status() != 200 {
                return Err(Refusal::Status(reply.status()));
            }
            if is_html(&*reply) {
                return Err(self.odd(repo, &format!("{url} is an HTML page")).into());
            }
            let mut bytes = Vec::new();
            let broken = loop {
                match reply.next().await {
                    Ok(Some(piece)) if bytes.len() + piece.len() <= MAX_TEXT_BYTES => bytes.extend(piece),
                    Ok(Some(_)) => return Err(self.odd(repo, &format!("{url} is too long")).into()),
                    Ok(None) => break None,
                    Err(broken) => break Some(broken),
                }
            };
            match broken {
                None => {
                    let text = String::from_utf8(bytes).map_err(|_| self.odd(repo, &format!("{url} is not UTF-8")))?;
                    return Ok((text, reply.header("link")));
                }
                Some(broken) if attempt == MAX_ATTEMPTS => return Err(self.unreachable(repo, &broken).into()),
                Some(_) => http.sleep(backoff_ms(attempt, 500, 8000, http.jitter())).await,
            }
            attempt += 1;
        }
    }

    /// Sends a request until its answer is one to act upon.
    async fn reply(&self, http: &dyn Http, repo: &RepoId, get: &Get) -> Result<Box<dyn Reply>, Refusal> {
        let mut attempt = 1;
        loop {
            let mut wait_ms = backoff_ms(attempt, 500, 8000, http.jitter());
            match http.get(get).await {
                Ok(reply) if !is_passing(reply.status()) => return Ok(reply),
                Ok(reply) if attempt == MAX_ATTEMPTS => return Err(Refusal::Status(reply.status())),
                Ok(reply) => {
                    let asked = reply.header("retry-after").and_then(|header| retry_after_ms(&header)).unwrap_or(0);
                    if asked > MAX_RETRY_AFTER_MS {
                        return Err(Refusal::Status(reply.status()));
                    }
                    wait_ms = wait_ms.max(asked);
                }
                Err(broken) if attempt == MAX_ATTEMPTS => return Err(self.unreachable(repo, &broken).into()),
                Err(_) => {}
            }
            http.sleep(wait_ms).await;
            attempt += 1;
        }
    }

    fn odd(&self, repo: &RepoId, what: &str) -> Error {
        let reason =
            format!("{} does not answer as the Hub does ({what}): check the endpoint and the proxy", self.endpoint);
        Error::Hub { repo: repo.to_string(), reason }
    }

    fn unreachable(&self, repo: &RepoId, broken: &Broken) -> Error {
        let reason = format!(
            "{} cannot be reached ({}): connect to the network and try again, or set another endpoint",
            self.endpoint, broken.0
        );
        Error::Hub { repo: repo.to_string(), reason }
    }
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

/// Whether an answer is a page for people: of a login, a proxy, or an application that answers every address.
#[must_use]
pub fn is_html(reply: &dyn Reply) -> bool {
    reply.header("content-type").is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"))
}

/// Every name of a file that [`choose_files`] looks for, but those of weights in parts.
fn possible_paths(needs: Needs) -> Vec<String> {
    let mut paths = vec!["scheduler/scheduler_config.json".to_owned()];
    let weights =
        |stem: &str| [format!("{stem}.fp16.safetensors"), format!("{stem}.safetensors"), "config.json".to_owned()];
    for suffix in if needs.second_encoder { &["", "_2"][..] } else { &[""][..] } {
        let names = [
            "tokenizer.json",
            "vocab.json",
            "merges.txt",
            "added_tokens.json",
            "special_tokens_map.json",
            "tokenizer_config.json",
        ];
        paths.extend(names.map(|name| format!("tokenizer{suffix}/{name}")));
        paths.extend(weights("model").map(|name| format!("text_encoder{suffix}/{name}")));
    }
    for folder in ["unet", "vae"] {
        paths.extend(weights("diffusion_pytorch_model").map(|name| format!("{folder}/{name}")));
    }
    paths
}

/// The address of the next page in a header such as `<https://…?cursor=x>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    link.split(',').find_map(|part| {
        let (url, parameters) = part.trim().strip_prefix('<')?.split_once('>')?;
        parameters.contains("rel=\"next\"").then(|| url.to_owned())
    })
}

fn address(text: &str) -> Result<String> {
    let text = text.trim().trim_end_matches('/');
    let is_address = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'@'))
    });
    if is_address {
        return Ok(text.to_owned());
    }
    Err(Error::Request {
        field: "endpoint",
        got: format!("{text:?}"),
        expected: format!("an address such as {HUGGING_FACE}, with http:// or https:// in front"),
    })
}

/// Percent-encodes what has a meaning in an address, but for the characters of `keep`.
fn encoded(text: &str, keep: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || keep.as_bytes().contains(&byte);
        if is_plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
