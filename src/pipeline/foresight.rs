//! What a picture will need of a runner, told before its weights are loaded.

use crate::error::Result;
use crate::graph::Graph;
use crate::model::unet::{UNetShape, prompt_graph, step_graph};
use crate::model::vae::encoder_graph;
use crate::pipeline::configs::ModelConfigs;
use crate::pipeline::prompt::{Prompts, text_graphs};
use crate::request::SDConfig;
use crate::run::Runner;

/// Tells a runner which graphs it will be asked for, so that its kernels are compiled while the weights load. Whoever
/// loads weights before there is a [`crate::pipeline::Generation`], which does the same, calls this.
///
/// A request that the model cannot draw is passed over: the generation refuses it.
pub fn foresee<R: Runner>(runner: &R, configs: &ModelConfigs, config: &SDConfig, from_picture: bool) {
    if config.validate_for(configs.sides()).is_ok()
        && let Ok(graphs) = graphs(configs, config, from_picture)
    {
        runner.foresee(&graphs);
    }
}

/// The graphs of a picture in the order of their use.
fn graphs(configs: &ModelConfigs, config: &SDConfig, from_picture: bool) -> Result<Vec<Graph>> {
    let factor = configs.vae.factor();
    let (height, width) = (config.height / factor, config.width / factor);
    let batch = if configs.is_guided(config.guidance_scale) { 2 } else { 1 };
    let n_chunks = Prompts::new(configs, config)?.n_chunks();
    let n_context = configs.text_encoders[0].config.max_position_embeddings * n_chunks;
    let mut graphs = text_graphs(configs, config.skipped_layers(configs.version()).0).collect::<Result<Vec<_>>>()?;
    if from_picture {
        graphs.push(configs.vae_graph(encoder_graph(&configs.vae, 1, config.height, config.width)?));
    }
    graphs.push(prompt_graph(&configs.unet, batch, n_context)?);
    graphs.push(step_graph(&configs.unet, UNetShape { batch, height, width, n_context })?);
    graphs.push(configs.decoder_graph(height, width)?);
    Ok(graphs)
}
