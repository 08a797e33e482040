//! What the UNet computes from the prompts alone: once for the request where they stay the same, and where they change over
//! the steps when a call first needs it.

use std::rc::Rc;

use super::setup::Setup;
use crate::error::Result;
use crate::model::unet::{UNetShape, guidance_embedding, prompt_graph};
use crate::pipeline::components::Part;
use crate::pipeline::prompt::{Encoded, Mix};
use crate::run::Runner;

/// Conditionings that are kept: of XL each takes some 50 MB.
const MAX_KEPT: usize = 4;

/// Inputs of the UNet by name.
pub(super) type Inputs<T> = Vec<(String, T)>;

/// The texts of a run, and its inputs: two of them where the UNet runs for one after the other.
type Kept<T> = (Vec<usize>, Rc<Vec<Inputs<T>>>);

/// The conditioning of one run of the UNet's graph for each pair of texts, or for one text without guidance.
pub(super) struct Conditioner<R: Runner> {
    /// By number of text; empty where all that is asked for is kept.
    texts: Vec<Encoded<R::Tensor>>,
    /// For so many texts at once.
    shape: UNetShape,
    /// Whether the UNet runs for one text after the other.
    apart: bool,
    /// The latest is the last.
    kept: Vec<Kept<R::Tensor>>,
}

/// The texts of a mix by runs of `batch`; the last run is filled up.
pub(super) fn runs_of(mix: &Mix, batch: usize) -> Vec<Vec<usize>> {
    let fill = |run: &[usize]| {
        let mut run = run.to_vec();
        run.resize(batch, run.last().copied().unwrap_or_default());
        run
    };
    mix.texts.chunks(batch).map(fill).collect()
}

impl<R: Runner> Conditioner<R> {
    /// Computes what the first call needs, and what all need where that is little.
    pub async fn new(
        setup: &Setup<R>,
        texts: Vec<Encoded<R::Tensor>>,
        shape: UNetShape,
        report: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Self> {
        let mut wanted: Vec<Vec<usize>> = Vec::new();
        for run in setup.mixes().flat_map(|mix| runs_of(&mix, shape.batch)) {
            if !wanted.contains(&run) {
                wanted.push(run);
            }
        }
        let mut conditioner = Conditioner { texts, shape, apart: false, kept: Vec::new() };
        for run in wanted.iter().take(MAX_KEPT) {
            conditioner.inputs(setup, run, report).await?;
        }
        if wanted.len() <= MAX_KEPT {
            conditioner.texts.clear();
        }
        Ok(conditioner)
    }

    /// From now on inputs are for one text at a time.
    pub fn set_apart(&mut self, runner: &R) -> Result<()> {
        self.apart = true;
        for (run, inputs) in &mut self.kept {
            if let [both] = &inputs[..] {
                *inputs = Rc::new(each(runner, both, run.len())?);
            }
        }
        Ok(())
    }

    /// Drops all inputs, which are not asked for any more.
    pub fn forget(&mut self) {
        self.texts.clear();
        self.kept.clear();
    }

    /// The inputs for the texts of a run.
    pub async fn inputs(
        &mut self,
        setup: &Setup<R>,
        run: &[usize],
        report: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Rc<Vec<Inputs<R::Tensor>>>> {
        if let Some(at) = self.kept.iter().position(|(known, _)| known == run) {
            let found = self.kept.remove(at);
            let inputs = Rc::clone(&found.1);
            self.kept.push(found);
            return Ok(inputs);
        }
        let both = setup.condition(&joined(&*setup.runner, &self.texts, run)?, self.shape, report).await?;
        let inputs = Rc::new(if self.apart { each(&*setup.runner, &both, run.len())? } else { vec![both] });
        if self.kept.len() == MAX_KEPT {
            self.kept.remove(0);
        }
        self.kept.push((run.to_vec(), Rc::clone(&inputs)));
        Ok(inputs)
    }
}

/// Texts as one batch.
fn joined<R: Runner>(runner: &R, texts: &[Encoded<R::Tensor>], run: &[usize]) -> Result<Encoded<R::Tensor>> {
    if let [only] = run {
        return Ok(texts[*only].clone());
    }
    let states: Vec<&R::Tensor> = run.iter().map(|idx| &texts[*idx].hidden_states).collect();
    let pooled: Vec<&R::Tensor> = run.iter().filter_map(|idx| texts[*idx].pooled.as_ref()).collect();
    let pooled = if pooled.is_empty() { None } else { Some(runner.concat(&pooled, 0)?) };
    Ok(Encoded { hidden_states: runner.concat(&states, 0)?, pooled })
}

/// A batch's inputs as those of its texts.
fn each<R: Runner>(runner: &R, both: &Inputs<R::Tensor>, n: usize) -> Result<Vec<Inputs<R::Tensor>>> {
    let of_text = |idx: usize| {
        let part = |(name, value): &(String, R::Tensor)| Ok((name.clone(), runner.slice(value, 0, idx, 1)?));
        both.iter().map(part).collect()
    };
    (0..n).map(of_text).collect()
}

impl<R: Runner> Setup<R> {
    /// Everything the UNet computes from prompts alone.
    async fn condition(
        &self,
        encoded: &Encoded<R::Tensor>,
        shape: UNetShape,
        report: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Inputs<R::Tensor>> {
        let (runner, config) = (&*self.runner, &self.inputs.config);
        let graph = prompt_graph(&self.model.configs.unet, shape.batch, shape.n_context)?;
        let names: Vec<String> = graph.outputs.iter().map(|output| output.name.clone()).collect();
        let program = runner.prepare(graph).await?;
        let weights = self.model.part_with(runner, Part::Unet, &self.loras, &mut |_| report(0)).await?;
        // original size, crop, target size, each as height and width or top and left
        let (original_width, original_height) = config.original_size.unwrap_or((config.width, config.height));
        let (left, top) = config.crop.unwrap_or((0, 0));
        let ids = [original_height, original_width, top, left, config.height, config.width].map(|n| n as f32);
        let time_ids = runner.upload(&ids.repeat(shape.batch), &[6 * shape.batch])?;
        let mut inputs = vec![("encoder_hidden_states", &encoded.hidden_states)];
        if let Some(pooled) = &encoded.pooled {
            inputs.extend([("text_embeds", pooled), ("time_ids", &time_ids)]);
        }
        let guidance = match self.model.configs.unet.time_cond_proj_dim {
            Some(dim) => {
                let embedding = guidance_embedding(config.guidance_scale, dim).repeat(shape.batch);
                Some(runner.upload(&embedding, &[shape.batch, dim])?)
            }
            None => None,
        };
        if let Some(guidance) = &guidance {
            inputs.push(("timestep_cond", guidance));
        }
        let values = runner.run(&program, &weights, &inputs, report).await?;
        Ok(names.into_iter().zip(values).collect())
    }
}
