//! Benchmarks: one component of a model, or one operation of it, timed on any runner, with weights that are given or
//! random. What the page `bench.html` and the benches under `benches/` have in common.
//!
//! Nothing here compares or prints: who calls it decides what stands beside a figure.

mod ops;
mod random;

pub use ops::{OpCase, OpTime, ops};
pub use random::{RandomWeights, values};

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use web_time::Instant;

use crate::error::{Error, Result};
use crate::graph::{Graph, InputKind, WeightSpec};
use crate::model::clip::{self, ClipOutputs};
use crate::model::config::{ClipTextConfig, UNet2DConditionConfig, VaeConfig};
use crate::model::unet::{self, UNetShape};
use crate::model::vae;
use crate::run::Runner;
use crate::weights::Weights;

/// Tokens of a prompt that is no longer than CLIP reads at once.
const N_CONTEXT: usize = 77;

/// A timestep in the middle of a schedule.
const TIMESTEP: f32 = 500.0;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum Part {
    /// All layers of a text encoder and its final layer norm.
    TextEncoder,
    /// One denoising step. What depends on the prompt alone is computed while loading, as for a picture.
    Unet,
    /// Latents to a picture.
    VaeDecoder,
}

/// How large it is. Height and width are those of the latents, and mean nothing to a text encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Batch B: 2 with classifier-free guidance.
    pub batch: usize,
    /// Height of the latents.
    pub height: usize,
    /// Width of the latents.
    pub width: usize,
}

/// The graphs of what is timed.
#[derive(Clone, Debug)]
pub struct Case {
    /// What weights are loaded for.
    layers: Vec<Graph>,
    /// Runs once, while loading; its outputs are inputs of the next by name.
    prompt: Option<Graph>,
    /// Is timed.
    timed: Graph,
}

/// An input that a caller may give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseInput {
    /// Its name in the graph.
    pub name: String,
    /// Its shape, channels-last.
    pub shape: Vec<usize>,
    /// Floats or ids.
    pub kind: InputKind,
}

impl Case {
    /// A component with the `config.json` that its checkpoint has.
    ///
    /// # Errors
    /// [`Error::Config`] when the text describes no such component, [`Error::Shape`] when the sizes do not fit it.
    pub fn new(part: Part, config: &str, sizes: Sizes) -> Result<Self> {
        let Sizes { batch, height, width } = sizes;
        match part {
            Part::TextEncoder => {
                let config = ClipTextConfig::from_json(config, "text_encoder/config.json")?;
                let outputs = ClipOutputs { skip: 0, final_layer_norm: true, pooled: false };
                let timed = clip::text_encoder(&config, "text_encoder", batch, outputs)?;
                Ok(Case { layers: vec![timed.clone()], prompt: None, timed })
            }
            Part::Unet => {
                let config = UNet2DConditionConfig::from_json(config, "unet/config.json")?;
                let timed = unet::step_graph(&config, UNetShape { batch, height, width, n_context: N_CONTEXT })?;
                let prompt = Some(unet::prompt_graph(&config, batch, N_CONTEXT)?);
                Ok(Case { layers: unet::graphs(&config)?, prompt, timed })
            }
            Part::VaeDecoder => {
                let config = VaeConfig::from_json("AutoencoderKL", config, "vae/config.json")?;
                let timed = vae::decoder_graph(&config, batch, height, width)?;
                Ok(Case { layers: vec![timed.clone()], prompt: None, timed })
            }
        }
    }

    /// The graph that is timed.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.timed
    }

    /// Floating-point operations of one timed run.
    #[must_use]
    pub fn flops(&self) -> u64 {
        self.timed.flops()
    }

    /// The tensors that a checkpoint has to provide.
    #[must_use]
    pub fn weights(&self) -> Vec<WeightSpec> {
        self.layers.iter().flat_map(Graph::weights).collect()
    }

    /// What [`Bench::load`] takes: the inputs of both graphs, without what the first computes for the second.
    #[must_use]
    pub fn inputs(&self) -> Vec<CaseInput> {
        let computed: Vec<&str> =
            self.prompt.iter().flat_map(|graph| &graph.outputs).map(|output| output.name.as_str()).collect();
        let all = self.prompt.iter().chain([&self.timed]).flat_map(Graph::inputs);
        all.filter(|(name, ..)| !computed.contains(name))
            .map(|(name, shape, kind)| CaseInput { name: name.to_owned(), shape: shape.to_vec(), kind })
            .collect()
    }
}

/// A case on a runner, loaded and ready.
pub struct Bench<R: Runner> {
    runner: Rc<R>,
    graph: Graph,
    weights: R::Weights,
    program: R::Program,
    inputs: Vec<(String, R::Tensor)>,
    result: Option<R::Tensor>,
}

