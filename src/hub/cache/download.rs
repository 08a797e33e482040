//! Single requests to the Hub through hf-hub, and what their failures mean for the user.
//!
//! It deliberately sets no time limit on a transfer, only on reaching the Hub: hf-hub allows none on its downloads.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiError, ApiRepo};

use super::super::listing::{RepoListing, parse_revision};
use super::super::{RepoId, Variant};
use super::HubSettings;
use crate::error::Error;

/// How often a transfer that breaks is resumed before it is given up.
const MAX_ATTEMPTS: u64 = 4;

/// The HTTP status for a resumption at or behind the end of a file.
const RANGE_NOT_SATISFIABLE: u16 = 416;

/// How long the Hub may take to be reached, and again to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a download did not happen, before it is known which words help the user.
#[derive(Debug)]
pub(super) enum Fault {
    /// The user asked for no request.
    Offline,
    /// The Hub answered with this HTTP status.
    Status(u16),
    /// The Hub could not be reached, or the transfer broke.
    Network(String),
    /// Something in between, not the Hub, answered, or a Hub that is not one.
    Answer(String),
    /// A file that is not as long as the Hub's listing says.
    Length { path: String, expected: u64, got: u64 },
    /// The repository got a new commit between two files.
    Changed,
    /// What does not depend on the Hub.
    Other(Error),
}

impl Fault {
    /// Whether the repository is not to be had, so that a fallback is worth a try.
    pub(super) fn is_unavailable(&self) -> bool {
        matches!(self, Fault::Status(401 | 403 | 404 | 410 | 451))
    }

    /// The error for the user, with what to do.
    pub(super) fn into_error(self, repo: &RepoId, variant: &Variant, settings: &HubSettings) -> Error {
        let endpoint = &settings.endpoint;
        let folder_works = "or give the path of a folder that has the model in diffusers' layout";
        let reason = match self {
            Fault::Other(error) => return error,
            Fault::Offline => {
                let what = match variant {
                    Variant::Named(name) => format!("the variant {name} of the model"),
                    Variant::Plain => "the model in its plain files".to_owned(),
                    _ => "the model".to_owned(),
                };
                format!(
                    "{what} is not complete in {} and HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids to download it: \
                     unset that, {folder_works}",
                    settings.cache_dir.display()
                )
            }
            Fault::Status(401) if settings.token.is_none() => format!(
                "{endpoint} asks for a login: the repository is gated, private, or does not exist. Accept its licence \
                 at {endpoint}/{} and set HF_TOKEN to a token from {endpoint}/settings/tokens, {folder_works}",
                repo.path()
            ),
            Fault::Status(status @ (401 | 403)) => format!(
                "{endpoint} refuses access ({status}): the repository is gated or private, and the token of HF_TOKEN \
                 or of the login is wrong or not allowed to read it. Accept its licence at {endpoint}/{}, check the \
                 token at {endpoint}/settings/tokens, {folder_works}",
                repo.path()
            ),
            Fault::Status(404) => format!(
                "{endpoint} has no such repository or revision: check the spelling (owner/name@revision), \
                 {folder_works}"
            ),
            Fault::Status(429) => {
                format!("{endpoint} gets too many requests from here (429): wait some minutes and try again")
            }
            Fault::Status(status) => {
                format!("{endpoint} answers with HTTP status {status}: try again later, {folder_works}")
            }
            Fault::Network(cause) => format!(
                "{endpoint} cannot be reached or the transfer broke ({cause}): connect to the network and try again, \
                 which resumes, set HF_ENDPOINT to a mirror, {folder_works}"
            ),
            Fault::Answer(cause) => format!(
                "{endpoint} does not answer as the Hub does ({cause}): check HF_ENDPOINT and the proxy, {folder_works}"
            ),
            Fault::Length { path, expected, got } => format!(
                "{path} came with {got} bytes instead of {expected} and was thrown away: try the download again"
            ),
            Fault::Changed => {
                "the repository was changed during the download: try again, which gets what is new".to_owned()
            }
        };
        Error::Hub { repo: repo.to_string(), reason }
    }

    /// Whether the same request may succeed the next time.
    fn is_passing(&self) -> bool {
        matches!(self, Fault::Network(_) | Fault::Status(500 | 502 | 503 | 504))
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Other(error)
    }
}

