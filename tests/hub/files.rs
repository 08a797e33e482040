//! Single files of repositories and at addresses, downloaded into their places in the cache.

use std::collections::HashMap;

use darkroom::hub::Variant;
use darkroom::hub::address::{FileUrl, RepoFile};
use darkroom::hub::cache::{HubCache, HubSettings};
use darkroom::hub::download::Patience;
use darkroom::store::sha256_hex;

use super::hub_server::{COMMIT, Fault, Hub, UNET, model};
use super::*;

const CHUNK: usize = darkroom::store::CHUNK_BYTES as usize;
const UNET_BYTES: usize = 2 * CHUNK + 77;

/// A Hub that also has its files at plain addresses, and a cache.
struct Rig {
    home: tempfile::TempDir,
    hub: Hub,
}

impl Rig {
    fn new() -> Self {
        Rig { home: tempfile::tempdir().unwrap(), hub: Hub::start(model(UNET_BYTES)) }
    }

    fn cache(&self, more: &[(&str, &str)]) -> HubCache {
        let home = self.home.path().display().to_string();
        let mut variables = HashMap::from([("HF_HOME", home.as_str()), ("HF_ENDPOINT", &self.hub.endpoint)]);
        variables.extend(more.iter().copied());
        let patience = Patience { n_parallel: 3, max_attempts: 4, base_ms: 5, max_ms: 40, stall_ms: 60_000 };
        HubCache::new(
            HubSettings::from_variables(&|name| variables.get(name).map(|value| (*value).to_owned()), None).unwrap(),
        )
        .with_patience(patience)
    }

    fn file(&self, text: &str) -> Result<PathBuf> {
        self.cache(&[]).fetch_file(&text.parse::<RepoFile>()?, &mut |_| {})
    }

    fn url(&self, path: &str) -> Result<PathBuf> {
        self.cache(&[]).fetch_url(&format!("{}{path}", self.hub.endpoint).parse::<FileUrl>()?, &mut |_| {})
    }

    fn n_requests(&self) -> usize {
        self.hub.requests().len()
    }

    /// Whether nothing is left but what is complete.
    fn has_no_parts(&self, folder: &Path) -> bool {
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "lock.incomplete").all(|name| !name.contains("incomplete"))
    }
}

#[test]
fn a_file_of_a_repository_lies_in_its_snapshot() {
    let rig = Rig::new();
    let snapshot = rig.home.path().join("hub/models--owner--repo/snapshots").join(COMMIT);
    for name in [format!("owner/repo/{UNET}"), format!("owner/repo@main/{UNET}")] {
        let path = rig.file(&name).unwrap();
        assert_eq!(path, snapshot.join(UNET));
        assert!(std::fs::read(&path).unwrap() == rig.hub.file(UNET));
    }
    assert!(!snapshot.join("model_index.json").exists());
    let n_requests = rig.n_requests();
    rig.file(&format!("owner/repo/{UNET}")).unwrap();
    assert_eq!(rig.n_requests(), n_requests, "a file that is there makes no request");
    // An address on the Hub is the same file.
    assert_eq!(rig.url(&format!("/owner/repo/blob/main/{UNET}?download=true")).unwrap(), snapshot.join(UNET));
    assert_eq!(rig.n_requests(), n_requests);
    assert!(rig.has_no_parts(&rig.home.path().join("hub/models--owner--repo/blobs")));

    let said = message(rig.file("owner/repo/absent.safetensors"));
    assert!(said.contains("has no file absent.safetensors: it has text_encoder/model.fp16.safetensors"), "{said}");
    let offline = rig.cache(&[("HF_HUB_OFFLINE", "1")]);
    offline.fetch_file(&format!("owner/repo/{UNET}").parse().unwrap(), &mut |_| {}).unwrap();
    let said = message(offline.fetch_file(&"owner/repo/vae/config.json".parse().unwrap(), &mut |_| {}));
    assert!(said.contains("HF_HUB_OFFLINE"), "{said}");
}

#[test]
fn a_repository_without_a_model_index_lists_its_files() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::start(vec![("v1.safetensors".to_owned(), vec![1; 9]), ("README.md".to_owned(), vec![])]);
    let rig = Rig { home, hub };
    let said = message(rig.cache(&[]).fetch(&"owner/repo".parse().unwrap(), &Variant::PlainFirst, &mut |_| {}));
    assert!(said.contains("no model_index.json") && said.contains("owner/repo/v1.safetensors"), "{said}");
}

