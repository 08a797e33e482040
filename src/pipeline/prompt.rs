//! Prompts to conditioning: tokens, hidden states, pooled states, and what the UNet computes from them once a prompt.

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::model::clip::{self, ClipOutputs};
use crate::pipeline::components::{ModelComponents, Part};
use crate::pipeline::configs::{ModelConfigs, TextEncoder};
use crate::pipeline::loras::ActiveLoras;
use crate::prompt::tokens::{self, Masked};
use crate::prompt::{self, Chunk, Parsed, PromptSyntax, Role, Section, Tokenized, emphasis};
use crate::request::{ClipSkipCounting, LongPrompt, SDConfig};
use crate::run::Runner;

/// What became of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptReport {
    /// Tokens in the prompt, without those that begin and end chunks.
    pub n_tokens: usize,
    /// Chunks that it was encoded in.
    pub n_chunks: usize,
    /// The text that did not fit, if any was cut.
    pub truncated: Option<String>,
    /// What the prompt's syntax does not know, in sentences without a full stop.
    pub notes: Vec<String>,
}

/// Text as the UNet takes it.
#[derive(Clone)]
pub(super) struct Encoded<T> {
    /// \[1,77 n_chunks,D\]
    pub hidden_states: T,
    /// \[1,P\], for XL.
    pub pooled: Option<T>,
}

/// One text as each encoder reads it.
pub(super) struct Text {
    by_encoder: Vec<Tokenized>,
    /// What the pooled state is of, where that is not the first chunk.
    pooled_ids: Option<Vec<u32>>,
}

/// The texts of one prompt over the steps: AUTOMATIC1111 encodes them together.
pub(super) struct Group {
    texts: Vec<Text>,
    /// How often each is in the batch that is encoded.
    n_uses: Vec<usize>,
    /// Where the texts are summed to one: its stretches ([`prompt::Part::sections`]).
    sections: Vec<Section>,
}

impl Group {
    /// Chunks of the longest text, or of the one that they are summed to.
    fn n_chunks(&self) -> usize {
        self.longest(&|tokenized| tokenized.chunks.len()).max(1)
    }

    /// The largest length of any text, as `len` measures it; of the one that they are summed to, the sum over its stretches.
    fn longest(&self, len: &dyn Fn(&Tokenized) -> usize) -> usize {
        let of_text = |idx: usize| self.texts[idx].by_encoder.iter().map(len).max().unwrap_or(0);
        let of_section = |section: &Section| section.shares.iter().map(|(idx, _)| of_text(*idx)).max().unwrap_or(0);
        match &self.sections[..] {
            [] => (0..self.texts.len()).map(of_text).max().unwrap_or(0),
            sections => sections.iter().map(of_section).sum(),
        }
    }
}

/// The UNet's output for a step: the sum of those for several texts, each with a factor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mix {
    /// Numbers of texts, the negative prompt's first.
    pub texts: Vec<usize>,
    pub factors: Vec<f64>,
}

/// Both prompts of a request, read and divided into tokens.
pub(super) struct Prompts {
    positive: Parsed,
    negative: Parsed,
    syntax: PromptSyntax,
    /// Of the negative prompt first, then one for each prompt that `AND` joins.
    groups: Vec<Group>,
    skips: (usize, usize),
    pub reports: [PromptReport; 2],
}

/// Whether weights change nothing of a prompt's states.
fn is_weighted(text: &Tokenized) -> bool {
    text.chunks.iter().any(Chunk::is_weighted) || !text.masked.is_empty()
}

/// The syntax' own number of calls of the UNet.
fn n_calls(configs: &ModelConfigs, config: &SDConfig) -> usize {
    let sampler = configs.scheduler.with_optional_sampler(config.sampler).sampler();
    config.steps * sampler.map_or(1, |sampler| sampler.kind.calls_per_step())
}

/// Notes on words of embeddings that ComfyUI takes for text, since `embedding:` does not stand before them.
fn about_bare_words(configs: &ModelConfigs, text: &str) -> Vec<String> {
    let text = prompt::without_named_embeddings(text);
    let words = configs.text_encoders.first().map(|encoder| encoder.tokenizer.words_in(&text)).unwrap_or_default();
    words.iter().map(|word| format!("{0} is text in ComfyUI's syntax: write embedding:{0}", word.name)).collect()
}