impl From<ApiError> for Fault {
    fn from(error: ApiError) -> Self {
        match error {
            // hf-hub does not export the HTTP library's error, so its words are all there is to read.
            ApiError::RequestError(error) => {
                let words = error.to_string();
                match words.strip_prefix("http status: ").and_then(|status| status.parse().ok()) {
                    Some(status) => Fault::Status(status),
                    None => Fault::Network(words),
                }
            }
            ApiError::MissingHeader(_) | ApiError::InvalidHeader(_) | ApiError::ParseIntError(_) => {
                Fault::Answer(error.to_string())
            }
            ApiError::LockAcquisition(path) => Fault::Other(Error::Io {
                path: path.display().to_string(),
                source: std::io::Error::new(
                    ErrorKind::WouldBlock,
                    "another program is downloading this file: wait for it to end and try again",
                ),
            }),
            // A broken transfer and a full disk are the same variant.
            ApiError::IoError(source) => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    Fault::Other(Error::Io { path: "Hugging Face cache".to_owned(), source })
                }
                _ => Fault::Network(source.to_string()),
            },
            other => Fault::Network(other.to_string()),
        }
    }
}

/// Asks the Hub which files a revision has.
pub(super) fn list(remote: &ApiRepo) -> Result<RepoListing, Fault> {
    let request = remote
        .info_request()
        .query("blobs", "true")
        .config()
        .timeout_connect(Some(TIMEOUT))
        .timeout_recv_response(Some(TIMEOUT))
        .http_status_as_error(false)
        .build();
    let mut answer = request.call().map_err(|error| Fault::Network(error.to_string()))?;
    match answer.status().as_u16() {
        200 => {
            let json = answer.body_mut().read_to_string().map_err(|error| Fault::Network(error.to_string()))?;
            parse_revision(&json).map_err(Fault::Answer)
        }
        status => Err(Fault::Status(status)),
    }
}

/// Downloads the files of one repository into its place in the cache.
pub(super) struct Transfer<'a> {
    pub(super) api: &'a Api,
    pub(super) remote: &'a ApiRepo,
    /// The cache's folder of the repository's bytes, by the tag that the Hub gives them.
    pub(super) blobs: PathBuf,
}

impl Transfer<'_> {
    /// Downloads one file, and tells after each piece how many of its bytes are there.
    pub(super) fn file(&self, path: &str, on_bytes: &mut dyn FnMut(u64)) -> Result<PathBuf, Fault> {
        let mut attempt = 1;
        loop {
            let counter = Counter { loaded_bytes: 0, on_bytes: &mut *on_bytes };
            let fault = match self.remote.download_with_progress(path, counter) {
                Ok(place) => return Ok(place),
                Err(ApiError::InvalidResume) => Fault::Status(RANGE_NOT_SATISFIABLE),
                Err(error) => Fault::from(error),
            };
            if attempt == MAX_ATTEMPTS {
                return Err(fault);
            }
            match fault {
                // What is left of an earlier transfer is as long as the file or longer, so there is nothing to resume.
                Fault::Status(RANGE_NOT_SATISFIABLE) => self.discard_part(path)?,
                passing if passing.is_passing() => {
                    std::thread::sleep(Duration::from_millis(250 * attempt * attempt));
                }
                lasting => return Err(lasting),
            }
            attempt += 1;
        }
    }

    /// Removes what an earlier transfer of a file left, so that the next one starts from nothing.
    fn discard_part(&self, path: &str) -> Result<(), Fault> {
        let metadata = self.api.metadata(&self.remote.url(path))?;
        let tag = metadata.etag();
        if tag.is_empty() || !tag.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Fault::Answer(format!("the tag of {path} is {tag:?}")));
        }
        let part = self.blobs.join(tag).with_extension("part");
        match std::fs::remove_file(&part) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io(&part, error).into()),
            _ => Ok(()),
        }
    }
}

/// Removes a file of a snapshot and the blob that it is a link to.
pub(super) fn discard(place: &Path) -> Result<(), Fault> {
    let blob = std::fs::canonicalize(place).map_err(|source| Error::io(place, source))?;
    std::fs::remove_file(&blob).map_err(|source| Error::io(&blob, source))?;
    if place.symlink_metadata().is_ok() {
        std::fs::remove_file(place).map_err(|source| Error::io(place, source))?;
    }
    Ok(())
}

/// Counts the bytes of one file for hf-hub.
struct Counter<'a> {
    loaded_bytes: u64,
    on_bytes: &'a mut dyn FnMut(u64),
}

impl hf_hub::api::Progress for Counter<'_> {
    fn init(&mut self, _n_bytes: usize, _path: &str) {
        // hf-hub calls this twice, and the second time with the resumed bytes still to be told.
        self.loaded_bytes = 0;
    }

    fn update(&mut self, n_bytes: usize) {
        self.loaded_bytes += n_bytes as u64;
        (self.on_bytes)(self.loaded_bytes);
    }

    fn finish(&mut self) {}
}
