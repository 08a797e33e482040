//! Whole models at small and odd sizes, the WebGPU runner against the candle runner: one pixel at the lowest level, one
//! row, long and narrow pictures, one token, with and without guidance.
#![cfg(not(target_arch = "wasm32"))]

#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/tiny.rs"]
mod tiny;

use darkroom::graph::{Graph, Op};
use darkroom::hub::folder::Folder;
use darkroom::model::unet::{UNetShape, prompt_graph, step_graph};
use darkroom::model::vae::{decoder_graph, encoder_graph};
use darkroom::pipeline::{ModelComponents, ModelLoader, Part};
use darkroom::run::Runner;
use darkroom::run::candle::{CandleRunner, Precision};
use darkroom::run::gpu::Element;
use darkroom::run::gpu::Gpu;
use darkroom::run::gpu::kernels::attention::Attended;
use darkroom::run::gpu::lower::{Task, TaskKind, lower};
use darkroom::run::gpu::runner::GpuRunner;
use darkroom::weights::WeightType;
use gpu::gpu;
use numbers::assert_close;
use pollster::block_on;

/// Largest difference allowed of one run of a graph, relative to the largest value.
const F32: f32 = 2e-4;
const F16: f32 = 0.05;

/// A fixed sequence of numbers that look random.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// From `low` to `high`.
    fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.next() as usize % (high - low + 1)
    }

    /// Values from -1 to 1 that an f16 holds.
    fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.next() % 2049) as f32 / 1024.0 - 1.0).collect()
    }
}

/// A tiny model on a runner.
struct Loaded<R: Runner> {
    runner: R,
    model: ModelComponents<R>,
}

impl<R: Runner> Loaded<R> {
    fn new(runner: R, folder: &Folder) -> Self {
        let model = block_on(ModelLoader::new(folder, &runner).load(&mut |_| true)).unwrap();
        Loaded { runner, model }
    }

    /// Runs a graph on values for each of its inputs and gives the outputs, one behind the other.
    fn run(&self, part: Part, graph: Graph, inputs: &[(String, Vec<f32>, Vec<usize>)]) -> Vec<f32> {
        let weights = block_on(self.model.part(&self.runner, part, &mut |_| true)).unwrap();
        let program = block_on(self.runner.prepare(graph)).unwrap();
        let tensors: Vec<_> = inputs.iter().map(|(_, x, shape)| self.runner.upload(x, shape).unwrap()).collect();
        let inputs: Vec<_> = inputs.iter().zip(&tensors).map(|((name, ..), tensor)| (name.as_str(), tensor)).collect();
        let outputs = block_on(self.runner.run(&program, &weights, &inputs, &mut |_| true)).unwrap();
        outputs.iter().flat_map(|output| block_on(self.runner.download(output)).unwrap()).collect()
    }
}

/// A version's tiny model on both runners.
struct Both {
    version: &'static str,
    cpu: Loaded<CandleRunner>,
    gpu: Loaded<GpuRunner>,
    tolerance: f32,
}

impl Both {
    fn new(gpu: Gpu, version: &'static str, element: Element) -> Self {
        let dir = tempfile::tempdir().unwrap();
        tiny::write_model(version, dir.path(), tiny::Style::F16);
        let folder = Folder::open(dir.path()).unwrap();
        Both {
            version,
            cpu: Loaded::new(CandleRunner::cpu(Precision::F32), &folder),
            gpu: Loaded::new(GpuRunner::new(gpu, element).unwrap(), &folder),
            tolerance: if element == Element::F32 { F32 } else { F16 },
        }
    }

    /// Runs one graph on both.
    fn check(&self, what: &str, part: Part, graph: &Graph, dice: &mut Dice) {
        let inputs: Vec<(String, Vec<f32>, Vec<usize>)> = graph
            .inputs()
            .map(|(name, shape, _)| {
                let n_values = shape.iter().product();
                // A time step is not between -1 and 1.
                let values = if name == "timestep" { vec![501.0; n_values] } else { dice.values(n_values) };
                (name.to_string(), values, shape.to_vec())
            })
            .collect();
        let expected = self.cpu.run(part, graph.clone(), &inputs);
        let got = self.gpu.run(part, graph.clone(), &inputs);
        assert_close(&format!("{}: {what}", self.version), &got, &expected, self.tolerance);
    }

    fn check_unet(&self, shape: UNetShape, dice: &mut Dice) {
        let config = &self.cpu.model.configs.unet;
        self.check(&format!("unet of {shape:?}"), Part::Unet, &step_graph(config, shape).unwrap(), dice);
    }

    /// The parts around the UNet, for latents of a size.
    fn check_the_rest(&self, shape: UNetShape, dice: &mut Dice) {
        let UNetShape { batch, height, width, n_context } = shape;
        let (unet, vae) = (&self.cpu.model.configs.unet, &self.cpu.model.configs.vae);
        let prompt = prompt_graph(unet, batch, n_context).unwrap();
        self.check(&format!("prompt of {batch}x{n_context} tokens"), Part::Unet, &prompt, dice);
        let decoder = decoder_graph(vae, 1, height, width).unwrap();
        self.check(&format!("decoder of {height}x{width} latents"), Part::VaeDecoder, &decoder, dice);
        let [height, width] = [height, width].map(|side| side * vae.factor());
        let encoder = encoder_graph(vae, 1, height, width).unwrap();
        self.check(&format!("encoder of {height}x{width} pixels"), Part::VaeEncoder, &encoder, dice);
    }
}

