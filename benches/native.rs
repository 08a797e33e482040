//! Darkroom's runners on this machine beside PyTorch and stable-diffusion.cpp, in turn and on as many threads: a UNet step
//! of SD 1.5 at 256x256 with guidance, and smaller components with PyTorch's own weights, whose results are compared.
//! `./build.sh bench --bench native`; `./build.sh setup peers` brings the others. `DARKROOM_ROUNDS=1` for one round after
//! the first, `DARKROOM_CASES=unet,vae-decoder` for some of the work, `DARKROOM_F16=1` for 16 bits on the GPU.

#[path = "common/report.rs"]
mod report;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;

use darkroom::bench::{Bench, Case, Part, RandomWeights, Sizes};
use darkroom::model::clip::{POSITION_TABLE, TOKEN_TABLE};
use darkroom::run::candle::{CandleRunner, Precision};
use darkroom::run::gpu::Element;
use darkroom::run::gpu::Gpu;
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::weights::{ByteSource, DiskSource, Weights};
use darkroom::{Error, Result};
use report::{Contender, Report, duration, is_wanted, n_rounds, peers_folder, peers_python};
use serde_json::{Value, json};

const N_ROUNDS: usize = 3;

/// Operations that are shown, of those that took longest.
const N_LINES: usize = 12;