impl Prompts {
    /// Reads and tokenizes both prompts for every encoder of the model.
    ///
    /// # Errors
    /// As [`prompt::parse`] and [`prompt::tokenize`].
    pub fn new(configs: &ModelConfigs, config: &SDConfig) -> Result<Self> {
        let syntax = config.prompt_syntax;
        let is_cut = config.long_prompt == LongPrompt::Truncate;
        let n_calls = n_calls(configs, config);
        let negative_text = config.negative_prompt.as_deref().unwrap_or("");
        let positive = prompt::parse(&config.prompt, syntax, Role::Prompt, n_calls)?;
        let negative = prompt::parse(negative_text, syntax, Role::Negative, n_calls)?;
        let mut groups = Vec::new();
        let mut reports = [PromptReport::default(), PromptReport::default()];
        for (parsed, raw, report) in [(&negative, negative_text, 1), (&positive, &config.prompt, 0)] {
            let report = &mut reports[report];
            report.notes.clone_from(&parsed.notes);
            if syntax == PromptSyntax::Comfy {
                report.notes.extend(about_bare_words(configs, raw));
            }
            for part in &parsed.parts {
                let mut texts = Vec::new();
                for pieces in &part.variants {
                    let mut text = Text::new(configs, pieces, syntax, is_cut)?;
                    if let (PromptSyntax::Compel, Some(last)) = (syntax, configs.text_encoders.last()) {
                        // As compel pools: the prompt as it was written, signs and all, cut.
                        text.pooled_ids = Some(last.tokenizer.encode(raw)?.ids);
                    }
                    report.add(&text);
                    texts.push(text);
                }
                let n_uses = (0..texts.len()).map(|variant| part.n_uses(variant)).collect();
                let group = Group { texts, n_uses, sections: part.sections.clone() };
                report.n_tokens = report.n_tokens.max(group.longest(&|tokenized| tokenized.n_tokens));
                report.n_chunks = report.n_chunks.max(group.n_chunks());
                if let Some(encoder) = configs.text_encoders.first() {
                    tokens::check_chunks(group.n_chunks(), report.n_tokens, &encoder.tokenizer)?;
                }
                groups.push(group);
            }
        }
        let version = configs.version();
        if let (Some(layer), ClipSkipCounting::A1111) = (config.clip_skip, config.clip_skip_counting)
            && layer > 1
            && config.skipped_layers(version).0 == 0
            && (layer > 2 || !version.is_xl())
        {
            let own = "the model is read at the layer that it was trained with";
            reports[0].notes.push(format!("clip skip {layer} has no effect: {own}"));
        }
        Ok(Prompts { positive, negative, syntax, groups, skips: config.skipped_layers(version), reports })
    }

    /// Checks that every token has a row in its encoder's table of embeddings: a word may have been added to the tokenizer
    /// alone. What a device does with a row that is not there differs, so it is not asked.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] that names the word.
    pub fn check(&self, configs: &ModelConfigs, uses_negative: bool) -> Result<()> {
        let groups = if uses_negative { &self.groups[..] } else { &self.groups[1..] };
        for text in groups.iter().rev().flat_map(|group| &group.texts) {
            for (tokenized, encoder) in text.by_encoder.iter().zip(&configs.text_encoders) {
                check_ids(tokenized, encoder)?;
            }
        }
        Ok(())
    }

    /// Chunks of the longest text: all others are filled up with the chunk of an empty text, or before that, where
    /// AUTOMATIC1111 joins prompts, as [`Prompts::encode`] says.
    pub fn n_chunks(&self) -> usize {
        longest(&self.groups)
    }

