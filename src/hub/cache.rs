//! The Hugging Face cache on disk, shared with Python's libraries, and downloads into it. Natively only.
//!
//! A model that is complete in the cache is used without any request, so that a machine that has been online once needs
//! no network again. `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH` and `HF_HUB_OFFLINE` mean
//! what they mean to `huggingface_hub`, and so do their former names.
//!
//! Where no variant is asked for, a model in the cache is its plain files, as in diffusers, since those are what somebody
//! may have changed; a download takes the fp16 ones, which are half as long, as both are the publisher's.
//!
//! It deliberately looks for no newer commit of a model that is complete: naming another revision does that. It does
//! not compute digests; lengths are compared with the Hub's listing, and a safetensors file explains its every byte.

mod download;
mod settings;

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Cache, Repo, RepoType};

use self::download::{Fault, Transfer};
use super::folder::{Folder, scan};
use super::{IndexTexts, ModelFile, Needs, RepoId, Variant, choose_files, index_files};
use crate::error::{Error, Result};
use crate::model::version::SDVersion;

pub use settings::HubSettings;

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file that is being downloaded, as a path in the repository.
    pub path: &'a str,
    /// How many bytes of all files have been loaded. It may fall back when a broken transfer starts anew.
    pub loaded_bytes: u64,
    /// How many bytes all files have that the cache did not have at the start.
    pub total_bytes: u64,
}

/// A complete model in the cache.
#[derive(Clone, Debug)]
pub struct CachedModel {
    /// The repository that it is from: the version's own or a fallback.
    pub repo: RepoId,
    /// The commit that it is.
    pub commit: String,
    /// Its files, as a [`super::Source`].
    pub folder: Folder,
    /// How many bytes its files have.
    pub bytes: u64,
    /// Whether any of its weights are an fp16 variant.
    pub f16: bool,
}

/// What the cache has of a repository.
#[derive(Clone, Debug)]
pub enum CacheState {
    /// Nothing.
    Absent,
    /// Some files with this many bytes, but not all that the model needs.
    Partial(u64),
    /// Everything.
    Complete(CachedModel),
}

/// The cache, and the Hub that fills it.
#[derive(Clone, Debug)]
pub struct HubCache {
    settings: HubSettings,
}

impl HubCache {
    /// The cache and endpoint of these settings.
    #[must_use]
    pub fn new(settings: HubSettings) -> Self {
        HubCache { settings }
    }

    /// The cache and endpoint that the environment says.
    ///
    /// # Errors
    /// As [`HubSettings::from_env`].
    pub fn from_env() -> Result<Self> {
        Ok(HubCache { settings: HubSettings::from_env()? })
    }

    /// Where the cache is and which Hub fills it.
    #[must_use]
    pub fn settings(&self) -> &HubSettings {
        &self.settings
    }

    /// What the cache has of one repository. Makes no request.
    ///
    /// # Errors
    /// [`Error::Io`] where the cache is there and cannot be read.
    pub fn state(&self, repo: &RepoId, variant: &Variant) -> Result<CacheState> {
        let Some((commit, root)) = self.snapshot(repo) else { return Ok(CacheState::Absent) };
        match self.complete(repo, &commit, &root, variant) {
            Ok(model) => Ok(CacheState::Complete(model)),
            Err(error @ Error::Io { .. }) => Err(error),
            // Whatever else is wrong with the snapshot, the download finds out and says.
            Err(_) => match scan(&root)?.iter().filter_map(|file| file.bytes).sum() {
                0 => Ok(CacheState::Absent),
                bytes => Ok(CacheState::Partial(bytes)),
            },
        }
    }

    /// What the cache has of a version, in its own repository or a fallback. Makes no request.
    ///
    /// # Errors
    /// As [`HubCache::state`].
    pub fn version_state(&self, version: SDVersion, variant: &Variant) -> Result<CacheState> {
        let mut best = CacheState::Absent;
        for repo in version.repositories() {
            match (self.state(&repo.parse()?, variant)?, &best) {
                (CacheState::Complete(model), _) => return Ok(CacheState::Complete(model)),
                (CacheState::Partial(bytes), CacheState::Absent) => best = CacheState::Partial(bytes),
                _ => {}
            }
        }
        Ok(best)
    }