#[test]
fn a_file_at_an_address_lies_among_the_assets() {
    let rig = Rig::new();
    let url = format!("{}/files/{UNET}?token=secret", rig.hub.endpoint);
    let path = rig.url(&format!("/files/{UNET}?token=secret")).unwrap();
    let host = rig.hub.endpoint.strip_prefix("http://").unwrap().replace(':', "_");
    let folder = rig.home.path().join("assets/darkroom").join(host).join(&sha256_hex(url.as_bytes())[..16]);
    assert_eq!(path, folder.join("diffusion_pytorch_model.fp16.safetensors"));
    assert!(std::fs::read(&path).unwrap() == rig.hub.file(UNET));
    assert!(rig.has_no_parts(&folder));
    let n_requests = rig.n_requests();
    assert_eq!(rig.url(&format!("/files/{UNET}?token=secret")).unwrap(), path);
    assert_eq!(rig.n_requests(), n_requests, "a file that is there makes no request");
    // Ranges were in flight, each once, behind one request for the length.
    let ranges: Vec<_> = rig.hub.requests().into_iter().filter_map(|request| request.range).collect();
    assert_eq!(ranges.len(), 1 + 3, "{ranges:?}");

    // The name that only a header tells.
    let path = rig.url("/download/vae/diffusion_pytorch_model.fp16.safetensors?type=Model").unwrap();
    assert_eq!(path.file_name().unwrap(), "diffusion_pytorch_model.fp16.safetensors");
}

#[test]
fn a_file_at_an_address_is_resumed_and_verified() {
    for fault in [Fault::Cut(1_000_000), Fault::Reset, Fault::Short(1), Fault::Etag, Fault::NoRange] {
        let rig = Rig::new();
        // After the request for the length.
        rig.hub.order("/files/", Fault::Delay(0), 1);
        rig.hub.order("/files/", fault.clone(), if fault == Fault::NoRange { usize::MAX } else { 2 });
        let path = rig.url(&format!("/files/{UNET}")).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert!(std::fs::read(&path).unwrap() == rig.hub.file(UNET), "{fault:?}");
    }
    // What came is kept for the next run, under the tag that it came with.
    let rig = Rig::new();
    rig.hub.order("/files/", Fault::Delay(0), 2);
    rig.hub.order("/files/", Fault::Reset, usize::MAX);
    // One request at a time: the first chunk is there before the second fails.
    let patience = Patience { n_parallel: 1, max_attempts: 2, base_ms: 5, max_ms: 40, stall_ms: 60_000 };
    let url: FileUrl = format!("{}/files/{UNET}", rig.hub.endpoint).parse().unwrap();
    let said = message(rig.cache(&[]).with_patience(patience).fetch_url(&url, &mut |_| {}));
    assert!(said.contains("what came is kept"), "{said}");
    rig.hub.behave();
    rig.hub.wait_until_quiet();
    rig.hub.take_body_bytes();
    let path = rig.url(&format!("/files/{UNET}")).unwrap();
    assert!(rig.hub.take_body_bytes() <= UNET_BYTES - CHUNK + 77 + 1, "the first chunk came again");
    assert!(std::fs::read(path).unwrap() == rig.hub.file(UNET));
}

#[test]
fn refusals_of_addresses_are_one_line() {
    let rig = Rig::new();
    for (path, part) in [("/files/absent.safetensors", "has no such file (404)"), ("/nothing", "(404)")] {
        let said = message(rig.url(path));
        assert!(said.contains(part) && !said.contains('\n'), "{said}");
    }
    rig.hub.order("/files/", Fault::Status(403, "X-Nothing: 0"), 1);
    let said = message(rig.url(&format!("/files/{UNET}?token=secret")));
    assert!(said.contains("refuses the file (403)") && !said.contains("secret"), "{said}");
    rig.hub.order("/files/", Fault::Html("text/html"), 1);
    let said = message(rig.url(&format!("/files/{UNET}")));
    assert!(said.contains("no such file"), "{said}");
    let nobody: FileUrl = "http://127.0.0.1:9/x.safetensors".parse().unwrap();
    let said = message(rig.cache(&[]).fetch_url(&nobody, &mut |_| {}));
    assert!(said.contains("http://127.0.0.1:9 cannot be reached") && said.contains("check the address"), "{said}");
    let said = message(rig.cache(&[("HF_HUB_OFFLINE", "1")]).fetch_url(&nobody, &mut |_| {}));
    assert!(said.contains("HF_HUB_OFFLINE"), "{said}");
}