    /// What a call of the UNet, from 0, is for. `guidance_scale` is `None` without guidance.
    pub fn mix(&self, call_idx: usize, guidance_scale: Option<f64>) -> Mix {
        let scale = guidance_scale.unwrap_or(1.0);
        let mut first = self.n_negative();
        let (mut texts, mut factors) = (Vec::new(), Vec::new());
        let mut total = 0.0;
        for part in &self.positive.parts {
            texts.push(first + part.variant_at(call_idx));
            factors.push(scale * part.weight);
            total += part.weight;
            first += part.n_texts();
        }
        if guidance_scale.is_some() || total != 1.0 {
            texts.insert(0, self.negative.parts[0].variant_at(call_idx));
            factors.insert(0, 1.0 - scale * total);
        }
        Mix { texts, factors }
    }

    /// The negative prompt's texts.
    pub fn n_negative(&self) -> usize {
        self.negative.parts.iter().map(prompt::Part::n_texts).sum()
    }

    /// The prompts that `AND` joins.
    pub fn n_parts(&self) -> usize {
        self.positive.parts.len()
    }

    /// Whether states are weighted or summed, which the host does.
    fn is_weighted(&self) -> bool {
        self.groups.iter().any(|group| !group.sections.is_empty())
            || self.groups.iter().flat_map(|group| &group.texts).flat_map(|text| &text.by_encoder).any(is_weighted)
    }