fn shape(batch: usize, height: usize, width: usize, n_context: usize) -> UNetShape {
    UNetShape { batch, height, width, n_context }
}

/// A time embedding that is added to one pixel has the shape of a residual, and was taken for one: it was read from a
/// place that nothing had written.
#[test]
fn the_lowest_level_may_be_one_pixel() {
    for element in [Element::F32, Element::F16] {
        // Two levels, four and three.
        for version in ["v1-5", "v1-5-deep", "xl"] {
            let Some(gpu) = gpu() else { return };
            let both = Both::new(gpu, version, element);
            let side = both.cpu.model.configs.unet.downsampling();
            let mut dice = Dice(1);
            both.check_unet(shape(1, side, side, 77), &mut dice);
            both.check_unet(shape(2, side, side, 77), &mut dice);
        }
    }
}

/// Sizes by lot, the same in every run, mostly far from square and odd on some level.
#[test]
fn whole_models_agree_at_any_small_size() {
    let mut dice = Dice(14);
    for version in ["v1-5-deep", "v2-1", "xl", "xl-inpaint"] {
        for element in [Element::F32, Element::F16] {
            let Some(gpu) = gpu() else { return };
            let both = Both::new(gpu, version, element);
            for _ in 0..4 {
                let [height, width] = [(); 2].map(|()| {
                    let most = [3, 21][dice.between(0, 1)];
                    dice.between(1, most)
                });
                let n_context = [1, 2, 77][dice.between(0, 2)];
                both.check_unet(shape(dice.between(1, 2), height, width, n_context), &mut dice);
            }
            let [height, width] = [(); 2].map(|()| dice.between(1, 3));
            both.check_the_rest(shape(dice.between(1, 2), height, width, dice.between(1, 3)), &mut dice);
        }
    }
}

/// What a task is made of, without its sizes.
fn outline(graph: &Graph, task: &Task) -> String {
    let name = &graph.node(task.node).name;
    match &task.kind {
        TaskKind::Product(product) => format!(
            "{name}: {} sources, {} weights, {} vectors, {:?}{}{}{}",
            product.x.len(),
            product.weights.len(),
            product.vectors(graph).len(),
            product.activation,
            if product.time_embedding.is_some() { ", time embedding" } else { "" },
            if product.geglu { ", geglu" } else { "" },
            if product.residual.is_some() { ", residual" } else { "" },
        ),
        TaskKind::GroupNorm(normed) => format!("{name}: group norm of {}, silu {}", normed.x.len(), normed.silu),
        TaskKind::Attention(Attended { packed: Some(_), .. }) => format!("{name}: packed attention"),
        TaskKind::LayerNorm { .. } | TaskKind::Attention(_) | TaskKind::Elementwise(_) => {
            format!("{name}: {}", graph.node(task.node).op.name())
        }
    }
}

/// Weights are packed once for all sizes, so what is fused must not depend on one; and a task reads what is given, a weight
/// or what a task before it wrote.
#[test]
fn what_is_fused_depends_on_no_size() {
    for version in ["v1-5", "v1-5-deep", "v2-1", "xl", "xl-inpaint"] {
        let dir = tempfile::tempdir().unwrap();
        tiny::write_model(version, dir.path(), tiny::Style::F16);
        let cpu = Loaded::new(CandleRunner::cpu(Precision::F32), &Folder::open(dir.path()).unwrap());
        let config = &cpu.model.configs.unet;
        let side = config.downsampling();
        let outlines = |shape| {
            let graph = step_graph(config, shape).unwrap();
            let lowered = lower(&graph, WeightType::F16);
            let given = |id: darkroom::graph::NodeId| matches!(graph.node(id).op, Op::Input(_) | Op::Weight);
            let mut written = std::collections::HashSet::new();
            for task in &lowered.tasks {
                for read in task.reads(&graph, &lowered.values) {
                    let name = &graph.node(read).name;
                    assert!(
                        given(read) || written.contains(&read),
                        "{version}, {shape:?}: {} reads {name}, which nothing has written",
                        outline(&graph, task)
                    );
                }
                written.insert(lowered.values.root(task.out));
            }
            let outlines: Vec<String> = lowered.tasks.iter().map(|task| outline(&graph, task)).collect();
            (outlines, lowered.weights(&graph))
        };
        let expected = outlines(shape(2, 4 * side, 3 * side, 77));
        for (batch, height, width, n_context) in [
            (1, side, side, 77),
            (2, side, side, 1),
            (1, side, 5 * side, 2),
            (2, 3 * side, side, 77),
            (1, 1, 1, 1),
            (2, 1, 2 * side + 1, 77),
            (1, 4 * side - 1, 3, 77),
        ] {
            let shape = shape(batch, height, width, n_context);
            let got = outlines(shape);
            for (got, expected) in got.0.iter().zip(&expected.0) {
                assert_eq!(got, expected, "{version}, {shape:?}");
            }
            assert_eq!(got.0.len(), expected.0.len(), "{version}, {shape:?}");
            assert!(got.1 == expected.1, "{version}, {shape:?}: weights are packed otherwise");
        }
    }
}
