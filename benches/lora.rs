//! What a change of a LoRA costs on a loaded Stable Diffusion 1.5 of true size, beside loading it: `./build.sh bench lora`.
//! Random weights in f16 from memory, rank 32 in every layer of the UNet's transformers and of the text encoder, as kohya's
//! trainer writes it. `DARKROOM_CASES=f16,q8_0` for the types in which the GPU holds weights.
//!
//! A row is the wall-clock time until the device is done, with the bytes that were uploaded. Before the table: what the
//! processor alone takes for the touched matrices, to read them and to merge them.

#[path = "common/report.rs"]
mod report;
#[path = "common/true_size.rs"]
mod true_size;

use std::rc::Rc;
use std::time::Instant;

use darkroom::Result;
use darkroom::bench::RandomWeights;
use darkroom::checkpoint::lora::LoraFile;
use darkroom::checkpoint::single::{SingleFile, SingleFileSettings};
use darkroom::hub::{Component, Source};
use darkroom::pipeline::{ModelComponents, ModelLoader, Part};
use darkroom::request::LoraUse;
use darkroom::run::Runner;
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::run::gpu::{Element, Gpu};
use darkroom::weights::merged::Changes;
use darkroom::weights::{WeightType, Weights};
use report::{Report, is_wanted, n_rounds, spread};
use serde_json::json;

/// Bytes of a tensor that are read at once.
const PIECE_BYTES: u64 = 8 << 20;

const PARTS: [Part; 2] = [Part::TextEncoder(0), Part::Unet];

fn main() -> Result<()> {
    pollster::block_on(run())
}

async fn run() -> Result<()> {
    let mut report = Report::start("lora");
    let gpu = match Gpu::open().await {
        Ok(gpu) => gpu,
        Err(error) => {
            println!("\n{error}");
            return Ok(());
        }
    };
    report.adapter(&format!("{} ({})", gpu.caps.name, gpu.caps.backend), gpu.caps.software);
    let (checkpoint, lora) = true_size::sd15_with_lora(32);
    let source = SingleFile::open("random", Box::new(RandomWeights::new(&checkpoint)), SingleFileSettings::default());
    let source: Rc<dyn Source> = Rc::new(source.await?);
    let file = LoraFile::open("lora", Box::new(RandomWeights::new(&lora))).await?;
    let mut is_first = true;
    for weight_type in [WeightType::F16, WeightType::Q8_0, WeightType::Q4_0] {
        if !is_wanted(weight_type.name()) {
            continue;
        }
        let runner = GpuRunner::new(Gpu::open().await?, Element::F32)?.with_weights(weight_type);
        let model = ModelLoader::new(&*source, &runner).open().await?;
        model.add_lora(file.fit(&model.configs, None)?);
        if is_first {
            on_the_processor(&mut report, &*source, &model).await?;
            is_first = false;
        }
        on_the_gpu(&mut report, weight_type, &runner, &model).await?;
    }
    report.finish();
    Ok(())
}

fn used(strength: f64) -> Vec<LoraUse> {
    vec![LoraUse { name: "lora".into(), strength, text_strength: None }]
}

fn mb(n_bytes: u64) -> f64 {
    n_bytes as f64 / 1e6
}

/// Reads all tensors that changes touch; returns seconds and bytes.
async fn read(weights: &Weights, changes: &Changes) -> Result<(f64, u64)> {
    let clock = Instant::now();
    let mut n_read = 0;
    for name in changes.keys() {
        let Some(tensor) = weights.get(name) else { continue };
        let width = tensor.dtype.n_bytes().unwrap_or(4) as u64;
        let n_bytes = tensor.shape.iter().product::<usize>() as u64 * width;
        for at in (0..n_bytes).step_by(PIECE_BYTES as usize) {
            n_read += weights.read_part(name, at, PIECE_BYTES.min(n_bytes - at) as usize).await?.len() as u64;
        }
    }
    Ok((clock.elapsed().as_secs_f64(), n_read))
}

/// What the touched matrices cost without a device.
async fn on_the_processor(report: &mut Report, source: &dyn Source, model: &ModelComponents<GpuRunner>) -> Result<()> {
    let files = source.list().await?;
    let loras = model.activate(&used(0.7))?;
    for component in [Component::TextEncoder, Component::Unet] {
        let weights = source.weights(component, &files, &model.configs.weight_specs(component)?).await?;
        let changes = loras.changes(component);
        let (read_secs, n_read) = read(&weights, &changes).await?;
        let (merge_secs, n_merged) = read(&weights.merged(changes.clone()), &changes).await?;
        println!(
            "{}: {} touched tensors, {:.0} MB read in {read_secs:.2} s; read and merged to {:.0} MB in {merge_secs:.2} s",
            component.folder(),
            changes.len(),
            mb(n_read),
            mb(n_merged)
        );
        report.row(json!({
            "component": component.folder(), "tensors": changes.len(), "bytes": n_read, "read_secs": read_secs,
            "merge_secs": merge_secs
        }));
    }
    Ok(())
}

/// Loads, then turns the LoRA on, changes its strength and turns it off.
async fn on_the_gpu(
    report: &mut Report,
    weight_type: WeightType,
    runner: &GpuRunner,
    model: &ModelComponents<GpuRunner>,
) -> Result<()> {
    println!("\nweights in {}", weight_type.name());
    // Each strength with what the figure is called. Text encoder and UNet together.
    let changes = [("load", 0.0), ("on", 1.0), ("other strength", 0.5), ("off", 0.0)];
    let mut figures: Vec<(&str, Vec<f64>, u64, u64)> = changes.map(|(what, _)| (what, Vec::new(), 0, 0)).to_vec();
    for round in 0..n_rounds(3) {
        for ((what, strength), (_, all, uploaded, dispatches)) in changes.iter().zip(&mut figures) {
            if *what == "load" && round > 0 {
                continue;
            }
            let loras = model.activate(&used(*strength))?;
            let (clock, before) = (Instant::now(), runner.counts());
            for part in PARTS {
                model.part_with(runner, part, &loras, &mut |_| true).await?;
            }
            // Everything before it in the queue is done when it comes back.
            runner.download(&runner.upload(&[0.0], &[1])?).await?;
            all.push(clock.elapsed().as_secs_f64());
            let counts = runner.counts().since(&before);
            (*uploaded, *dispatches) = (counts.uploaded_bytes, counts.dispatches);
        }
    }
    for (what, all, uploaded, dispatches) in figures {
        let [least, median, most] = spread(&all);
        println!(
            "  {what:<16} {median:>6.2} s ({least:.2} to {most:.2}), {:>7.1} MB uploaded, {dispatches} dispatches",
            mb(uploaded)
        );
        report.row(json!({
            "weights": weight_type.name(), "what": what, "secs": all, "uploaded_bytes": uploaded, "dispatches": dispatches
        }));
    }
    Ok(())
}
