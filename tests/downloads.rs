//! Downloads from a Hub that misbehaves, into memory: after every fault nothing that was verified is lost, and in the end
//! the model is bit for bit what the Hub has. tests/hub/ does the same into the Hugging Face cache.
#![cfg(all(not(target_arch = "wasm32"), feature = "cli"))]

#[allow(dead_code, reason = "the browser's tests use the rest of it")]
mod hub_server;
mod memory_store;

use std::rc::Rc;
use std::time::{Duration, Instant};

use darkroom::hub::arrival::Arrival;
use darkroom::hub::download::{Download, Patience, missing_bytes};
use darkroom::hub::http::{Cancel, all};
use darkroom::hub::native::NativeHttp;
use darkroom::hub::remote::Remote;
use darkroom::hub::stored::{StoredModel, import, verify};
use darkroom::hub::{Source, Variant, published};
use darkroom::pipeline::{Event, Generation, Inputs, ModelComponents, ModelLoader, Residency};
use darkroom::request::SDConfig;
use darkroom::run::candle::{CandleRunner, Precision};
use darkroom::store::{CHUNK_BYTES, Manifest, Store};
use darkroom::weights::{ByteSource, MemorySource};
use darkroom::{Error, Result};
use hub_server::{Fault, Hub, REPO, UNET, emoji_files, model, needed_bytes};
use memory_store::MemoryStore;
use pollster::block_on;

const CHUNK: usize = CHUNK_BYTES as usize;
/// Five chunks, the last one short.
const UNET_BYTES: usize = 4 * CHUNK + 123_457;

/// A busy machine is silent for a moment, not for this long.
const STALL_MS: u64 = 60_000;

/// A Hub and a store that knows nothing yet.
struct Rig {
    hub: Hub,
    remote: Remote,
    http: NativeHttp,
    store: Rc<dyn Store>,
    arrival: Rc<Arrival>,
    /// How long a transfer may be silent.
    stall_ms: u64,
}

impl Rig {
    fn new() -> Self {
        Rig::of(model(UNET_BYTES), Rc::new(MemoryStore::new()))
    }

    fn of(files: Vec<(String, Vec<u8>)>, store: Rc<dyn Store>) -> Self {
        let hub = Hub::start(files);
        let remote = Remote::hub(&hub.endpoint, None).unwrap();
        Rig { hub, remote, http: NativeHttp::default(), store, arrival: Rc::default(), stall_ms: STALL_MS }
    }

    async fn find(&self) -> Result<Manifest> {
        self.remote.find(&self.http, REPO, &Variant::Fp16First).await
    }

    fn download(&self, cancel: &Cancel) -> Download<'_> {
        let cancel = cancel.clone();
        let arrival = Rc::clone(&self.arrival);
        // Waits that a test can afford.
        let patience = Patience { n_parallel: 3, max_attempts: 5, base_ms: 5, max_ms: 40, stall_ms: self.stall_ms };
        Download { http: &self.http, store: &*self.store, remote: &self.remote, cancel, patience, arrival }
    }

    fn run(&self) -> Result<Manifest> {
        block_on(async { self.download(&Cancel::default()).run(self.find().await?, &mut |_| {}).await })
    }

    /// What a failing download says.
    fn refusal(&self) -> String {
        self.run().expect_err("the download should fail").to_string()
    }

    fn unet_chunks(&self) -> usize {
        block_on(self.store.chunks(REPO, UNET)).unwrap().len()
    }

    fn assert_bit_for_bit(&self) {
        block_on(async {
            let stored = StoredModel::open(Rc::clone(&self.store), REPO).await.unwrap();
            for file in stored.list().await.unwrap() {
                let expected = self.hub.file(&file.path);
                let source = stored.open(&file.path).await.unwrap();
                assert_eq!(source.len(), expected.len() as u64);
                assert!(source.read(0, expected.len()).await.unwrap() == expected, "{}", file.path);
            }
            // A range over the border of two chunks, and one that leaves the file.
            let (source, at) = (stored.open(UNET).await.unwrap(), CHUNK - 3);
            assert_eq!(source.read(at as u64, 7).await.unwrap(), self.hub.file(UNET)[at..at + 7]);
            assert!(source.read(UNET_BYTES as u64 - 1, 2).await.is_err());
        });
    }
}

