//! A model of more than a gigabyte in random numbers on its way from a server through IndexedDB to a browser's GPU. Shared by
//! the test of how little memory that takes and the bench of how fast it is.

use darkroom::bench::RandomWeights;
use darkroom::model::UNet2DConditionConfig;
use darkroom::model::unet;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::hub_server::{Hub, REPO, UNET, emoji_files};

/// The embedded model with a UNet of SD 1.5's architecture at four fifths of its width.
pub fn large_model() -> Vec<(String, Vec<u8>)> {
    let mut config: Value = serde_json::from_str(include_str!("../../src/model/published/v1-5/unet.json")).unwrap();
    config["block_out_channels"] = json!([256, 512, 1024, 1024]);
    config["cross_attention_dim"] = json!(128);
    let text = config.to_string();
    let specs = unet::weights(&UNet2DConditionConfig::from_json(&text, "unet/config.json").unwrap()).unwrap();
    let source = RandomWeights::new(&specs);
    let weights = pollster::block_on(darkroom::weights::ByteSource::read(
        &source,
        0,
        darkroom::weights::ByteSource::len(&source) as usize,
    ));
    let mut files = emoji_files();
    files.retain(|(path, _)| !path.starts_with("unet/"));
    files.extend([("unet/config.json".to_owned(), text.into_bytes()), (UNET.to_owned(), weights.unwrap())]);
    files
}

/// What the way of a model took.
#[derive(Debug)]
pub struct Streamed {
    /// The model's size.
    pub bytes: f64,
    /// From the server into IndexedDB, hashed on the way.
    pub download_secs: f64,
    /// From the server into IndexedDB by a few lines of JavaScript: as many requests at once, without a digest.
    pub raw_download_secs: f64,
    /// IndexedDB read chunk by chunk by a few lines of JavaScript.
    pub raw_read_secs: f64,
    /// The same through the store, as loading reads it, into the wasm's memory.
    pub read_secs: f64,
    /// IndexedDB read chunk by chunk and written to a buffer of the GPU as it is, by JavaScript alone.
    pub raw_upload_secs: f64,
    /// From IndexedDB into buffers of the GPU, in the order in which kernels read.
    pub load_secs: f64,
    /// The wasm's memory in the end, in bytes. It never shrinks, so it was never larger.
    pub heap_bytes: f64,
}

/// Downloads the model and loads it. The tab computes in its own thread, where the memory can be looked at.
pub fn stream(browser: &Browser, page: &str, hub: &Hub) -> Streamed {
    browser.open(&format!("{page}protocol.js"));
    let took = browser.run(&format!(
        "const pkg = await import('/pkg/darkroom.js');
        const {{ memory }} = await pkg.default();
        const models = await pkg.Models.open({{ endpoint: '{0}' }});
        const timed = async (work) => {{
            const start = performance.now();
            await work();
            return (performance.now() - start) / 1000;
        }};
        let report;
        const download = await timed(async () => {{ report = await models.download('{REPO}', () => {{}}); }});
        const database = await new Promise((resolve, reject) => {{
            const request = indexedDB.open('darkroom');
            request.onsuccess = () => resolve(request.result); request.onerror = () => reject(request.error); }});
        const raw_download = await timed(async () => {{
            const other = await new Promise((resolve, reject) => {{
                const request = indexedDB.open('raw');
                request.onupgradeneeded = () => request.result.createObjectStore('chunks');
                request.onsuccess = () => resolve(request.result); request.onerror = () => reject(request.error); }});
            const wanted = report.files.flatMap(({{ path, bytes }}) =>
                Array.from({{ length: Math.ceil(bytes / {1}) }}, (_, chunk) => ({{ path, bytes, chunk }})));
            const take = async () => {{
                for (let next = wanted.shift(); next; next = wanted.shift()) {{
                    const {{ path, bytes, chunk }} = next, start = chunk * {1}, end = Math.min(start + {1}, bytes);
                    const answer = await fetch(`{0}/{2}/resolve/main/${{path}}`,
                        {{ cache: 'no-store', headers: {{ Range: `bytes=${{start}}-${{end - 1}}` }} }});
                    const came = await answer.arrayBuffer();
                    await new Promise((resolve, reject) => {{
                        const change = other.transaction('chunks', 'readwrite');
                        change.objectStore('chunks').put(came, [path, chunk]);
                        change.oncomplete = resolve; change.onabort = () => reject(change.error); }});
                }}
            }};
            await Promise.all(Array.from({{ length: 4 }}, take));
            other.close();
        }});
        await new Promise((resolve, reject) => {{
            const request = indexedDB.deleteDatabase('raw');
            request.onsuccess = resolve; request.onerror = () => reject(request.error); }});
        const each_chunk = async (take) => {{
            for (const {{ path, bytes }} of report.files)
                for (let chunk = 0; chunk * {1} < bytes; chunk++)
                    await take(await new Promise((resolve, reject) => {{
                        const got = database.transaction('chunks').objectStore('chunks').get(['{REPO}', path, chunk]);
                        got.onsuccess = () => resolve(got.result.bytes);
                        got.onerror = () => reject(got.error); }}));
        }};
        let n_read = 0;
        const raw = await timed(() => each_chunk((bytes) => {{ n_read += bytes.length; }}));
        if (n_read !== report.total_bytes) throw new Error(`${{n_read}} of ${{report.total_bytes}} bytes`);
        const device = await (await navigator.gpu.requestAdapter()).requestDevice();
        const buffer = device.createBuffer({{ size: {1}, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.STORAGE }});
        let n_unwaited = 0;
        const upload = await timed(async () => {{
            await each_chunk(async (bytes) => {{
                device.queue.writeBuffer(buffer, 0, bytes, 0, bytes.length & ~3);
                n_unwaited += bytes.length;
                if (n_unwaited < 2 ** 26) return;
                n_unwaited = 0;
                await device.queue.onSubmittedWorkDone();
            }});
            await device.queue.onSubmittedWorkDone();
        }});
        device.destroy();
        database.close();
        const read = await timed(async () => {{
            for (const {{ path, bytes }} of report.files)
                for (let at = 0; at < bytes; at += {1})
                    await models.read('{REPO}', path, at, Math.min({1}, bytes - at));
        }});
        let studio;
        const load = await timed(async () => {{
            studio = await pkg.Studio.load_stored(models, '{REPO}', {{ runner: 'gpu', dtype: 'f32', tune: false }}, () => {{}});
        }});
        studio.free();
        return {{ bytes: n_read, download, raw_download, raw, upload, read, load, heap: memory.buffer.byteLength }};",
        hub.endpoint,
        darkroom::store::CHUNK_BYTES,
        REPO,
    ));
    let number = |name: &str| took[name].as_f64().unwrap_or_else(|| panic!("{name}: {took}"));
    Streamed {
        bytes: number("bytes"),
        download_secs: number("download"),
        raw_download_secs: number("raw_download"),
        raw_read_secs: number("raw"),
        read_secs: number("read"),
        raw_upload_secs: number("upload"),
        load_secs: number("load"),
        heap_bytes: number("heap"),
    }
}
