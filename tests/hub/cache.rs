//! The Hugging Face cache, and downloads into it from a Hub that is a thread.

use std::collections::HashMap;

use darkroom::hub::Variant;
use darkroom::hub::cache::{CacheState, CachedModel, HubCache, HubSettings};
use darkroom::hub::download::Patience;
use darkroom::model::version::SDVersion;

use super::hub_server::{self, Fault, Hub, emoji_files};
use super::*;

/// No variant is asked for.
const ANY: Variant = Variant::PlainFirst;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The settings of an environment that has only `HF_HOME` and `HF_ENDPOINT`, and `more`.
fn settings(home: &Path, endpoint: &str, more: &[(&str, &str)]) -> HubSettings {
    let mut variables: HashMap<String, String> =
        more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    variables.insert("HF_HOME".to_owned(), home.display().to_string());
    variables.insert("HF_ENDPOINT".to_owned(), endpoint.to_owned());
    HubSettings::from_variables(&|name| variables.get(name).cloned(), None).unwrap()
}

/// The demo model on a Hub, under [`hub_server::REPO`].
fn hub() -> Hub {
    Hub::start(emoji_files())
}

/// Waits that a test can afford.
const PATIENCE: Patience = Patience { n_parallel: 3, max_attempts: 4, base_ms: 5, max_ms: 40, stall_ms: 60_000 };

/// An endpoint where nobody listens.
const NOBODY: &str = "http://127.0.0.1:9";

fn files_of(root: &Path) -> Vec<String> {
    Folder::open(root).unwrap().files().unwrap().into_iter().map(|file| file.path).collect()
}

/// Writes the demo model into the cache as Python does, less what `leave_out` says: bytes under `blobs`, links to
/// them in a snapshot, and the branch's commit in `refs`.
fn fill(home: &Path, repo: &str, leave_out: &str) -> PathBuf {
    let folder = home.join("hub").join(format!("models--{}", repo.replace('/', "--")));
    let snapshot = folder.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(folder.join("blobs")).unwrap();
    std::fs::create_dir_all(folder.join("refs")).unwrap();
    for (idx, path) in files_of(&demo_model()).into_iter().filter(|path| path != leave_out).enumerate() {
        let (blob, pointer) = (folder.join("blobs").join(format!("{idx:040x}")), snapshot.join(&path));
        std::fs::copy(demo_model().join(&path), &blob).unwrap();
        std::fs::create_dir_all(pointer.parent().unwrap()).unwrap();
        link(&blob, &pointer);
    }
    std::fs::write(folder.join("refs/main"), COMMIT).unwrap();
    snapshot
}

#[cfg(unix)]
fn link(blob: &Path, pointer: &Path) {
    std::os::unix::fs::symlink(blob, pointer).unwrap();
}

#[cfg(not(unix))]
fn link(blob: &Path, pointer: &Path) {
    std::fs::copy(blob, pointer).unwrap();
}

fn complete(state: CacheState) -> CachedModel {
    match state {
        CacheState::Complete(model) => model,
        other => panic!("the model is {other:?}"),
    }
}

#[test]
fn a_complete_model_needs_no_network() {
    let home = tempfile::tempdir().unwrap();
    let snapshot = fill(home.path(), "owner/repo", "");
    for offline in ["0", "1"] {
        let cache = HubCache::new(settings(home.path(), NOBODY, &[("HF_HUB_OFFLINE", offline)]));
        let model = cache.fetch(&"owner/repo".parse().unwrap(), &ANY, &mut |_| panic!("no download")).unwrap();
        assert_eq!((model.commit.as_str(), model.folder.root()), (COMMIT, snapshot.as_path()));
        let n_bytes: u64 = model.folder.files().unwrap().iter().filter_map(|file| file.bytes).sum();
        assert!(model.bytes == n_bytes && n_bytes > 20_000_000, "{n_bytes}");
        assert_eq!(model.folder.describe(), "owner/repo in the Hugging Face cache");
    }
    let cache = HubCache::new(settings(home.path(), NOBODY, &[]));
    // A commit is found without a reference; another branch is not there.
    complete(cache.state(&format!("owner/repo@{COMMIT}").parse().unwrap(), &ANY).unwrap());
    assert!(matches!(cache.state(&"owner/repo@fp16".parse().unwrap(), &ANY).unwrap(), CacheState::Absent));
}