#[test]
fn every_byte_comes_once() {
    let rig = Rig::new();
    let total = needed_bytes(&rig.hub.files);
    let wanted = block_on(rig.find()).unwrap();
    assert_eq!((wanted.total_bytes(), wanted.commit.as_str()), (total, hub_server::COMMIT));
    assert_eq!(block_on(missing_bytes(&*rig.store, &wanted)).unwrap(), total);
    rig.hub.take_body_bytes();
    let (mut last, mut n_calls) = (0, 0);
    let done = block_on(rig.download(&Cancel::default()).run(wanted, &mut |progress| {
        assert!(progress.loaded_bytes >= last && progress.loaded_bytes <= total, "{progress:?}");
        assert!(progress.file_loaded_bytes <= progress.file_bytes, "{progress:?}");
        (last, n_calls) = (progress.loaded_bytes, n_calls + 1);
    }))
    .unwrap();
    assert!(done.is_complete() && last == total && n_calls >= 10, "{last} of {total} in {n_calls} calls");
    assert_eq!(rig.hub.take_body_bytes() as u64, total);
    rig.assert_bit_for_bit();
    assert_eq!(block_on(verify(&*rig.store, REPO, &mut |_, _| {})).unwrap(), []);
    // What is complete is not asked for again.
    rig.run().unwrap();
    assert_eq!(rig.hub.take_body_bytes(), rig.hub.file("model_index.json").len());
    block_on(rig.store.remove(REPO)).unwrap();
    assert_eq!(block_on(rig.store.manifests()).unwrap(), []);
    assert_eq!(rig.unet_chunks(), 0);
}

#[test]
fn faults_that_pass_are_got_over() {
    let cases = [
        ("cut", Fault::Cut(CHUNK / 2), 2),
        ("always cut after a megabyte", Fault::Cut(1_000_000), usize::MAX),
        ("cut before the first byte", Fault::Cut(0), 2),
        ("reset", Fault::Reset, 3),
        ("short", Fault::Short(1), 2),
        ("long", Fault::Long(1), 2),
        ("corrupt", Fault::Corrupt, 1),
        ("500", Fault::Status(500, "X-Nothing: 0"), 3),
        ("503", Fault::Status(503, "Retry-After: 0"), 3),
        ("429", Fault::Status(429, "Retry-After: 0"), 2),
        ("signed address used up", Fault::Status(403, "X-Nothing: 0"), 1),
        ("another tag", Fault::Etag, 1),
        ("no range", Fault::NoRange, usize::MAX),
        ("another range", Fault::WrongRange, 2),
        ("late", Fault::Delay(200), 3),
        ("stalled", Fault::Stall(8000), 1),
    ];
    for (name, fault, times) in cases {
        let mut rig = Rig::new();
        if let Fault::Stall(ms) = fault {
            rig.stall_ms = ms / 4;
        }
        if matches!(fault, Fault::Status(403, _)) {
            // Each of the three tasks gets an address from a redirect first, and the fault meets one of its later uses.
            rig.hub.order(&format!("/cdn/{UNET}"), Fault::Delay(0), 3);
        }
        // A status that is ordered for `/cdn/` comes from behind the redirect.
        rig.hub.order(&format!("/cdn/{UNET}"), fault.clone(), times);
        if let Err(error) = rig.run() {
            panic!("{name}: {error}");
        }
        rig.assert_bit_for_bit();
        let of_unet = |request: &&hub_server::Request| request.path.contains("/cdn/unet");
        let n_requests = rig.hub.requests().iter().filter(of_unet).count();
        assert!(n_requests >= 5 || fault == Fault::NoRange, "{name}: {n_requests} requests");
    }
}

