//! CLIP's text encoder (transformers `CLIPTextModel`, `CLIPTextModelWithProjection`) as a graph.
//!
//! Tokenizing and padding are not done here, nor are the rows of the tables of embeddings looked up: a prompt uses a few of
//! some 49,000, so that the caller reads them ([`TOKEN_TABLE`], [`POSITION_TABLE`]) and no device holds the tables.

use crate::error::{Error, Result};
use crate::graph::{Graph, GraphBuilder, NodeId, Path, WeightSpec};
use crate::model::config::ClipTextConfig;

/// The tensor \[vocab_size,D\] with a row for each token.
pub const TOKEN_TABLE: &str = "text_model.embeddings.token_embedding.weight";
/// The tensor \[T,D\] with a row for each position.
pub const POSITION_TABLE: &str = "text_model.embeddings.position_embedding.weight";

/// Which states of the encoder are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipOutputs {
    /// Layers left out at the end: 0 reads the last layer's state, 1 the penultimate one.
    pub skip: usize,
    /// Whether the state goes through the final layer norm, as SD 1 and 2 do and XL does not.
    pub final_layer_norm: bool,
    /// Whether the pooled state is wanted too (projected where the class has a projection).
    pub pooled: bool,
}

/// Columns that a masked encoder adds to each head; a multiple of 8, which keeps rows aligned.
const MASK_COLUMNS: usize = 8;
/// What a hidden token's scores get less, about: enough for a softmax, little enough for 16 bits.
const HIDDEN: f32 = -1e4;

/// The encoder as a graph: input `embeddings` \[B,T,D\], the sums of the tokens' and the positions' rows, and, when pooled,
/// `pooled_rows` \[B\] (b * T + place of the first end-of-text); outputs `hidden_states` \[B,T,D\] and `pooled` \[B,D or projection_dim\].
///
/// # Errors
/// When more layers are skipped than there are.
pub fn text_encoder(config: &ClipTextConfig, name: &str, batch: usize, outputs: ClipOutputs) -> Result<Graph> {
    encoder(config, name, batch, outputs, false)
}

/// The same for one text in which tokens may be hidden from all others: further inputs `mask_queries` and `mask_keys`, of
/// which [`mask_inputs`] gives the values. Attention has no mask of its own; the scores of hidden keys are lowered through
/// columns that are added to queries and keys.
///
/// # Errors
/// As [`text_encoder`].
pub fn masked_text_encoder(config: &ClipTextConfig, name: &str, outputs: ClipOutputs) -> Result<Graph> {
    encoder(config, name, 1, outputs, true)
}

/// The shape of both inputs of a mask, and their values where the tokens at `hidden` are not attended to.
#[must_use]
pub fn mask_inputs(config: &ClipTextConfig, hidden: &[usize]) -> ([usize; 4], Vec<f32>, Vec<f32>) {
    let (n_tokens, n_heads) = (config.max_position_embeddings, config.num_attention_heads);
    let shape = [1, n_tokens, n_heads, MASK_COLUMNS];
    let mut queries = vec![0.0; shape.iter().product()];
    let mut keys = queries.clone();
    let of_token = n_heads * MASK_COLUMNS;
    queries.iter_mut().step_by(MASK_COLUMNS).for_each(|x| *x = 1.0);
    for token in hidden {
        let columns = &mut keys[token * of_token..(token + 1) * of_token];
        columns.iter_mut().step_by(MASK_COLUMNS).for_each(|x| *x = HIDDEN);
    }
    (shape, queries, keys)
}

fn encoder(config: &ClipTextConfig, name: &str, batch: usize, outputs: ClipOutputs, masked: bool) -> Result<Graph> {
    let n_layers = config.num_hidden_layers;
    if outputs.skip >= n_layers {
        return Err(Error::Request {
            field: "clip_skip",
            got: outputs.skip.to_string(),
            expected: format!("{name} has {n_layers} layers, so at most {} can be skipped", n_layers - 1),
        });
    }
    let mut g = GraphBuilder::new(name);
    let root = Path::root();
    let w = root.pp("text_model");
    let (n_tokens, width) = (config.max_position_embeddings, config.hidden_size);

    let mut h = g.input("embeddings", &[batch, n_tokens, width]);

    let mask = masked.then(|| {
        let shape = [batch, n_tokens, config.num_attention_heads, MASK_COLUMNS];
        [g.input("mask_queries", &shape), g.input("mask_keys", &shape)]
    });
    let mut states = vec![h];
    for layer in 0..n_layers {
        h = encoder_layer(&mut g, &w.pp("encoder.layers").pp(layer), h, config, mask)?;
        states.push(h);
    }

    let mut state = states[n_layers - outputs.skip];
    if outputs.final_layer_norm {
        state = g.layer_norm(state, &w.pp("final_layer_norm"), config.layer_norm_eps)?;
    }
    g.output_computed("hidden_states", state);
    if outputs.pooled {
        let last = g.layer_norm(h, &w.pp("final_layer_norm"), config.layer_norm_eps)?;
        let rows = g.reshape(last, &[batch * n_tokens, width])?;
        let pooled_rows = g.input_ids("pooled_rows", &[batch]);
        let mut pooled = g.gather(pooled_rows, rows, &w.pp("pooled"))?;
        if config.has_projection() {
            pooled = g.linear(pooled, &root.pp("text_projection"), config.projection_dim, false)?;
        }
        g.output_computed("pooled", pooled);
    }
    Ok(g.finish())
}