    /// Whether a version needs no download.
    ///
    /// # Errors
    /// As [`HubCache::state`].
    pub fn is_cached(&self, version: SDVersion) -> Result<bool> {
        Ok(matches!(self.version_state(version, &Variant::default())?, CacheState::Complete(_)))
    }

    /// A repository's model, from the cache where that is complete, else downloaded into it. Blocks until it is there.
    /// Transfers that break are resumed, at once a few times and again by the next call. A variant that is asked for and
    /// that the cache lacks is downloaded; nothing else is taken instead of it.
    ///
    /// # Errors
    /// [`Error::Hub`] that says which repository, what is wrong, and what to do: no network, no such repository, one
    /// that is private or gated, a file that the model needs and the repository lacks. [`Error::Io`] where the cache
    /// cannot be written.
    pub fn fetch(
        &self,
        repo: &RepoId,
        variant: &Variant,
        on_progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<CachedModel> {
        if let CacheState::Complete(model) = self.state(repo, variant)? {
            return Ok(model);
        }
        let downloaded = self.download(repo, variant, on_progress);
        downloaded.map_err(|fault| fault.into_error(repo, variant, &self.settings))
    }

    /// A version's model, from the cache where its own repository or a fallback is complete there, else downloaded from
    /// the first of them that has it.
    ///
    /// # Errors
    /// As [`HubCache::fetch`]. Where no repository has it, the message is about the version's own and lists the others.
    pub fn fetch_version(
        &self,
        version: SDVersion,
        variant: &Variant,
        on_progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<CachedModel> {
        if let CacheState::Complete(model) = self.version_state(version, variant)? {
            return Ok(model);
        }
        let mut first: Option<(RepoId, Fault)> = None;
        let mut others = Vec::new();
        for repo in version.repositories() {
            let repo: RepoId = repo.parse()?;
            match self.download(&repo, variant, on_progress) {
                Ok(model) => return Ok(model),
                // Only a repository that is not to be had makes another one worth a try.
                Err(fault) if !fault.is_unavailable() => {
                    return Err(fault.into_error(&repo, variant, &self.settings));
                }
                Err(fault) if first.is_none() => first = Some((repo, fault)),
                Err(_) => others.push(repo.to_string()),
            }
        }
        let Some((repo, fault)) = first else {
            let reason = "the version names no repository".to_owned();
            return Err(Error::Hub { repo: version.to_string(), reason });
        };
        match fault.into_error(&repo, variant, &self.settings) {
            Error::Hub { repo, reason } if !others.is_empty() => {
                Err(Error::Hub { repo, reason: format!("{reason}; {} was no help either", others.join(", ")) })
            }
            error => Err(error),
        }
    }

    fn download(
        &self,
        repo: &RepoId,
        variant: &Variant,
        on_progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<CachedModel, Fault> {
        if self.settings.offline {
            return Err(Fault::Offline);
        }
        let api = self.api()?;
        let remote = api.repo(hub_repo(repo));
        let transfer = Transfer { api: &api, remote: &remote, blobs: self.repo_folder(repo).join("blobs") };
        let listing = download::list(&remote)?;
        let index = transfer.file("model_index.json", &mut |_| {})?;
        let index_text = std::fs::read_to_string(&index).map_err(|source| Error::io(&index, source))?;
        let needs = Needs::from_model_index(&format!("{repo}: model_index.json"), &index_text)?;
        let wanted = if variant.is_asked_for() { variant } else { &Variant::Fp16First };
        let mut indexes = IndexTexts::new();
        for path in index_files(&listing.files, needs, wanted) {
            let place = transfer.file(&path, &mut |_| {})?;
            let text = std::fs::read_to_string(&place).map_err(|source| Error::io(&place, source))?;
            indexes.insert(path, text);
        }
        let files = choose_files(&repo.to_string(), &listing.files, needs, wanted, &indexes)?;

        let cached = |file: &ModelFile| {
            let place = self.snapshot(repo).map(|(_, root)| root.join(&file.path));
            let n_bytes = place.and_then(|place| std::fs::metadata(place).ok()).map(|metadata| metadata.len());
            n_bytes.is_some_and(|n_bytes| file.bytes.is_none_or(|expected| expected == n_bytes))
        };
        let absent: Vec<&ModelFile> = files.iter().filter(|file| !cached(file)).collect();
        let total_bytes = absent.iter().filter_map(|file| file.bytes).sum();
        let mut done_bytes = 0;
        for file in absent {
            let path = file.path.as_str();
            let mut on_bytes =
                |bytes: u64| on_progress(Progress { path, loaded_bytes: done_bytes + bytes, total_bytes });
            let place = transfer.file(path, &mut on_bytes)?;
            let n_bytes = std::fs::metadata(&place).map_err(|source| Error::io(&place, source))?.len();
            if let Some(expected) = file.bytes.filter(|&expected| expected != n_bytes) {
                download::discard(&place)?;
                return Err(Fault::Length { path: path.to_owned(), expected, got: n_bytes });
            }
            done_bytes += n_bytes;
        }
        let (commit, root) = self.snapshot(repo).ok_or(Fault::Changed)?;
        self.complete(repo, &commit, &root, variant).map_err(|error| match error {
            Error::Hub { .. } => Fault::Changed,
            other => Fault::Other(other),
        })
    }

    fn api(&self) -> Result<Api, Fault> {
        // Retries stay off: hf-hub 0.5 resumes from its own position in the file, which is 0 and not the file's end
        // where the first attempt reads nothing, and so writes the start a second time. `Transfer::file` retries.
        let builder = ApiBuilder::from_cache(Cache::new(self.settings.cache_dir.clone()))
            .with_endpoint(self.settings.endpoint.clone())
            .with_token(self.settings.token.clone())
            .with_user_agent("darkroom", env!("CARGO_PKG_VERSION"))
            .with_progress(false)
            .with_retries(0);
        builder.build().map_err(Fault::from)
    }

    /// Where the cache keeps everything of a repository.
    fn repo_folder(&self, repo: &RepoId) -> PathBuf {
        self.settings.cache_dir.join(hub_repo(repo).folder_name())
    }

    /// The folder with what the cache has of a repository, whole or not; `None` where that is nothing. Makes no request.
    #[must_use]
    pub fn snapshot_folder(&self, repo: &RepoId) -> Option<PathBuf> {
        self.snapshot(repo).map(|(_, root)| root)
    }

    /// The commit that the cache has for the revision, and the folder with its files.
    fn snapshot(&self, repo: &RepoId) -> Option<(String, PathBuf)> {
        let folder = self.repo_folder(repo);
        // Python writes no reference for a revision that is a commit already.
        let commit = std::fs::read_to_string(folder.join("refs").join(repo.revision()))
            .map_or_else(|_| repo.revision().to_owned(), |text| text.trim().to_owned());
        let is_plain = !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let root = folder.join("snapshots").join(&commit);
        (is_plain && root.is_dir()).then_some((commit, root))
    }

    /// The model in a snapshot, or which file it lacks.
    fn complete(&self, repo: &RepoId, commit: &str, root: &Path, variant: &Variant) -> Result<CachedModel> {
        let label = format!("{repo} in the Hugging Face cache");
        let folder = Folder::open(root)?.with_variant(variant.clone()).with_label(label);
        let files = folder.files()?;
        let bytes = files.iter().filter_map(|file| file.bytes).sum();
        let f16 = files.iter().any(|file| file.f16);
        Ok(CachedModel { repo: repo.clone(), commit: commit.to_owned(), folder, bytes, f16 })
    }
}

/// A repository as hf-hub names it.
fn hub_repo(repo: &RepoId) -> Repo {
    Repo::with_revision(repo.path().to_owned(), RepoType::Model, repo.revision().to_owned())
}