    /// Runs the text encoders for the negative prompt's texts, or for the prompt's. XL takes the penultimate states of both
    /// without the final norm, and the pooled state of the second; SD 1 and 2 take the normed last state. `clip_skip` leaves
    /// out that many more layers. Of prompts that `AND` joins, the shorter ones repeat their last state up to the longest.
    pub async fn encode<R: Runner>(
        &self,
        role: Role,
        runner: &R,
        model: &ModelComponents<R>,
        loras: &ActiveLoras,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Vec<Encoded<R::Tensor>>> {
        let (groups, clip_skip) = match role {
            Role::Negative => (&self.groups[..1], self.skips.1),
            Role::Prompt => (&self.groups[1..], self.skips.0),
        };
        let (n_chunks, on_host) = (self.n_chunks(), self.is_weighted());
        let n_joined = longest(groups);
        let configs = &model.configs;
        // By text and encoder.
        let mut states: Vec<Vec<R::Tensor>> = Vec::new();
        let mut pooled = Vec::new();
        let mut done = 0;
        for (idx, encoder) in configs.text_encoders.iter().enumerate() {
            let outputs = outputs_of(configs, idx, clip_skip);
            let texts = || groups.iter().flat_map(|group| &group.texts).map(|text| &text.by_encoder[idx]);
            let has_masks = texts().any(|text| !text.masked.is_empty());
            let graph = match has_masks {
                true => clip::masked_text_encoder(&encoder.config, encoder.name, outputs)?,
                false => clip::text_encoder(&encoder.config, encoder.name, 1, outputs)?,
            };
            let flops = graph.flops();
            let part = Part::TextEncoder(idx);
            let mut go_on = |_| progress(done);
            let weights = match has_masks {
                true => model.part_for(runner, part, &graph, loras, &mut go_on).await?,
                false => model.part_with(runner, part, loras, &mut go_on).await?,
            };
            let tables = model.text_embeddings(runner, idx, loras).await?;
            let program = runner.prepare(graph).await?;
            // The states of a chunk where the tokens at `hidden` are not attended to.
            let mut run = async |ids: &[u32], hidden: &[usize]| {
                let rows = [encoder.pooled_position(ids) as u32];
                let embeddings = tables.of(ids).await?;
                let embeddings = runner.upload(&embeddings, &[1, ids.len(), encoder.config.hidden_size])?;
                let rows = runner.upload_ids(&rows, &[1])?;
                let mut inputs = vec![("embeddings", &embeddings), ("pooled_rows", &rows)];
                let mask = if has_masks { Some(clip::mask_inputs(&encoder.config, hidden)) } else { None };
                let upload = |(shape, queries, keys): ([usize; 4], Vec<f32>, Vec<f32>)| {
                    Ok::<_, Error>([runner.upload(&queries, &shape)?, runner.upload(&keys, &shape)?])
                };
                let mask = mask.map(upload).transpose()?;
                if let Some([queries, keys]) = &mask {
                    inputs.extend([("mask_queries", queries), ("mask_keys", keys)]);
                }
                let results = runner.run(&program, &weights, &inputs, &mut |n| progress(done + n)).await?;
                done += flops;
                Ok::<_, Error>(results)
            };
            let empty = tokens::empty_chunk(&encoder.tokenizer);
            let moves_from_empty = on_host && matches!(self.syntax, PromptSyntax::Comfy | PromptSyntax::Compel);
            let empty_states = match moves_from_empty {
                true => Some(runner.download(&run(&empty.ids, &[]).await?.swap_remove(0)).await?),
                false => None,
            };
            let mut text_idx = 0;
            for group in groups {
                let mut by_text: Vec<Vec<R::Tensor>> = vec![Vec::new(); group.texts.len()];
                let n_pooled = pooled.len();
                let n_own = longest(std::slice::from_ref(group));
                for chunk_idx in 0..n_chunks {
                    if (n_own..n_joined).contains(&chunk_idx) {
                        for chunks in &mut by_text {
                            let Some(last) = chunks.last() else { continue };
                            let repeated = last_repeated(&runner.download(last).await?, empty.ids.len());
                            chunks.push(on_device(runner, &repeated, &empty)?);
                        }
                        continue;
                    }
                    let chunk_of = |text: &Text| text.by_encoder[idx].chunks.get(chunk_idx).unwrap_or(&empty).clone();
                    let chunks: Vec<Chunk> = group.texts.iter().map(chunk_of).collect();
                    let mut encoded = Vec::new();
                    for chunk in &chunks {
                        let mut results = run(&chunk.ids, &[]).await?;
                        if outputs.pooled && chunk_idx == 0 {
                            // The first chunk's pooled state stands for the prompt.
                            let of_chunk = results.pop();
                            pooled.extend(match &group.texts[encoded.len()].pooled_ids {
                                Some(ids) if *ids != chunk.ids => run(ids, &[]).await?.pop(),
                                _ => of_chunk,
                            });
                        }
                        encoded.push(results.swap_remove(0));
                    }
                    for (text, states) in group.texts.iter().zip(&mut encoded) {
                        let text = &text.by_encoder[idx];
                        let Some(chunk) = text.chunks.get(chunk_idx).filter(|_| !text.masked.is_empty()) else {
                            continue;
                        };
                        let whole = runner.download(states).await?;
                        let mut all = vec![(1.0, whole.clone())];
                        for Masked { share, places } in &text.masked {
                            all.push(match &places[chunk_idx][..] {
                                [] => (*share, whole.clone()),
                                hidden => {
                                    (*share, runner.download(&run(&chunk.ids, hidden).await?.swap_remove(0)).await?)
                                }
                            });
                        }
                        *states = on_device(runner, &emphasis::blended(&all), chunk)?;
                    }
                    if on_host {
                        let of_chunk =
                            ChunkStates { chunks: &chunks, n_uses: &group.n_uses, empty: empty_states.as_deref() };
                        of_chunk.weigh(runner, self.syntax, &mut encoded).await?;
                    }
                    by_text.iter_mut().zip(encoded).for_each(|(all, states)| all.push(states));
                }
                if let (false, Some(states_of_empty)) = (group.sections.is_empty(), &empty_states) {
                    // The pooled state is that of the prompt as it was written, whichever text it is computed for.
                    pooled.truncate(n_pooled + usize::from(outputs.pooled));
                    by_text = vec![summed(runner, group, idx, &by_text, (states_of_empty, &empty), n_chunks).await?];
                }
                for chunks in &by_text {
                    let joined = runner.concat(&chunks.iter().collect::<Vec<_>>(), 1)?;
                    if states.len() == text_idx {
                        states.push(Vec::new());
                    }
                    states[text_idx].push(joined);
                    text_idx += 1;
                }
            }
        }
        let mut pooled = pooled.into_iter();
        let of_text = |by_encoder: &Vec<R::Tensor>| {
            let hidden_states = runner.concat(&by_encoder.iter().collect::<Vec<_>>(), 2)?;
            Ok(Encoded { hidden_states, pooled: pooled.next() })
        };
        states.iter().map(of_text).collect()
    }
}

/// The same chunk of a group's texts.
struct ChunkStates<'a> {
    chunks: &'a [Chunk],
    n_uses: &'a [usize],
    /// The states of the empty text, \[T,D\].
    empty: Option<&'a [f32]>,
}