#[test]
fn a_reference_cannot_lead_out_of_the_cache() {
    let home = tempfile::tempdir().unwrap();
    let snapshot = fill(home.path(), "owner/repo", "");
    let cache = HubCache::new(settings(home.path(), NOBODY, &[]));
    for commit in ["", "..", "../snapshots", "/", "absent"] {
        std::fs::write(snapshot.join("../../refs/main"), commit).unwrap();
        let state = cache.state(&"owner/repo".parse().unwrap(), &ANY).unwrap();
        assert!(matches!(state, CacheState::Absent), "{commit:?}: {state:?}");
    }
}

#[test]
fn versions_are_found_in_their_own_repository_or_a_fallback() {
    let home = tempfile::tempdir().unwrap();
    let cache = HubCache::new(settings(home.path(), NOBODY, &[]));
    assert!(matches!(cache.version_state(SDVersion::V1_5, &ANY).unwrap(), CacheState::Absent));
    fill(home.path(), SDVersion::V1_5.repository(), "vae/diffusion_pytorch_model.fp16.safetensors");
    match cache.version_state(SDVersion::V1_5, &ANY).unwrap() {
        CacheState::Partial(bytes) => assert!((10_000_000..20_000_000).contains(&bytes), "{bytes}"),
        other => panic!("the model is {other:?}"),
    }
    let fallback = SDVersion::V1_5.fallback_repositories()[0];
    fill(home.path(), fallback, "");
    let model = cache.fetch_version(SDVersion::V1_5, &ANY, &mut |_| panic!("no download")).unwrap();
    assert_eq!(model.repo.to_string(), fallback);
    assert!(matches!(cache.version_state(SDVersion::Xl, &ANY).unwrap(), CacheState::Absent));
}

#[test]
fn without_a_network_the_message_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let repo: RepoId = "owner/repo".parse().unwrap();
    let mut ignore = |_: darkroom::hub::cache::Progress<'_>| {};
    let said = message(HubCache::new(settings(home.path(), NOBODY, &[])).fetch(&repo, &ANY, &mut ignore));
    for part in ["owner/repo: http://127.0.0.1:9 cannot be reached", "HF_ENDPOINT", "path of a folder"] {
        assert!(said.contains(part), "{said}");
    }
    let offline = settings(home.path(), NOBODY, &[("HF_HUB_OFFLINE", "1")]);
    let said = message(HubCache::new(offline).fetch_version(SDVersion::Xl, &ANY, &mut ignore));
    assert!(said.starts_with(SDVersion::Xl.repository()) && said.contains("HF_HUB_OFFLINE"), "{said}");
}