#[test]
fn faults_that_last_say_what_to_do_and_keep_what_came() {
    let cases = [
        (Fault::Cut(0), usize::MAX, &["the transfer broke off", "5 times in a row", "goes on there"][..]),
        (Fault::Status(500, "X-Nothing: 0"), usize::MAX, &["HTTP status 500", "what came is kept"]),
        (Fault::Status(429, "Retry-After: 7200"), 1, &["asks to come back in 120 minutes"]),
        (Fault::Html("text/html; charset=utf-8"), 1, &["an HTML page came instead of unet/", "login"]),
        (Fault::Corrupt, usize::MAX, &["other content than published", "SHA-256"]),
        (Fault::Long(5), usize::MAX, &["the host sent more than the"]),
    ];
    for (fault, times, parts) in cases {
        let rig = Rig::new();
        // The first request for the UNet is good, or late: then at least one chunk is there before the fault.
        rig.hub.order(&format!("/cdn/{UNET}"), Fault::Delay(0), 1);
        rig.hub.order(&format!("/cdn/{UNET}"), fault.clone(), times);
        let said = rig.refusal();
        assert!(said.starts_with(REPO) && parts.iter().all(|part| said.contains(part)), "{fault:?}: {said}");
        let encoder = block_on(rig.store.manifest(REPO)).unwrap().unwrap();
        assert!(encoder.file("text_encoder/model.fp16.safetensors").unwrap().complete, "{fault:?}");
        rig.hub.behave();
        rig.run().unwrap();
        rig.assert_bit_for_bit();
    }
}

#[test]
fn refusals_say_what_to_do() {
    for (status, token, parts) in [
        (401, None, &["gated or private", "access token is needed", "settings/tokens"][..]),
        (403, Some("hf_secret"), &["token is wrong or not allowed", "licence"]),
        (404, None, &["has no unet/", "spelling"]),
        (418, None, &["HTTP status 418"]),
    ] {
        let mut rig = Rig::new();
        rig.remote = Remote::hub(&rig.hub.endpoint, token).unwrap();
        rig.hub.order(
            &format!("resolve/{}/{UNET}", hub_server::COMMIT),
            Fault::Status(status, "X-Nothing: 0"),
            usize::MAX,
        );
        let said = rig.refusal();
        assert!(parts.iter().all(|part| said.contains(part)), "{status}: {said}");
        assert!(!said.contains("hf_secret") && !format!("{:?}", rig.remote).contains("hf_secret"), "{said}");
    }
    let nobody = Remote::hub("http://127.0.0.1:9", None).unwrap();
    let said =
        block_on(nobody.find(&NativeHttp::default(), "owner/repo", &Variant::Fp16First)).unwrap_err().to_string();
    assert!(said.contains("cannot be reached") && said.contains("another endpoint"), "{said}");
    for endpoint in ["huggingface.co", "", "https://", "https://a b", "https://user@host"] {
        assert!(matches!(Remote::hub(endpoint, None), Err(Error::Request { .. })), "{endpoint}");
    }
}

#[test]
fn a_token_goes_to_the_hub_alone() {
    let mut rig = Rig::new();
    rig.remote = Remote::hub(&rig.hub.endpoint, Some(" hf_secret\n")).unwrap();
    rig.run().unwrap();
    for request in rig.hub.requests() {
        // Behind the redirect it is the same host here; that the token stays on it is what ureq and browsers see to.
        let expected = (!request.path.starts_with("/cdn/")).then(|| "Bearer hf_secret".to_owned());
        assert!(request.path.starts_with("/cdn/") || request.authorization == expected, "{request:?}");
    }
    assert_eq!(rig.remote.token_for("https://cdn.example/x"), None);
    assert_eq!(rig.remote.token_for(&format!("{}.example/x", rig.hub.endpoint)), None);
}