impl ChunkStates<'_> {
    /// Applies weights to states \[1,T,D\]. All come from the host after it, also those without weights: a device may hold
    /// what it computed in another type.
    async fn weigh<R: Runner>(&self, runner: &R, syntax: PromptSyntax, encoded: &mut [R::Tensor]) -> Result<()> {
        let mut ratio = 1.0;
        if syntax == PromptSyntax::A1111 && self.chunks.iter().any(Chunk::is_weighted) {
            let (mut all, mut weighted) = (0.0, 0.0);
            for ((states, chunk), &n) in encoded.iter().zip(self.chunks).zip(self.n_uses) {
                let sums = emphasis::sums(&runner.download(states).await?, &chunk.weights);
                (all, weighted) = (all + n as f64 * sums.0, weighted + n as f64 * sums.1);
            }
            ratio = (all / weighted) as f32;
        }
        for (states, chunk) in encoded.iter_mut().zip(self.chunks) {
            let mut values = runner.download(states).await?;
            match (syntax, self.empty) {
                (PromptSyntax::A1111, _) if ratio != 1.0 || chunk.is_weighted() => {
                    emphasis::multiply(&mut values, &chunk.weights, ratio);
                }
                (_, Some(empty)) => emphasis::from_empty(&mut values, empty, &chunk.weights),
                _ => {}
            }
            *states = on_device(runner, &values, chunk)?;
        }
        Ok(())
    }
}

/// Chunks of the longest text.
fn longest(groups: &[Group]) -> usize {
    groups.iter().map(Group::n_chunks).max().unwrap_or(1)
}

/// The chunks of the one text that a group's texts are summed to, for the encoder of number `idx`: each of a stretch's texts,
/// which ends with empty chunks where another one is longer, times its share.
async fn summed<R: Runner>(
    runner: &R,
    group: &Group,
    idx: usize,
    by_text: &[Vec<R::Tensor>],
    (states_of_empty, empty): (&[f32], &Chunk),
    n_chunks: usize,
) -> Result<Vec<R::Tensor>> {
    let mut chunks = Vec::new();
    for section in &group.sections {
        let len = |(text, _): &(usize, f64)| group.texts[*text].by_encoder[idx].chunks.len();
        let states_of = |text: usize, chunk_idx: usize| &by_text[text][chunk_idx];
        for chunk_idx in 0..section.shares.iter().map(len).max().unwrap_or(0) {
            let mut sum = vec![0.0_f32; states_of_empty.len()];
            for &(text, share) in &section.shares {
                let states = runner.download(states_of(text, chunk_idx)).await?;
                sum.iter_mut().zip(states).for_each(|(sum, x)| *sum += x * share as f32);
            }
            if section.weight != 1.0 {
                let weight = section.weight as f32;
                sum.iter_mut().zip(states_of_empty).for_each(|(x, empty)| *x = empty + (*x - empty) * weight);
            }
            chunks.push(on_device(runner, &sum, empty)?);
        }
    }
    while chunks.len() < n_chunks {
        chunks.push(on_device(runner, states_of_empty, empty)?);
    }
    Ok(chunks)
}

/// The last of T states \[T,D\], as often as there are states.
fn last_repeated(states: &[f32], n_tokens: usize) -> Vec<f32> {
    let width = states.len() / n_tokens.max(1);
    states[states.len() - width..].repeat(n_tokens)
}

/// States of a chunk, \[1,T,D\].
fn on_device<R: Runner>(runner: &R, values: &[f32], chunk: &Chunk) -> Result<R::Tensor> {
    let n_tokens = chunk.ids.len();
    runner.upload(values, &[1, n_tokens, values.len() / n_tokens.max(1)])
}

impl Text {
    fn new(configs: &ModelConfigs, pieces: &[prompt::Piece], syntax: PromptSyntax, is_cut: bool) -> Result<Self> {
        let of_encoder = |encoder: &TextEncoder| prompt::tokenize(pieces, syntax, &encoder.tokenizer, is_cut);
        let by_encoder = configs.text_encoders.iter().map(of_encoder).collect::<Result<Vec<_>>>()?;
        Ok(Text { by_encoder, pooled_ids: None })
    }
}