#[test]
fn a_download_ends_in_the_cache_and_tells_how_far_it_is() {
    let home = tempfile::tempdir().unwrap();
    let hub = hub();
    let cache = HubCache::new(settings(home.path(), &hub.endpoint, &[("HF_TOKEN", "hf_secret")]));
    let repo: RepoId = "owner/repo".parse().unwrap();
    let (mut last, mut total, mut n_calls) = (0, 0, 0);
    let model = cache
        .fetch(&repo, &ANY, &mut |progress| {
            assert!(progress.loaded_bytes >= last && progress.loaded_bytes <= progress.total_bytes, "{progress:?}");
            (last, total, n_calls) = (progress.loaded_bytes, progress.total_bytes, n_calls + 1);
        })
        .unwrap();
    assert!(last == total && n_calls > 10, "{last} of {total} in {n_calls} calls");
    assert_eq!(model.bytes, total);
    assert_eq!(files_of(model.folder.root()), files_of(&demo_model()));
    for path in files_of(&demo_model()) {
        let same =
            std::fs::read(model.folder.root().join(&path)).unwrap() == std::fs::read(demo_model().join(&path)).unwrap();
        assert!(same, "{path}");
    }
    // Files that the model does not need stay where they are, and the token is sent.
    assert!(hub.requests().iter().all(|request| !request.path.contains("README")));
    assert!(hub.requests().iter().any(|request| request.authorization.as_deref() == Some("Bearer hf_secret")));
    assert_laid_out_as_by_python(home.path(), &model);
    let n_requests = hub.requests().len();
    cache.fetch(&repo, &ANY, &mut |_| panic!("no download")).unwrap();
    assert_eq!(hub.requests().len(), n_requests, "a complete model makes no request");

    // What is lost is fetched again, and only that.
    let lost = model.folder.root().join("vae/config.json");
    std::fs::remove_file(std::fs::canonicalize(&lost).unwrap()).unwrap();
    let _ = std::fs::remove_file(&lost);
    let mut fetched = Vec::new();
    cache.fetch(&repo, &ANY, &mut |progress| fetched.push(progress.path.to_owned())).unwrap();
    fetched.dedup();
    assert_eq!(fetched, ["vae/config.json"]);
}

/// Contents by the Hub's tags, relative links to them, the branch's commit, and nothing that is not complete.
fn assert_laid_out_as_by_python(home: &Path, model: &CachedModel) {
    let repo = home.join("hub/models--owner--repo");
    assert_eq!(model.folder.root(), repo.join("snapshots").join(hub_server::COMMIT));
    assert_eq!(std::fs::read_to_string(repo.join("refs/main")).unwrap(), hub_server::COMMIT);
    let unet = "unet/diffusion_pytorch_model.fp16.safetensors";
    let digest = darkroom::store::sha256_hex(&std::fs::read(demo_model().join(unet)).unwrap());
    for (path, tag) in [("unet/config.json", hub_server::git_oid("unet/config.json")), (unet, digest)] {
        let place = model.folder.root().join(path);
        assert_eq!(std::fs::canonicalize(&place).unwrap(), repo.join("blobs").join(&tag).canonicalize().unwrap());
        if cfg!(unix) {
            assert_eq!(std::fs::read_link(&place).unwrap(), Path::new("../../../blobs").join(tag));
        }
    }
    let blobs: Vec<_> = std::fs::read_dir(repo.join("blobs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(blobs.len(), files_of(model.folder.root()).len());
    assert!(blobs.iter().all(|blob| blob.extension().is_none()), "{blobs:?}");
}

#[test]
fn a_broken_transfer_is_resumed() {
    let (home, hub) = (tempfile::tempdir().unwrap(), hub());
    hub.order("/cdn/unet", Fault::Cut(500_000), 2);
    let cache = HubCache::new(settings(home.path(), &hub.endpoint, &[])).with_patience(PATIENCE);
    let model = cache.fetch(&"owner/repo".parse().unwrap(), &ANY, &mut |_| {}).unwrap();
    let path = "unet/diffusion_pytorch_model.fp16.safetensors";
    assert!(std::fs::read(model.folder.root().join(path)).unwrap() == std::fs::read(demo_model().join(path)).unwrap());
    let starts =
        hub.requests().into_iter().filter(|request| request.path.starts_with("/cdn/unet")).filter_map(|r| r.range);
    assert_eq!(starts.filter(|(start, _)| start % CHUNK == 500_000).count(), 2);
}

const CHUNK: usize = darkroom::store::CHUNK_BYTES as usize;

/// Kills `darkroom download` when some chunks have come, and lets it go on.
#[test]
fn a_killed_download_goes_on_where_it_was() {
    let (home, hub) = (tempfile::tempdir().unwrap(), Hub::start(hub_server::model(8 * CHUNK)));
    hub.order(hub_server::UNET, Fault::Throttle(20), usize::MAX);
    let download = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_darkroom"));
        command.args(["download", "owner/repo"]).env("HF_HOME", home.path()).env("HF_ENDPOINT", &hub.endpoint);
        command
    };
    let mut child = download().spawn().unwrap();
    let blobs = home.path().join("hub/models--owner--repo/blobs");
    let digest = darkroom::store::sha256_hex(hub.file(hub_server::UNET));
    let journal = blobs.join(format!("{digest}.darkroom.chunks.incomplete"));
    let n_chunks = || std::fs::read_to_string(&journal).map_or(0, |text| text.lines().filter(|l| l.len() > 60).count());
    while n_chunks() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "the download ended too early");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!blobs.join(&digest).exists());
    let n_kept = n_chunks();
    assert!(n_kept < 8, "{n_kept}");
    hub.behave();
    hub.wait_until_quiet();
    hub.take_body_bytes();
    let done = download().arg("-v").output().unwrap();
    assert!(done.status.success());
    let told = String::from_utf8(done.stderr).unwrap();
    assert!(told.contains("darkroom: downloading owner/repo") && told.contains(" MB to download"), "{told}");
    let rest = (8 - n_kept) * CHUNK + CHUNK;
    // The VAE has one chunk; the index is read anew to know what to download.
    let index = hub.file("model_index.json").len();
    let texts: usize = ["vae/config.json"].iter().map(|path| hub.file(path).len()).sum();
    assert!(hub.take_body_bytes() <= rest + index + texts, "what was there came again");
    assert!(std::fs::read(blobs.join(digest)).unwrap() == hub.file(hub_server::UNET));
}