/// Another program that does one round for each line that it is sent, and answers with seconds.
struct Peer {
    who: String,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Peer {
    fn start(script: &str, arguments: &[&str]) -> Option<Self> {
        let script = format!("{}/tools/bench/{script}", env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(peers_python()?)
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let (stdin, stdout) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        let mut peer = Peer { who: String::new(), child, stdin, stdout };
        peer.who = peer.line()?;
        Some(peer)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let n = self.stdout.read_line(&mut line).ok()?;
        (n > 0).then(|| line.trim().to_string())
    }

    fn round(&mut self) -> Option<f64> {
        self.stdin.write_all(b"go\n").ok()?;
        self.stdin.flush().ok()?;
        self.line()?.parse().ok()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends by itself when its input does; a kill covers the case that it hangs.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

fn main() -> Result<()> {
    pollster::block_on(run())
}

async fn run() -> Result<()> {
    let mut report = Report::start("native");
    let element = if std::env::var_os("DARKROOM_F16").is_some() { Element::F16 } else { Element::F32 };
    match Gpu::open().await {
        Ok(gpu) => report.adapter(&format!("{} ({})", gpu.caps.name, gpu.caps.backend), gpu.caps.software),
        Err(error) => println!("no GPU: {error}"),
    }
    if peers_python().is_none() {
        println!("PyTorch and stable-diffusion.cpp are not here; `./build.sh setup peers` brings them");
    }
    report.note(
        "Our UNet step has the prompt's keys and values from before, as in a picture; PyTorch's step computes them. \
         stable-diffusion.cpp's seconds are those of one denoising step, its sampler's arithmetic included.",
    );
    for name in ["text-encoder", "vae-decoder", "unet"] {
        let folder = peers_folder().join("cases").join(name);
        if is_wanted(name) && folder.is_dir() {
            same_weights(&mut report, name, &folder).await?;
        }
    }
    if is_wanted("full-unet-256") {
        full_unet(&mut report, element).await?;
    }
    report.finish();
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|e| Error::io(file, e))
}

/// Channels last instead of first, for pictures.
fn channels_last(values: &[f32], dims: &[usize]) -> Vec<f32> {
    let &[n, channels, height, width] = dims else { return values.to_vec() };
    let pixels = height * width;
    let mut turned = Vec::with_capacity(values.len());
    for item in values.chunks_exact(channels * pixels).take(n) {
        turned.extend((0..pixels).flat_map(|pixel| (0..channels).map(move |c| item[c * pixels + pixel])));
    }
    turned
}

/// A tensor that tools/bench/models.py wrote.
fn tensor(folder: &Path, described: &Value) -> Result<(Vec<usize>, Vec<f32>)> {
    let dims: Vec<usize> =
        described["dims"].as_array().into_iter().flatten().filter_map(|n| Some(n.as_u64()? as usize)).collect();
    let bytes = read(&folder.join(described["file"].as_str().unwrap_or_default()))?;
    let values: Vec<f32> = match described["dtype"].as_str() {
        Some("int64") => {
            bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("eight")) as f32).collect()
        }
        _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four"))).collect(),
    };
    let values = channels_last(&values, &dims);
    Ok((dims, values))
}

async fn opened(source: impl ByteSource + 'static) -> Result<Weights> {
    Weights::open(vec![Box::new(source)]).await
}

/// A small component with the weights and inputs that PyTorch has.
async fn same_weights(report: &mut Report, name: &str, folder: &Path) -> Result<()> {
    let text = String::from_utf8(read(&folder.join("case.json"))?).unwrap_or_default();
    let info: Value = serde_json::from_str(&text).unwrap_or_default();
    let config = String::from_utf8(read(&folder.join("config.json"))?).unwrap_or_default();
    let part: Part = serde_json::from_value(info["component"].clone()).map_err(|e| Error::Config {
        file: folder.join("case.json").display().to_string(),
        reason: format!("has no component that is known: {e}"),
    })?;
    let (mut given, mut sizes) = (Vec::new(), Sizes { batch: 1, height: 1, width: 1 });
    for input in info["inputs"].as_array().into_iter().flatten() {
        let (dims, values) = tensor(folder, input)?;
        sizes.batch = dims[0];
        if let [_, _, height, width] = dims[..] {
            (sizes.height, sizes.width) = (height, width);
        }
        given.push((input["name"].as_str().unwrap_or_default().to_owned(), values));
    }
    let case = Case::new(part, &config, sizes)?;
    let weights = opened(DiskSource::open(&folder.join("weights.safetensors"))?).await?;
    for (name, values) in given.iter_mut().filter(|(name, _)| name == "input_ids") {
        (*name, *values) = ("embeddings".to_owned(), embeddings(&weights, values).await?);
    }
    let mut ours = Bench::load(Rc::new(CandleRunner::cpu(Precision::F32)), &case, &weights, &given).await?;
    let threads = rayon::current_num_threads();
    let mut peer = Peer::start("pytorch.py", &[name, &threads.to_string()]);
    let mut contenders = vec![Contender::new(format!("darkroom (candle, {threads} threads)"))];
    contenders.extend(peer.as_ref().map(|peer| Contender::new(&peer.who)));
    for _ in 0..=n_rounds(3 * N_ROUNDS) {
        contenders[0].took(ours.run().await?);
        if let Some(secs) = peer.as_mut().and_then(Peer::round) {
            contenders[1].took(secs);
        }
    }
    let (_, expected) = tensor(folder, &info["result"])?;
    let error = error(&ours.result().await?, &expected);
    contenders[0].details.insert("error".into(), json!(error));
    report.versus(name, case.flops() as f64, &contenders);
    println!("  {error:.1e} of the largest value from PyTorch's result");
    ops(report, name, &mut ours).await?;
    assert!(error < 1e-3, "{name}: the results differ");
    Ok(())
}

/// What our text encoder starts from: for each token its row and its place's, added up.
async fn embeddings(weights: &Weights, ids: &[f32]) -> Result<Vec<f32>> {
    let places = weights.read_f32(POSITION_TABLE).await?;
    let width = weights.get(POSITION_TABLE).map_or(1, |table| table.shape[1]);
    let tokens = weights.read_f32(TOKEN_TABLE).await?;
    let rows = ids.iter().zip(places.chunks_exact(width).cycle());
    Ok(rows.flat_map(|(id, place)| tokens[*id as usize * width..].iter().zip(place).map(|(a, b)| a + b)).collect())
}

fn error(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let off = got.iter().zip(expected).map(|(a, b)| (a - b).abs());
    off.fold(0f32, |off, x| if x <= off { off } else { x }) / largest
}

/// A step of SD 1.5's own size, on every runner there is.
async fn full_unet(report: &mut Report, element: Element) -> Result<()> {
    let config = include_str!("../src/model/published/v1-5/unet.json");
    let case = Case::new(Part::Unet, config, Sizes { batch: 2, height: 32, width: 32 })?;
    let threads = rayon::current_num_threads().to_string();
    let weights = opened(RandomWeights::new(&case.weights())).await?;
    let mut candle = Bench::load(Rc::new(CandleRunner::cpu(Precision::F32)), &case, &weights, &[]).await?;
    let mut gpu = match Gpu::open().await {
        Ok(gpu) => Some(Bench::load(Rc::new(GpuRunner::new(gpu, element)?), &case, &weights, &[]).await?),
        Err(_) => None,
    };
    let peers = [Peer::start("pytorch.py", &["full-unet-256", &threads]), Peer::start("sd_cpp.py", &["256", &threads])];
    let mut peers: Vec<Peer> = peers.into_iter().flatten().collect();
    let mut contenders = vec![Contender::new(format!("darkroom (candle, {threads} threads)"))];
    contenders.extend(peers.iter().map(|peer| Contender::new(&peer.who)));
    let n_rounds = n_rounds(N_ROUNDS);
    for _ in 0..=n_rounds {
        contenders[0].took(candle.run().await?);
        for (peer, contender) in peers.iter_mut().zip(&mut contenders[1..]) {
            contender.took(peer.round().unwrap_or(f64::NAN));
        }
    }
    drop(peers);
    let what = "full-unet-256: SD 1.5's step at 256x256, batch 2";
    report.versus(what, case.flops() as f64, &contenders);
    ops(report, what, &mut candle).await?;

    let Some(gpu) = &mut gpu else { return Ok(()) };
    // By itself, since it may be the same processor that computes.
    let mut ours = Contender::new(format!("darkroom ({element:?} on the GPU)"));
    let mut before = (gpu.runner().counts(), 0.0);
    for _ in 0..=n_rounds.min(2) {
        before = (gpu.runner().counts(), gpu.runner().record_secs());
        ours.took(gpu.run().await?);
    }
    let step = gpu.runner().counts().since(&before.0);
    let record_secs = gpu.runner().record_secs() - before.1;
    let error = error(&gpu.result().await?, &candle.result().await?);
    ours.details.insert("counts".into(), json!(step));
    ours.details.insert("record_secs".into(), json!(record_secs));
    ours.details.insert("error".into(), json!(error));
    report.versus(&format!("{what}, GPU"), case.flops() as f64, &[ours]);
    println!(
        "  a step: {} dispatches, {} submits, {} bind groups, {} pipelines and {} buffers made; {:.2} ms of the processor's \
         time to record; {error:.1e} of the largest value from candle's result",
        step.dispatches,
        step.submits,
        step.bind_groups,
        step.pipelines,
        step.buffers,
        record_secs * 1e3
    );
    println!(
        "  GPU memory: {:.3} GB at the peak, weights {:.3}, arena {:.3}",
        step.peak_bytes as f64 / 1e9,
        step.weight_bytes as f64 / 1e9,
        step.arena_bytes as f64 / 1e9
    );
    if gpu.runner().caps().timestamp_query {
        gpu.runner().start_profile()?;
        gpu.run().await?;
        if let Some(profile) = gpu.runner().finish_profile().await? {
            println!("{profile}");
            report.row(json!({ "what": what, "profile": profile }));
        }
    }
    Ok(())
}

/// Where the candle runner's time goes.
async fn ops(report: &mut Report, what: &str, ours: &mut Bench<CandleRunner>) -> Result<()> {
    let times = ours.time_ops().await?;
    let total: f64 = times.iter().map(|time| time.secs).sum();
    println!("  {:>9} {:>6} {:>5} {:>9}  the candle runner's operations", "", "%", "n", "GFLOP/s");
    for time in times.iter().take(N_LINES) {
        println!(
            "  {:>9} {:>6.1} {:>5} {:>9.1}  {}",
            duration(time.secs),
            100.0 * time.secs / total,
            time.n,
            time.flops as f64 / time.secs / 1e9,
            time.label
        );
    }
    report.row(json!({ "what": what, "ops": times }));
    Ok(())
}