impl<R: Runner> Bench<R> {
    /// Loads a case. Inputs that are not in `given` are random; ids are small.
    ///
    /// # Errors
    /// What the runner says of weights or graphs, or [`Error::Request`] for a given input that there is not, or of another
    /// length.
    pub async fn load(runner: Rc<R>, case: &Case, weights: &Weights, given: &[(String, Vec<f32>)]) -> Result<Self> {
        Self::load_within(runner, case, weights, given, u64::MAX).await
    }

    /// [`Bench::load`] with at most so many bytes of weights on the device at once ([`Runner::load_within`]).
    ///
    /// # Errors
    /// As there.
    pub async fn load_within(
        runner: Rc<R>,
        case: &Case,
        weights: &Weights,
        given: &[(String, Vec<f32>)],
        most_bytes: u64,
    ) -> Result<Self> {
        let wanted = case.inputs();
        if let Some((name, _)) = given.iter().find(|(name, _)| wanted.iter().all(|input| input.name != *name)) {
            let names: Vec<&str> = wanted.iter().map(|input| input.name.as_str()).collect();
            return Err(Error::Request { field: "input", got: name.clone(), expected: names.join(", ") });
        }
        let weights = runner.load_within(&case.layers, weights, most_bytes, &mut |_| true).await?;
        let mut inputs = Vec::new();
        for CaseInput { name, shape, kind } in wanted {
            let n: usize = shape.iter().product();
            let given = given.iter().find(|(given, _)| *given == name).map(|(_, values)| values.clone());
            let values = given.unwrap_or_else(|| match (name.as_str(), kind) {
                ("timestep", _) => vec![TIMESTEP; n],
                (_, InputKind::Ids) => (0..n).map(|i| (i % 7) as f32).collect(),
                _ => values(n),
            });
            if values.len() != n {
                return Err(Error::Request {
                    field: "input",
                    got: format!("{} values for {name}", values.len()),
                    expected: format!("{n}: its shape is {shape:?}"),
                });
            }
            let tensor = match kind {
                InputKind::Ids => {
                    let ids: Vec<u32> = values.iter().map(|value| *value as u32).collect();
                    runner.upload_ids(&ids, &shape)?
                }
                InputKind::Values | InputKind::Computed => runner.upload(&values, &shape)?,
            };
            inputs.push((name, tensor));
        }
        if let Some(graph) = &case.prompt {
            let names: Vec<String> = graph.outputs.iter().map(|output| output.name.clone()).collect();
            let program = runner.prepare(graph.clone()).await?;
            let given: Vec<_> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
            let computed = runner.run(&program, &weights, &given, &mut |_| true).await?;
            inputs.extend(names.into_iter().zip(computed));
        }
        let program = runner.prepare(case.timed.clone()).await?;
        Ok(Bench { runner, graph: case.timed.clone(), weights, program, inputs, result: None })
    }

    /// One run. Gives its seconds, until the device is done; nothing is read back.
    ///
    /// # Errors
    /// What the runner says.
    pub async fn run(&mut self) -> Result<f64> {
        self.run_with(&mut |_| true).await
    }

    async fn run_with(&mut self, progress: &mut dyn FnMut(u64) -> bool) -> Result<f64> {
        // The last run's result is given back first, as a picture's step does it.
        self.result = None;
        let inputs: Vec<_> = self.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let start = Instant::now();
        let mut results = self.runner.run(&self.program, &self.weights, &inputs, progress).await?;
        let secs = start.elapsed().as_secs_f64();
        self.result = Some(results.swap_remove(0));
        Ok(secs)
    }

    /// One run on a runner that does one operation after another, as the candle runner does: the operations by kind and
    /// shapes, those that took longest first. Empty on a runner that does not tell.
    ///
    /// # Errors
    /// What the runner says.
    pub async fn time_ops(&mut self) -> Result<Vec<OpTime>> {
        let mut ticks = Vec::new();
        let mut last = Instant::now();
        self.run_with(&mut |_| {
            ticks.push(last.elapsed().as_secs_f64());
            last = Instant::now();
            true
        })
        .await?;
        Ok(ops::times(&self.graph, &ticks))
    }

    /// What the last run computed, channels-last; nothing before the first.
    ///
    /// # Errors
    /// What the runner says.
    pub async fn result(&self) -> Result<Vec<f32>> {
        match &self.result {
            Some(tensor) => self.runner.download(tensor).await,
            None => Ok(Vec::new()),
        }
    }

    /// The runner, for what it counts.
    pub fn runner(&self) -> &R {
        &self.runner
    }
}