#[test]
fn a_content_that_another_commit_brought_is_not_downloaded_again() {
    let (home, hub) = (tempfile::tempdir().unwrap(), hub());
    let cache = HubCache::new(settings(home.path(), &hub.endpoint, &[]));
    let repo: RepoId = "owner/repo".parse().unwrap();
    cache.fetch(&repo, &ANY, &mut |_| {}).unwrap();
    let folder = home.path().join("hub/models--owner--repo");
    std::fs::remove_dir_all(folder.join("snapshots")).unwrap();
    hub.take_body_bytes();
    let model = cache.fetch(&repo, &ANY, &mut |_| {}).unwrap();
    assert_eq!(hub.take_body_bytes(), hub.file("model_index.json").len());
    assert_eq!(files_of(model.folder.root()), files_of(&demo_model()));
}

#[test]
fn damage_in_what_a_killed_download_left_is_found() {
    let (home, hub) = (tempfile::tempdir().unwrap(), hub());
    let blobs = home.path().join("hub/models--owner--repo/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let path = "vae/diffusion_pytorch_model.fp16.safetensors";
    let (bytes, n_bytes) = (hub.file(path), hub.file(path).len());
    let digest = darkroom::store::sha256_hex(bytes);
    // A journal that says that the first chunk is there, and zeros in its place.
    let first = darkroom::store::sha256_hex(&bytes[..CHUNK.min(n_bytes)]);
    std::fs::write(blobs.join(format!("{digest}.darkroom.incomplete")), vec![0; n_bytes]).unwrap();
    std::fs::write(blobs.join(format!("{digest}.darkroom.chunks.incomplete")), format!("bytes {n_bytes}\n0 {first}\n"))
        .unwrap();
    let cache = HubCache::new(settings(home.path(), &hub.endpoint, &[]));
    let model = cache.fetch(&"owner/repo".parse().unwrap(), &ANY, &mut |_| {}).unwrap();
    assert!(std::fs::read(model.folder.root().join(path)).unwrap() == bytes);
}

#[test]
fn a_file_of_other_length_or_content_than_listed_does_not_stay() {
    let path = "vae/diffusion_pytorch_model.fp16.safetensors";
    for corrupt in [false, true] {
        let (home, hub) = (tempfile::tempdir().unwrap(), hub());
        if corrupt {
            hub.order(path, Fault::Corrupt, usize::MAX);
        } else {
            hub.list_wrong_length_of("vae/config.json");
        }
        let cache = HubCache::new(settings(home.path(), &hub.endpoint, &[])).with_patience(PATIENCE);
        let said = message(cache.fetch(&"owner/repo".parse().unwrap(), &ANY, &mut |_| {}));
        let expected =
            if corrupt { "with other content than published" } else { "vae/config.json: the transfer ended" };
        assert!(said.contains(expected), "{said}");
        let snapshot = home.path().join("hub/models--owner--repo/snapshots").join(hub_server::COMMIT);
        assert!(snapshot.join("model_index.json").is_file());
        let lost = if corrupt { path } else { "vae/config.json" };
        assert!(snapshot.join(lost).symlink_metadata().is_err());
    }
}

#[test]
fn refusals_say_what_to_do() {
    let (api, resolve) = ("/api/models/", "/resolve/");
    let cases = [
        (api, 401, vec![], vec!["asks for a login", "HF_TOKEN", "licence"]),
        (resolve, 403, vec![("HF_TOKEN", "hf_x")], vec!["refuses access (403)", "gated", "token", "path of a folder"]),
        (resolve, 401, vec![], vec!["asks for a login", "gated"]),
        (api, 404, vec![], vec!["no such repository", "spelling"]),
        (api, 429, vec![], vec!["too many requests"]),
        (api, 500, vec![], vec!["HTTP status 500"]),
    ];
    for (what, status, variables, parts) in cases {
        let (home, hub) = (tempfile::tempdir().unwrap(), hub());
        hub.order(what, Fault::Status(status, "X-Nothing: 0"), usize::MAX);
        let cache = HubCache::new(settings(home.path(), &hub.endpoint, &variables)).with_patience(PATIENCE);
        let said = message(cache.fetch(&"owner/repo".parse().unwrap(), &ANY, &mut |_| {}));
        assert!(said.starts_with("owner/repo: "), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?}: {said}");
        assert!(!said.contains("hf_x"), "a token in a message: {said}");
    }
}

#[test]
fn a_version_that_was_withdrawn_is_had_from_its_fallback() {
    let home = tempfile::tempdir().unwrap();
    let fallback = SDVersion::V2_1.fallback_repositories()[0];
    let hub = Hub::start_as(fallback, emoji_files());
    let cache = HubCache::new(settings(home.path(), &hub.endpoint, &[]));
    let model = cache.fetch_version(SDVersion::V2_1, &ANY, &mut |_| {}).unwrap();
    assert_eq!(model.repo.to_string(), fallback);

    let said = message(cache.fetch_version(SDVersion::V1_5, &ANY, &mut |_| {}));
    assert!(said.starts_with(SDVersion::V1_5.repository()), "{said}");
    assert!(said.contains(SDVersion::V1_5.fallback_repositories()[0]), "{said}");
}

#[test]
fn a_variant_that_the_cache_lacks_is_asked_for_and_nothing_else_is_taken() {
    let home = tempfile::tempdir().unwrap();
    let snapshot = fill(home.path(), "owner/repo", "");
    let repo: RepoId = "owner/repo".parse().unwrap();
    let offline = HubCache::new(settings(home.path(), NOBODY, &[("HF_HUB_OFFLINE", "1")]));
    assert!(offline.fetch(&repo, &ANY, &mut |_| {}).unwrap().f16);
    assert!(offline.fetch(&repo, &Variant::Named("fp16".to_owned()), &mut |_| {}).unwrap().f16);
    let said = message(offline.fetch(&repo, &Variant::Plain, &mut |_| {}));
    assert!(said.contains("in its plain files") && said.contains("HF_HUB_OFFLINE"), "{said}");
    let said = message(offline.fetch(&repo, &Variant::Named("bf16".to_owned()), &mut |_| {}));
    assert!(said.contains("the variant bf16"), "{said}");

    // A plain file that appears in the cache wins, unless a variant is asked for.
    let unet = snapshot.join("unet/diffusion_pytorch_model.safetensors");
    std::fs::copy(snapshot.join("unet/diffusion_pytorch_model.fp16.safetensors"), &unet).unwrap();
    let unet_of = |variant: &Variant| {
        let files = offline.fetch(&repo, variant, &mut |_| {}).unwrap().folder.files().unwrap();
        files.into_iter().find(|file| file.is_weights() && file.component == Component::Unet).unwrap().f16
    };
    assert!(!unet_of(&ANY) && unet_of(&Variant::Named("fp16".to_owned())));

    let (home, hub) = (tempfile::tempdir().unwrap(), hub());
    fill(home.path(), "owner/repo", "");
    let cache = HubCache::new(settings(home.path(), &hub.endpoint, &[]));
    let said = message(cache.fetch(&repo, &Variant::Plain, &mut |_| {}));
    assert!(
        said.contains("no component has plain files") && !hub.requests().is_empty(),
        "the Hub was asked, and has none: {said}"
    );
}

#[test]
fn settings_of_the_environment() {
    let read = |variables: &[(&str, &str)], home: Option<&str>| {
        let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        HubSettings::from_variables(&lookup, home.map(PathBuf::from))
    };
    let place = |variables: &[(&str, &str)]| read(variables, Some("/home/x")).unwrap().cache_dir;
    assert_eq!(place(&[]), Path::new("/home/x/.cache/huggingface/hub"));
    assert_eq!(place(&[("XDG_CACHE_HOME", "/c")]), Path::new("/c/huggingface/hub"));
    assert_eq!(place(&[("XDG_CACHE_HOME", "/c"), ("HF_HOME", "/h")]), Path::new("/h/hub"));
    assert_eq!(place(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/k")]), Path::new("/k"));
    assert!(place(&[("HF_HOME", "relative")]).is_absolute());
    assert!(message(read(&[], None)).contains("HF_HOME"));

    let defaults = read(&[("HF_HOME", " "), ("HF_TOKEN", "")], Some("/home/x")).unwrap();
    assert_eq!((defaults.endpoint.as_str(), defaults.token, defaults.offline), ("https://huggingface.co", None, false));
    let mirror =
        read(&[("HF_ENDPOINT", "https://mirror.example/ "), ("HF_TOKEN", " hf_1\n")], Some("/home/x")).unwrap();
    assert_eq!(mirror.endpoint, "https://mirror.example");
    assert_eq!(mirror.token.as_deref(), Some("hf_1"));
    assert!(!format!("{mirror:?}").contains("hf_1"), "a token in a log");
    assert!(message(read(&[("HF_ENDPOINT", "mirror.example")], Some("/home/x"))).contains("https://"));

    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("token"), "hf_saved\n").unwrap();
    assert_eq!(settings(home.path(), NOBODY, &[]).token.as_deref(), Some("hf_saved"));
    assert_eq!(settings(home.path(), NOBODY, &[("HF_TOKEN", "hf_2")]).token.as_deref(), Some("hf_2"));
}

#[test]
fn settings_are_read_as_huggingface_hub_reads_them() {
    let read = |variables: &[(&str, &str)]| {
        let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        HubSettings::from_variables(&lookup, Some(PathBuf::from("/home/x")))
    };
    let place = |variables: &[(&str, &str)]| read(variables).unwrap().cache_dir.display().to_string();
    for (variables, expected) in [
        (&[("HF_HOME", "~/models")][..], "/home/x/models/hub"),
        (&[("HF_HOME", "~")][..], "/home/x/hub"),
        (&[("HF_HOME", "$HOME/models")][..], "/home/x/models/hub"),
        (&[("HF_HOME", "${HOME}/m"), ("HOME", "/h")][..], "/h/m/hub"),
        (&[("HF_HOME", "$DATA/$USER-hf"), ("DATA", "/d"), ("USER", "u")][..], "/d/u-hf/hub"),
        (&[("HF_HOME", "/a~b/$5"), ("5", "five")][..], "/a~b/five/hub"),
        (&[("XDG_CACHE_HOME", "~/c")][..], "/home/x/c/huggingface/hub"),
        (&[("HF_HUB_CACHE", "$HOME/k"), ("HF_HOME", "/h")][..], "/home/x/k"),
        (&[("HUGGINGFACE_HUB_CACHE", "~/k"), ("HF_HOME", "/h")][..], "/home/x/k"),
        (&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/new")][..], "/new"),
        (&[("HF_HOME", "/a/$")][..], "/a/$/hub"),
    ] {
        assert_eq!(place(variables), expected, "{variables:?}");
    }
    let assets = |variables: &[(&str, &str)]| read(variables).unwrap().assets_dir.display().to_string();
    for (variables, expected) in [
        (&[][..], "/home/x/.cache/huggingface/assets"),
        (&[("HF_HOME", "/h")][..], "/h/assets"),
        (&[("HUGGINGFACE_ASSETS_CACHE", "~/old")][..], "/home/x/old"),
        (&[("HUGGINGFACE_ASSETS_CACHE", "/old"), ("HF_ASSETS_CACHE", "/new"), ("HF_HOME", "/h")][..], "/new"),
    ] {
        assert_eq!(assets(variables), expected, "{variables:?}");
    }
    // Nothing that stays as it is would be a folder called ~ or $DATA.
    for (variables, words) in [
        (&[("HF_HOME", "~other/m")][..], "own home folder"),
        (&[("HF_HUB_CACHE", "$DATA/m")][..], "the variable DATA is not set"),
        (&[("HF_TOKEN_PATH", "${DATA}/m")][..], "the variable DATA is not set"),
    ] {
        let said = message(read(variables));
        assert!(said.contains(variables[0].0) && said.contains(words), "{said}");
    }

    let token = |variables: &[(&str, &str)]| read(variables).unwrap().token;
    assert_eq!(token(&[("HUGGING_FACE_HUB_TOKEN", "old")]).as_deref(), Some("old"));
    assert_eq!(token(&[("HUGGING_FACE_HUB_TOKEN", "old"), ("HF_TOKEN", "new")]).as_deref(), Some("new"));
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("t"), "saved\n").unwrap();
    let home = home.path().display().to_string();
    assert_eq!(token(&[("HF_TOKEN_PATH", "$D/t"), ("D", &home)]).as_deref(), Some("saved"));

    let offline = |variables: &[(&str, &str)]| read(variables).unwrap().offline;
    for yes in ["1", "on", "YES", "True"] {
        assert!(offline(&[("HF_HUB_OFFLINE", yes)]) && offline(&[("TRANSFORMERS_OFFLINE", yes)]), "{yes}");
    }
    for no in ["0", "off", "no", "false", "2"] {
        assert!(!offline(&[("HF_HUB_OFFLINE", no), ("TRANSFORMERS_OFFLINE", "1")]), "{no}");
    }
    assert!(offline(&[("HF_HUB_OFFLINE", ""), ("TRANSFORMERS_OFFLINE", "1")]));
}

#[test]
fn a_revision_may_have_slashes() {
    let home = tempfile::tempdir().unwrap();
    let snapshot = fill(home.path(), "owner/repo", "");
    let refs = snapshot.join("../../refs");
    std::fs::create_dir_all(refs.join("refs/pr")).unwrap();
    std::fs::rename(refs.join("main"), refs.join("refs/pr/7")).unwrap();
    let cache = HubCache::new(settings(home.path(), NOBODY, &[]));
    complete(cache.state(&"owner/repo@refs/pr/7".parse().unwrap(), &ANY).unwrap());
    assert!(matches!(cache.state(&"owner/repo".parse().unwrap(), &ANY).unwrap(), CacheState::Absent));
}

#[test]
fn downloads_may_run_on_another_thread() {
    let home = tempfile::tempdir().unwrap();
    let hub = hub();
    let cache = HubCache::new(settings(home.path(), &hub.endpoint, &[]));
    let done = std::thread::spawn(move || cache.fetch(&"owner/repo".parse().unwrap(), &ANY, &mut |_| {}).is_ok());
    assert!(done.join().unwrap());
}
