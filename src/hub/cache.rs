//! The Hugging Face cache on disk, shared with Python's libraries, and downloads into it by the engine that the page uses
//! too ([`super::download`]): resumed where they were cut, in several ranges at once, verified. Natively only.
//!
//! A model that is complete in the cache is used without any request, so a machine that has been online once needs no
//! network again. `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH` and `HF_HUB_OFFLINE` mean what they
//! mean to `huggingface_hub`, and so do their former names.
//!
//! | what | where |
//! |---|---|
//! | a model, [`HubCache::fetch`] | `$HF_HUB_CACHE/models--owner--name/snapshots/<commit>/` |
//! | one file of a repository, [`HubCache::fetch_file`] | `…/snapshots/<commit>/<path>`, the same folder |
//! | one file at an address, [`HubCache::fetch_url`] | `$HF_ASSETS_CACHE/darkroom/<host>/<digest of the address>/<name>` |
//! | what is not complete | `…/blobs/<digest>.darkroom.incomplete` and a journal; of an address in its folder |
//!
//! Where no variant is asked for, a model in the cache is its plain files, as in diffusers, since those are what somebody
//! may have changed; a download takes the fp16 ones, which are half as long, as both are the publisher's.
//!
//! It looks for no newer commit of a model that is complete: naming another revision does that. What has its final name was
//! verified, so it is compared by length only.

mod partial;
mod settings;
mod store;

use std::path::{Path, PathBuf};

use pollster::block_on;

use self::partial::is_partial;
use self::store::{CacheStore, Place};
use super::address::{FileUrl, RepoFile};
use super::download::{Download, Patience};
use super::folder::{Folder, scan};
use super::http::Cancel;
use super::native::NativeHttp;
use super::remote::{Advice, Remote, only_file};
use super::{RepoId, Variant};
use crate::error::{Error, Result};
use crate::model::version::SDVersion;
use crate::store::{Manifest, sha256_hex};

pub use super::download::Progress;
pub use settings::HubSettings;

/// How often a request for a listing is made before its failure counts, and the first wait: whoever has no network wants to
/// know soon.
const LISTING_ATTEMPTS: (u32, u64) = (3, 250);

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
    patience: Patience,
}

impl HubCache {
    /// The cache and endpoint of these settings.
    #[must_use]
    pub fn new(settings: HubSettings) -> Self {
        HubCache { settings, patience: Patience::default() }
    }

    /// The cache and endpoint that the environment says.
    ///
    /// # Errors
    /// As [`HubSettings::from_env`].
    pub fn from_env() -> Result<Self> {
        Ok(HubCache::new(HubSettings::from_env()?))
    }

    /// Other numbers of parallel requests, attempts and waits than the usual ones.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
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