impl PromptReport {
    fn add(&mut self, text: &Text) {
        for tokenized in &text.by_encoder {
            self.n_tokens = self.n_tokens.max(tokenized.n_tokens);
            self.n_chunks = self.n_chunks.max(tokenized.chunks.len());
            self.truncated = self.truncated.take().or_else(|| tokenized.truncated.clone());
            for name in &tokenized.unknown {
                let line = format!("embedding:{name} is left out: there is no such embedding");
                if !self.notes.contains(&line) {
                    self.notes.push(line);
                }
            }
        }
    }
}

/// What a prompt became, on the host.
#[derive(Clone, Debug)]
pub struct States {
    /// \[77 n_chunks,D\]
    pub hidden_states: Vec<f32>,
    /// \[P\], for XL.
    pub pooled: Option<Vec<f32>>,
}

/// The texts of one of a request's prompts, encoded: what a [`crate::pipeline::Generation`] computes first, for comparison
/// with other programs.
///
/// # Errors
/// As [`crate::pipeline::Generation::step`].
pub async fn encode_prompt<R: Runner>(
    runner: &R,
    model: &ModelComponents<R>,
    config: &SDConfig,
    role: Role,
) -> Result<Vec<States>> {
    let prompts = Prompts::new(&model.configs, config)?;
    prompts.check(&model.configs, true)?;
    let mut all = Vec::new();
    let loras = model.activate(&config.loras)?;
    for encoded in prompts.encode(role, runner, model, &loras, &mut |_| true).await? {
        let pooled = match &encoded.pooled {
            Some(pooled) => Some(runner.download(pooled).await?),
            None => None,
        };
        all.push(States { hidden_states: runner.download(&encoded.hidden_states).await?, pooled });
    }
    Ok(all)
}

/// How many tokens a prompt has, and how many its chunks hold: for counters.
///
/// # Errors
/// As [`prompt::parse`] and [`prompt::tokenize`].
pub fn count_tokens(
    configs: &ModelConfigs,
    text: &str,
    syntax: PromptSyntax,
    long: LongPrompt,
) -> Result<(usize, usize)> {
    /// Enough for every text of a prompt that changes once or twice; how many calls there are is not known here.
    const N_CALLS: usize = 20;
    let encoder = &configs.text_encoders[0];
    let parsed = prompt::parse(text, syntax, Role::Prompt, N_CALLS)?;
    let (mut n_tokens, mut n_chunks) = (0, 1);
    for part in parsed.parts {
        let is_cut = long == LongPrompt::Truncate;
        let of_text = |pieces: &Vec<prompt::Piece>| {
            let by_encoder = vec![prompt::tokenize(pieces, syntax, &encoder.tokenizer, is_cut)?];
            Ok(Text { by_encoder, pooled_ids: None })
        };
        let texts = part.variants.iter().map(of_text).collect::<Result<_>>()?;
        let group = Group { texts, n_uses: Vec::new(), sections: part.sections };
        n_tokens = n_tokens.max(group.longest(&|tokenized| tokenized.n_tokens));
        n_chunks = n_chunks.max(group.n_chunks());
    }
    Ok((n_tokens, n_chunks * encoder.tokenizer.tokens_per_chunk()))
}

/// What is read of a text encoder: see [`Prompts::encode`].
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

/// See [`Prompts::check`].
fn check_ids(text: &Tokenized, encoder: &TextEncoder) -> Result<()> {
    let mut ids = text.chunks.iter().flat_map(|chunk| &chunk.ids);
    let missing = ids.find_map(|id| Some((id, encoder.n_rows_without(*id)?)));
    let Some((id, n_rows)) = missing else { return Ok(()) };
    let word = encoder.tokenizer.token(*id).unwrap_or_default();
    let reason = format!(
        "the word {word:?} has the id {id}, but {} has embeddings for the ids 0 to {} only: use the text encoder that was \
         trained with the word, or leave the word out",
        encoder.name,
        n_rows - 1
    );
    Err(Error::Tokenizer { file: encoder.name.replace("text_encoder", "tokenizer"), reason })
}