/// Attention over keys of which some are hidden: see [`masked_text_encoder`]. q, k, v \[B,T,D\].
fn masked_attention(
    g: &mut GraphBuilder,
    [q, k, v]: [NodeId; 3],
    [queries, keys]: [NodeId; 2],
    n_heads: usize,
    w: &Path,
) -> Result<NodeId> {
    let shape = g.shape(q).to_vec();
    let [batch, n_tokens, width] = shape[..] else {
        return Err(Error::Shape { node: w.as_str().to_owned(), op: "attention", reason: format!("of {shape:?}") });
    };
    let size = width / n_heads;
    let wide = size + MASK_COLUMNS;
    // Scores are divided by the root of the heads' width, which is not their own here.
    let q = g.scale(q, (wide as f64 / size as f64).sqrt(), w);
    let nothing = g.scale(queries, 0.0, w);
    let mut widen = |x: NodeId, columns: NodeId| -> Result<NodeId> {
        let heads = g.reshape(x, &[batch, n_tokens, n_heads, size])?;
        let heads = g.concat(&[heads, columns], 3, w)?;
        g.reshape(heads, &[batch, n_tokens, n_heads * wide])
    };
    let (q, k, v) = (widen(q, queries)?, widen(k, keys)?, widen(v, nothing)?);
    let h = g.attention([q, k, v], n_heads, true, false, w)?;
    let h = g.reshape(h, &[batch, n_tokens, n_heads, wide])?;
    let h = g.slice(h, 3, 0, size, w)?;
    g.reshape(h, &shape)
}

/// One layer: causal self-attention and MLP, each behind a layer norm and added to its input. x \[B,T,D\].
fn encoder_layer(
    g: &mut GraphBuilder,
    w: &Path,
    x: NodeId,
    config: &ClipTextConfig,
    mask: Option<[NodeId; 2]>,
) -> Result<NodeId> {
    let (width, eps) = (config.hidden_size, config.layer_norm_eps);
    let activation = config.activation().map_err(|reason| Error::Config { file: "text encoder".into(), reason })?;

    let attn = w.pp("self_attn");
    let h = g.layer_norm(x, &w.pp("layer_norm1"), eps)?;
    let q = g.linear(h, &attn.pp("q_proj"), width, true)?;
    let k = g.linear(h, &attn.pp("k_proj"), width, true)?;
    let v = g.linear(h, &attn.pp("v_proj"), width, true)?;
    let h = match mask {
        None => g.attention([q, k, v], config.num_attention_heads, true, false, &attn)?,
        Some(mask) => masked_attention(g, [q, k, v], mask, config.num_attention_heads, &attn)?,
    };
    let h = g.linear(h, &attn.pp("out_proj"), width, true)?;
    let x = g.add(h, x, &attn)?;

    let mlp = w.pp("mlp");
    let h = g.layer_norm(x, &w.pp("layer_norm2"), eps)?;
    let h = g.linear(h, &mlp.pp("fc1"), config.intermediate_size, true)?;
    let h = g.activation(h, activation);
    let h = g.linear(h, &mlp.pp("fc2"), width, true)?;
    g.add(h, x, &mlp)
}

/// The graph that uses every tensor of the encoder's checkpoint but the tables.
///
/// # Errors
/// When the config does not describe a model.
pub fn whole_graph(config: &ClipTextConfig, name: &str) -> Result<Graph> {
    text_encoder(config, name, 1, ClipOutputs { skip: 0, final_layer_norm: true, pooled: true })
}

/// Every tensor of the encoder's checkpoint, also those that a given set of outputs does not touch.
///
/// # Errors
/// When the config does not describe a model.
pub fn weights(config: &ClipTextConfig) -> Result<Vec<WeightSpec>> {
    let width = config.hidden_size;
    let tables = [(TOKEN_TABLE, config.vocab_size), (POSITION_TABLE, config.max_position_embeddings)];
    let mut specs: Vec<WeightSpec> =
        tables.iter().map(|&(name, n_rows)| WeightSpec { name: name.to_owned(), shape: vec![n_rows, width] }).collect();
    specs.extend(whole_graph(config, "text_encoder")?.weights());
    Ok(specs)
}