#[test]
fn retry_after_is_waited_for() {
    let rig = Rig::new();
    rig.hub.order(&format!("/cdn/{UNET}"), Fault::Status(503, "Retry-After: 1"), 1);
    let start = Instant::now();
    rig.run().unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_cancel_keeps_the_chunks_and_the_next_run_fetches_the_rest_alone() {
    let rig = Rig::new();
    rig.hub.order(UNET, Fault::Throttle(30), usize::MAX);
    let cancel = Cancel::default();
    let ended = block_on(async {
        let wanted = rig.find().await?;
        let by = cancel.clone();
        let watch = Rc::clone(&rig.store);
        rig.download(&cancel)
            .run(wanted, &mut |_| {
                if block_on(watch.chunks(REPO, UNET)).unwrap().len() >= 3 {
                    by.cancel();
                }
            })
            .await
    });
    assert!(matches!(ended, Err(Error::Cancelled)));
    let n_chunks = rig.unet_chunks();
    assert!((3..5).contains(&n_chunks), "{n_chunks}");
    rig.hub.behave();
    let missing =
        block_on(async { missing_bytes(&*rig.store, &rig.store.manifest(REPO).await?.unwrap()).await }).unwrap();
    rig.hub.wait_until_quiet();
    rig.hub.take_body_bytes();
    rig.run().unwrap();
    assert_eq!(rig.hub.take_body_bytes() as u64, missing + rig.hub.file("model_index.json").len() as u64);
    rig.assert_bit_for_bit();
}

#[test]
fn a_damaged_chunk_is_fetched_again_alone() {
    let rig = Rig::new();
    rig.run().unwrap();
    let digests = block_on(rig.store.chunks(REPO, UNET)).unwrap();
    let mut bytes = rig.hub.file(UNET)[CHUNK..2 * CHUNK].to_vec();
    bytes[77] ^= 1;
    block_on(rig.store.write_chunk(REPO, UNET, 1, &bytes, &digests[&1])).unwrap();
    let damaged = block_on(verify(&*rig.store, REPO, &mut |_, _| {})).unwrap();
    assert_eq!((damaged.len(), damaged[0].path.as_str(), damaged[0].chunk), (1, UNET, 1));
    assert!(block_on(StoredModel::open(Rc::clone(&rig.store), REPO)).is_err(), "what is not whole is not opened");
    rig.hub.take_body_bytes();
    rig.run().unwrap();
    assert_eq!(rig.hub.take_body_bytes(), CHUNK + rig.hub.file("model_index.json").len());
    rig.assert_bit_for_bit();

    // A chunk that broke while the file was not complete is found by the next download itself.
    let mut manifest = block_on(rig.store.manifest(REPO)).unwrap().unwrap();
    manifest.files.iter_mut().find(|file| file.path == UNET).unwrap().complete = false;
    block_on(rig.store.write_manifest(&manifest)).unwrap();
    block_on(rig.store.write_chunk(REPO, UNET, 1, &bytes, &digests[&1])).unwrap();
    rig.run().unwrap();
    assert_eq!(rig.hub.take_body_bytes(), CHUNK + rig.hub.file("model_index.json").len());
    rig.assert_bit_for_bit();
}

#[test]
fn no_room_leaves_what_is_there_and_says_how_much_is_missing() {
    let store = Rc::new(MemoryStore::new());
    let rig = Rig::of(model(UNET_BYTES), Rc::clone(&store) as Rc<dyn Store>);
    let total = needed_bytes(&rig.hub.files);
    store.set_quota(Some(total - 1));
    match rig.run() {
        Err(Error::StoreFull { missing_bytes, free_bytes }) => {
            assert_eq!((missing_bytes, free_bytes), (total, Some(total - 1)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.unet_chunks(), 0, "nothing is fetched for nothing");
    store.set_quota(None);
    rig.run().unwrap();
    rig.assert_bit_for_bit();
}

#[test]
fn two_downloads_of_one_model_wait_for_each_other() {
    let rig = Rig::new();
    rig.hub.take_body_bytes();
    let cancel = Cancel::default();
    let one = async || {
        let wanted = rig.find().await?;
        rig.download(&cancel).run(wanted, &mut |_| {}).await.map(|_| ())
    };
    block_on(all::<Error>(vec![Box::pin(one()), Box::pin(one())])).unwrap();
    let twice = 2 * rig.hub.file("model_index.json").len() as u64;
    assert_eq!(rig.hub.take_body_bytes() as u64, needed_bytes(&rig.hub.files) + twice);
    rig.assert_bit_for_bit();
}

#[test]
fn listings_in_pages_and_servers_of_plain_files() {
    let rig = Rig::new();
    rig.hub.list_in_pages();
    rig.run().unwrap();
    rig.assert_bit_for_bit();

    // No API, no digests, no ranges: the names are tried, and each file is one stream.
    let mut rig = Rig::new();
    rig.remote = Remote::folder(&rig.hub.endpoint).unwrap();
    rig.hub.leave_api_out();
    rig.hub.order("/resolve/main/", Fault::NoRange, usize::MAX);
    let done = rig.run().unwrap();
    assert_eq!((done.commit.as_str(), done.total_bytes()), ("main", needed_bytes(&rig.hub.files)));
    rig.assert_bit_for_bit();
}

#[test]
fn files_from_elsewhere_are_imported() {
    let rig = Rig::new();
    let source = |(path, bytes): &(String, Vec<u8>)| {
        let source: Box<dyn ByteSource> = Box::new(MemorySource::new(path.clone(), bytes.clone()));
        (format!("picked/{path}"), source)
    };
    let files = rig.hub.files.iter().map(source).collect();
    let manifest = block_on(import(&*rig.store, REPO, files, &mut |_, _, _| {})).unwrap();
    assert!(manifest.is_complete() && manifest.file("README.md").is_none());
    rig.assert_bit_for_bit();
    assert_eq!(block_on(verify(&*rig.store, REPO, &mut |_, _| {})).unwrap(), []);

    let files = rig.hub.files.iter().filter(|(path, _)| path != UNET).map(source).collect();
    let said = block_on(import(&*rig.store, "half", files, &mut |_, _, _| {})).unwrap_err().to_string();
    assert!(said.contains("unet/diffusion_pytorch_model.safetensors is missing"), "{said}");
    let said = block_on(import(&*rig.store, "none", Vec::new(), &mut |_, _, _| {})).unwrap_err().to_string();
    assert!(said.contains("no model_index.json"), "{said}");
}

/// Weights alone are a checkpoint in one file; a folder beside it without weights is its configuration.
#[test]
fn a_checkpoint_in_one_file_is_imported() {
    let rig = Rig::new();
    let source = |(path, bytes): (String, Vec<u8>)| {
        let source: Box<dyn ByteSource> = Box::new(MemorySource::new(path.clone(), bytes));
        (path, source)
    };
    let weights = ("picked/Mine.GGUF".to_owned(), b"GGUF".to_vec());
    let import = |files: Vec<(String, Vec<u8>)>| {
        let files = files.into_iter().map(source).collect();
        let manifest = block_on(import(&*rig.store, "mine", files, &mut |_, _, _| {})).unwrap();
        let paths: Vec<String> = manifest.files.into_iter().map(|file| file.path).collect();
        (paths, block_on(StoredModel::open(rig.store.clone(), "mine")).unwrap())
    };
    let (paths, model) = import(vec![weights.clone(), ("picked/Mine.yaml".into(), b"model:".to_vec())]);
    assert_eq!(paths, ["Mine.GGUF", "Mine.yaml"]);
    assert_eq!(model.single_file(), Some("Mine.GGUF"));
    assert!(model.own_config().is_none());
    assert_eq!(block_on(model.own_yaml()).unwrap().as_deref(), Some("model:"));

    let texts = rig.hub.files.iter().filter(|(path, _)| !path.ends_with(".safetensors"));
    let texts = texts.map(|(path, bytes)| (format!("picked/config/{path}"), bytes.clone()));
    let (_, model) = import(std::iter::once(weights).chain(texts).collect());
    assert_eq!(model.single_file(), Some("Mine.GGUF"));
    let config = model.own_config().unwrap();
    let listed = block_on(config.list()).unwrap();
    assert!(listed.iter().any(|file| file.path == "unet/config.json") && listed.iter().all(|file| !file.is_weights()));
    assert!(block_on(config.read_text("unet/config.json")).is_ok());
}

/// A connection that never lasts: what came before each cut is not asked for again.
#[test]
fn a_cut_transfer_goes_on_at_its_byte() {
    let rig = Rig::new();
    rig.hub.order(&format!("/cdn/{UNET}"), Fault::Cut(1_000_000), usize::MAX);
    rig.run().unwrap();
    rig.assert_bit_for_bit();
    let starts: Vec<usize> =
        rig.hub.requests().iter().filter(|r| r.path.contains("/cdn/unet")).filter_map(|r| Some(r.range?.0)).collect();
    let distinct: std::collections::BTreeSet<usize> = starts.iter().copied().collect();
    assert!(distinct.iter().any(|start| start % CHUNK == 1_000_000), "{starts:?}");
    assert_eq!(distinct.len(), starts.len(), "the same bytes were asked for twice: {starts:?}");
}

fn apple(model: &Rc<ModelComponents<CandleRunner>>, runner: &Rc<CandleRunner>) -> Generation<CandleRunner> {
    let mut config = SDConfig::new(model.configs.version()).with_prompt("a red apple").with_size(64, 64).with_seed(1);
    config.steps = 1;
    Generation::new(runner, model, Inputs { config, start_picture: None, mask: None }).unwrap()
}

async fn pixels(generation: &mut Generation<CandleRunner>) -> Result<Vec<u8>> {
    loop {
        if let Some(Event::Decoded { image, .. }) = generation.step(&mut |_| true).await? {
            return Ok(image.pixels);
        }
    }
}

#[test]
fn a_model_draws_while_it_comes() {
    let rig = Rig::of(emoji_files(), Rc::new(MemoryStore::new()));
    rig.hub.order(UNET, Fault::Held, usize::MAX);
    let runner = Rc::new(CandleRunner::cpu(Precision::F32));
    let drawn = std::cell::RefCell::new(Vec::new());
    let unet_is_there = || {
        let manifest = block_on(rig.store.manifest(REPO)).unwrap().unwrap();
        manifest.file(UNET).unwrap().complete
    };
    block_on(async {
        let download = async { rig.download(&Cancel::default()).run(rig.find().await?, &mut |_| {}).await.map(drop) };
        let draw = async {
            let source = Rc::new(StoredModel::arriving(Rc::clone(&rig.store), Rc::clone(&rig.arrival)).await?);
            // What it will need is known before its weights are there.
            let headers = published::WithoutWeights(&*source);
            let planned =
                ModelLoader::new(&headers, &*runner).with_residency(Residency::Staged).load(&mut |_| true).await?;
            assert!(!unet_is_there());
            let model = Rc::new(ModelComponents::open_lazy(source, Residency::Resident).await?);
            assert_eq!(planned.configs.size_multiple(), model.configs.size_multiple());
            model.part(&*runner, model.parts()[0], &mut |_| true).await?;
            assert!(!unet_is_there(), "the text encoder is loaded before the UNet is there");
            // A drawing that waits for the UNet can be stopped.
            let mut asked = 0;
            let go_on = &mut |_| {
                asked += 1;
                false
            };
            let stopped = model.part(&*runner, model.parts()[1], go_on).await;
            assert!(matches!(stopped, Err(Error::Cancelled)) && asked == 1, "{asked}");
            assert!(!unet_is_there());
            rig.hub.release();
            drawn.replace(pixels(&mut apple(&model, &runner)).await?);
            Ok(())
        };
        all(vec![Box::pin(download), Box::pin(draw)]).await
    })
    .unwrap();
    let whole = block_on(StoredModel::open(Rc::clone(&rig.store), REPO)).unwrap();
    let model = Rc::new(block_on(ModelLoader::new(&whole, &*runner).load(&mut |_| true)).unwrap());
    assert!(*drawn.borrow() == block_on(pixels(&mut apple(&model, &runner))).unwrap());
}

#[test]
fn a_download_that_fails_ends_the_wait_for_its_files() {
    let rig = Rig::of(emoji_files(), Rc::new(MemoryStore::new()));
    rig.hub.order(UNET, Fault::Status(404, ""), usize::MAX);
    let runner = CandleRunner::cpu(Precision::F32);
    let said = std::cell::RefCell::new(String::new());
    let ended: Result<()> = block_on(async {
        let download = async {
            drop(rig.download(&Cancel::default()).run(rig.find().await?, &mut |_| {}).await);
            Ok(())
        };
        let draw = async {
            let source = Rc::new(StoredModel::arriving(Rc::clone(&rig.store), Rc::clone(&rig.arrival)).await?);
            let model = ModelComponents::open_lazy(source, Residency::Resident).await?;
            let refused = model.part(&runner, model.parts()[1], &mut |_| true).await.err();
            said.replace(refused.map_or_else(String::new, |error| error.to_string()));
            Ok(())
        };
        all(vec![Box::pin(download), Box::pin(draw)]).await
    });
    ended.unwrap();
    let said = said.borrow();
    assert!(said.contains(UNET) && said.contains("404") && said.contains("go on downloading"), "{said}");
}
