//! Prompts to conditioning: tokens, hidden states, pooled states, and what the UNet computes from them once a prompt.

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::model::clip::{self, ClipOutputs};
use crate::pipeline::components::{ModelComponents, Part};
use crate::pipeline::configs::ModelConfigs;
use crate::pipeline::loras::ActiveLoras;
use crate::request::LongPrompt;
use crate::run::Runner;

/// What became of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptReport {
    /// Tokens in the prompt, without the two that begin and end it.
    pub n_tokens: usize,
    /// The text that did not fit, if any was cut.
    pub truncated: Option<String>,
}

/// Text as the UNet takes it.
#[derive(Clone)]
pub(super) struct Encoded<T> {
    /// \[1,77 n_chunks,D\]
    pub hidden_states: T,
    /// \[1,P\], for XL.
    pub pooled: Option<T>,
}

/// The tokens of a text for each encoder, by chunk.
pub(super) struct Tokens {
    chunks: Vec<Vec<Vec<u32>>>,
    pub report: PromptReport,
}

/// Tokenizes for every encoder of the model.
pub(super) fn tokenize<R: Runner>(model: &ModelComponents<R>, text: &str, long: LongPrompt) -> Result<Tokens> {
    let mut chunks = Vec::new();
    let mut report = PromptReport::default();
    for encoder in &model.configs.text_encoders {
        let encoding = encoder.tokenizer.encode(text)?;
        report.n_tokens = report.n_tokens.max(encoding.n_tokens);
        match long {
            LongPrompt::Truncate => {
                report.truncated = report.truncated.or(encoding.truncated);
                chunks.push(vec![encoding.ids]);
            }
            LongPrompt::Chunks => chunks.push(encoder.tokenizer.encode_chunks(text)?),
        }
    }
    Ok(Tokens { chunks, report })
}

/// What is read of a text encoder: see [`Tokens::encode`].
fn outputs_of(configs: &ModelConfigs, idx: usize, clip_skip: usize) -> ClipOutputs {
    let is_xl = configs.unet.text_time.is_some();
    let is_last = idx + 1 == configs.text_encoders.len();
    ClipOutputs { skip: clip_skip + usize::from(is_xl), final_layer_norm: !is_xl, pooled: is_xl && is_last }
}

/// The graphs of the text encoders, in order.
pub(super) fn text_graphs(configs: &ModelConfigs, clip_skip: usize) -> impl Iterator<Item = Result<Graph>> {
    configs.text_encoders.iter().enumerate().map(move |(idx, encoder)| {
        clip::text_encoder(&encoder.config, encoder.name, 1, outputs_of(configs, idx, clip_skip))
    })
}

impl Tokens {
    /// Checks that every token has a row in its encoder's table of embeddings: a word may have been added to the tokenizer
    /// alone. What a device does with a row that is not there differs, so it is not asked.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] that names the word.
    pub fn check<R: Runner>(&self, model: &ModelComponents<R>) -> Result<()> {
        for (chunks, encoder) in self.chunks.iter().zip(&model.configs.text_encoders) {
            let missing = chunks.iter().flatten().find_map(|id| Some((id, encoder.n_rows_without(*id)?)));
            if let Some((id, n_rows)) = missing {
                let word = encoder.tokenizer.token(*id).unwrap_or_default();
                let reason = format!(
                    "the word {word:?} has the id {id}, but {} has embeddings for the ids 0 to {} only: use the text \
                     encoder that was trained with the word, or leave the word out",
                    encoder.name,
                    n_rows - 1
                );
                let file = encoder.name.replace("text_encoder", "tokenizer");
                return Err(Error::Tokenizer { file, reason });
            }
        }
        Ok(())
    }

    /// Chunks of the longest encoding.
    pub fn n_chunks(&self) -> usize {
        self.chunks.iter().map(Vec::len).max().unwrap_or(1)
    }

    /// Fills up to `n_chunks` with the chunk of an empty text.
    pub fn pad_to<R: Runner>(&mut self, model: &ModelComponents<R>, n_chunks: usize) -> Result<()> {
        for (chunks, encoder) in self.chunks.iter_mut().zip(&model.configs.text_encoders) {
            while chunks.len() < n_chunks {
                chunks.push(encoder.tokenizer.encode("")?.ids);
            }
        }
        Ok(())
    }

    /// Runs the text encoders. XL takes the penultimate states of both without the final norm, and the pooled state of
    /// the second; SD 1 and 2 take the normed last state. `clip_skip` leaves out that many more layers.
    pub async fn encode<R: Runner>(
        &self,
        runner: &R,
        model: &ModelComponents<R>,
        loras: &ActiveLoras,
        clip_skip: usize,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Encoded<R::Tensor>> {
        let mut states = Vec::new();
        let mut pooled = None;
        let mut done = 0;
        for (idx, encoder) in model.configs.text_encoders.iter().enumerate() {
            let outputs = outputs_of(&model.configs, idx, clip_skip);
            let graph = clip::text_encoder(&encoder.config, encoder.name, 1, outputs)?;
            let flops = graph.flops();
            let program = runner.prepare(graph).await?;
            let weights = model.part_with(runner, Part::TextEncoder(idx), loras, &mut |_| progress(done)).await?;
            let mut by_chunk = Vec::new();
            for ids in &self.chunks[idx] {
                let rows = [encoder.pooled_position(ids) as u32];
                let ids = runner.upload_ids(ids, &[1, ids.len()])?;
                let rows = runner.upload_ids(&rows, &[1])?;
                let inputs = [("input_ids", &ids), ("pooled_rows", &rows)];
                let mut results = runner.run(&program, &weights, &inputs, &mut |n| progress(done + n)).await?;
                done += flops;
                if outputs.pooled {
                    // The first chunk's pooled state stands for the prompt.
                    pooled = pooled.or(results.pop());
                }
                by_chunk.extend(results);
            }
            states.push(runner.concat(&by_chunk.iter().collect::<Vec<_>>(), 1)?);
        }
        Ok(Encoded { hidden_states: runner.concat(&states.iter().collect::<Vec<_>>(), 2)?, pooled })
    }
}