    /// A repository's model, from the cache where that is complete, else downloaded into it. Blocks until it is there.
    /// Transfers that break are resumed, a few times at once and again by the next call. A variant that is asked for and
    /// that the cache lacks is downloaded; nothing else is taken instead of it.
    ///
    /// # Errors
    /// [`Error::Hub`] that says which repository, what is wrong, and what to do: no network, no such repository, one
    /// that is private or gated, a file that the model needs and the repository lacks. [`Error::Io`] and
    /// [`Error::StoreFull`] where the cache cannot be written.
    pub fn fetch(
        &self,
        repo: &RepoId,
        variant: &Variant,
        on_progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<CachedModel> {
        match self.state(repo, variant)? {
            CacheState::Complete(model) => Ok(model),
            _ => self.download(&repo.to_string(), &repo.to_string(), variant, on_progress),
        }
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
        match self.version_state(version, variant)? {
            CacheState::Complete(model) => Ok(model),
            _ => self.download(version.key(), version.repository(), variant, on_progress),
        }
    }

    /// One file of a repository, from the cache where it is there, else downloaded into it. Blocks until it is there, and
    /// gives its path in the cache.
    ///
    /// # Errors
    /// As [`HubCache::fetch`].
    pub fn fetch_file(&self, file: &RepoFile, on_progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf> {
        let repo = file.repo();
        if let Some(path) = self.snapshot(repo).map(|(_, root)| root.join(file.path())).filter(|path| path.is_file()) {
            return Ok(path);
        }
        if self.settings.offline {
            return Err(self.offline(&repo.to_string(), file.path()));
        }
        let place = Place::Repo { cache_dir: self.settings.cache_dir.clone(), repo: repo.clone() };
        block_on(async {
            let (http, remote) = (NativeHttp::default(), self.remote()?);
            let wanted = remote.find_file(&http, file).await?;
            let done = self.bring(&http, &remote, place.clone(), wanted, on_progress).await?;
            Ok(place.finished(&done.commit, file.path()))
        })
    }

    /// The weights of a repository that has one file of them, as those of LoRAs do ([`Remote::find_only_file`]): from the
    /// cache where it has one, else downloaded into it.
    ///
    /// # Errors
    /// As [`HubCache::fetch`].
    pub fn fetch_only_file(&self, repo: &RepoId, on_progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf> {
        if let Some((_, root)) = self.snapshot(repo) {
            let listed = scan(&root)?;
            let paths: Vec<&str> = listed.iter().map(|file| file.path.as_str()).collect();
            if let Some(path) = only_file(&paths) {
                return Ok(root.join(path));
            }
        }
        if self.settings.offline {
            return Err(self.offline(&repo.to_string(), "its file of weights"));
        }
        let file = block_on(async { self.remote()?.find_only_file(&NativeHttp::default(), repo).await })?;
        self.fetch_file(&file, on_progress)
    }

    /// One file at an address, from the cache where it is there, else downloaded into it: resumed by ranges where the host
    /// has them, and verified by its length and the host's tag. Blocks until it is there, and gives its path. An address on
    /// the Hub is the repository's file ([`HubCache::fetch_file`]).
    ///
    /// # Errors
    /// [`Error::Hub`] that says what the host refuses or does not tell; [`Error::Io`] and [`Error::StoreFull`] where the
    /// cache cannot be written.
    pub fn fetch_url(&self, url: &FileUrl, on_progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf> {
        if let Some(file) = url.on_hub(&self.settings.endpoint) {
            return self.fetch_file(&file, on_progress);
        }
        let digest = &sha256_hex(url.as_str().as_bytes())[..16];
        // A port's colon is not allowed in a folder's name everywhere.
        let host = url.host().replace(':', "_");
        let folder = self.settings.assets_dir.join("darkroom").join(host).join(digest);
        if let Some(path) = finished_in(&folder) {
            return Ok(path);
        }
        if self.settings.offline {
            return Err(self.offline(&url.to_string(), "the file"));
        }
        let place = Place::Address(folder);
        block_on(async {
            let http = NativeHttp::default();
            let (attempts, base_ms) = LISTING_ATTEMPTS;
            let remote = Remote::address(url.clone()).with_retries(attempts, base_ms);
            let wanted = remote.find_address(&http).await?;
            let name = wanted.files[0].path.clone();
            let done = self.bring(&http, &remote, place.clone(), wanted, on_progress).await?;
            Ok(place.finished(&done.commit, &name))
        })
    }

    /// Downloads a model: a version's key or a repository, `repo` in messages.
    fn download(
        &self,
        name: &str,
        repo: &str,
        variant: &Variant,
        on_progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<CachedModel> {
        if self.settings.offline {
            let what = match variant {
                Variant::Named(name) => format!("the variant {name} of the model"),
                Variant::Plain => "the model in its plain files".to_owned(),
                _ => "the model".to_owned(),
            };
            return Err(self.offline(repo, &what));
        }
        let wanted_variant = if variant.is_asked_for() { variant } else { &Variant::Fp16First };
        let (repo, commit) = block_on(async {
            let (http, remote) = (NativeHttp::default(), self.remote()?);
            let wanted = remote.find(&http, name, wanted_variant).await?;
            let repo: RepoId = wanted.model.parse()?;
            let place = Place::Repo { cache_dir: self.settings.cache_dir.clone(), repo: repo.clone() };
            let done = self.bring(&http, &remote, place, wanted, on_progress).await?;
            Ok::<_, Error>((repo, done.commit))
        })?;
        let root = self.repo_folder(&repo).join("snapshots").join(&commit);
        self.complete(&repo, &commit, &root, variant)
    }

    /// Brings what is wanted to its place.
    async fn bring(
        &self,
        http: &NativeHttp,
        remote: &Remote,
        place: Place,
        wanted: Manifest,
        on_progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Manifest> {
        log::info!("downloading {} ({}) into {}", wanted.model, wanted.commit, place.folder().display());
        let store = CacheStore::new(place, wanted.clone())?;
        let (cancel, arrival, patience) = (Cancel::default(), Default::default(), self.patience);
        Download { http, store: &store, remote, cancel, patience, arrival }.run(wanted, on_progress).await
    }

    fn remote(&self) -> Result<Remote> {
        let (attempts, base_ms) = LISTING_ATTEMPTS;
        let remote = Remote::hub(&self.settings.endpoint, self.settings.token.as_deref())?;
        Ok(remote.with_advice(Advice::COMMAND_LINE).with_retries(attempts, base_ms))
    }

    fn offline(&self, repo: &str, what: &str) -> Error {
        let reason = format!(
            "{what} is not complete in {} and HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids to download it: unset that{}",
            self.settings.cache_dir.display(),
            Advice::COMMAND_LINE.otherwise
        );
        Error::Hub { repo: repo.to_owned(), reason }
    }

    /// Where the cache keeps everything of a repository.
    fn repo_folder(&self, repo: &RepoId) -> PathBuf {
        Place::Repo { cache_dir: self.settings.cache_dir.clone(), repo: repo.clone() }.folder()
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

/// The complete file in the folder of an address.
fn finished_in(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries.filter_map(|entry| Some(entry.ok()?.path())).find(|path| path.is_file() && !is_partial(path))
}
