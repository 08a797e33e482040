//! Attention, by blocks of queries whose scores stay in cache, by heads, or with all scores at once.

use rayon::prelude::*;

use super::math::exp_all;
use super::product::{Strided, matmul};
use super::time_slices::{EACH, Stopped, TimeSlices};

/// Queries whose scores are computed at once.
const ATTENTION_BLOCK: usize = 64;

/// How attention's scores are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    /// By blocks of queries: never more than a few rows of scores a thread.
    Flash,
    /// All the scores of this many heads at a time.
    Heads(usize),
    /// All at once.
    Whole,
}

/// The sizes of an attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionSizes {
    /// Batch B.
    pub batch: usize,
    /// Queries T.
    pub n_queries: usize,
    /// Keys S.
    pub n_keys: usize,
    /// Width D of all heads together.
    pub width: usize,
    /// Heads.
    pub heads: usize,
    /// Scores are multiplied by it.
    pub scale: f32,
    /// Hide later keys.
    pub causal: bool,
}

/// From so many values of keys in a head on, blocks have fewer queries, so that one has not more to do than with fewer keys.
const MANY_KEYS: usize = 1 << 22;

/// Queries of a block. Narrow heads keep theirs: for few rows and columns, and for one row, the product's library adds up in
/// another order.
pub(super) fn block_of(head_width: usize, n_queries: usize, n_keys: usize) -> usize {
    let n_times = (head_width * n_keys).div_ceil(MANY_KEYS).max(1).next_power_of_two();
    let block = (ATTENTION_BLOCK / n_times).max(8);
    if head_width > 64 && n_queries % block != 1 { block } else { ATTENTION_BLOCK }
}

/// q \[B,T,D\], k and v \[B,S,D\] → \[B,T,D\]; zeros where there are no keys.
///
/// # Errors
/// [`Stopped`]. Scores that are held by heads are not cut: a cancel is heard after those of the threads' heads.
pub fn attention(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    sizes: AttentionSizes,
    scores: Scores,
    time: &mut TimeSlices,
) -> Result<Vec<f32>, Stopped> {
    let AttentionSizes { batch, n_queries, n_keys, width, heads, .. } = sizes;
    let mut out = vec![0.0; batch * n_queries * width];
    if out.is_empty() || n_keys == 0 {
        return Ok(out);
    }
    let (queries_at_once, heads_at_once) = match scores {
        Scores::Flash => (block_of(width / heads, n_queries, n_keys), heads),
        Scores::Heads(n) => (n_queries, n.clamp(1, heads)),
        Scores::Whole => (n_queries, heads),
    };
    let n_blocks = n_queries.div_ceil(queries_at_once);
    let head_width = width / heads;
    for first_head in (0..heads).step_by(heads_at_once) {
        let n_heads = heads_at_once.min(heads - first_head);
        // Both products, and the exponentials.
        let cost = [queries_at_once, n_keys, 4 * head_width + 2 * EACH];
        time.slices(batch * n_heads * n_blocks, &cost, |tasks| {
            let computed = tasks.into_par_iter().map_init(Vec::new, |scores, task| {
                let block = task % n_blocks;
                let head = first_head + task / n_blocks % n_heads;
                let b = task / (n_blocks * n_heads);
                let first = block * queries_at_once;
                let n = queries_at_once.min(n_queries - first);
                let at = (b * n_queries + first) * width + head * head_width;
                let q = Strided { values: &q[at..], row: width, col: 1 };
                let kv = b * n_keys * width + head * head_width;
                let kt = Strided { values: &k[kv..], row: 1, col: width };
                scores.clear();
                scores.resize(n * n_keys, 0.0);
                matmul([n, n_keys, head_width], scores, false, q, kt, false);
                let mut sums = vec![0.0; n];
                for (row, (scores, sum)) in scores.chunks_exact_mut(n_keys).zip(&mut sums).enumerate() {
                    let visible = if sizes.causal { (first + row + 1).min(n_keys) } else { n_keys };
                    scores[visible..].fill(0.0);
                    *sum = exp_all(&mut scores[..visible], sizes.scale);
                }
                let p = Strided { values: scores, row: n_keys, col: 1 };
                let v = Strided { values: &v[kv..], row: width, col: 1 };
                let mut out = vec![0.0; n * head_width];
                matmul([n, head_width, n_keys], &mut out, false, p, v, false);
                // The division of the softmax, where there are fewest values.
                for (row, sum) in out.chunks_exact_mut(head_width).zip(&sums) {
                    let inverse = sum.recip();
                    row.iter_mut().for_each(|value| *value *= inverse);
                }
                (b, head, first, out)
            });
            let done: Vec<(usize, usize, usize, Vec<f32>)> = computed.collect();
            for (b, head, first, rows) in done {
                for (row, values) in rows.chunks_exact(head_width).enumerate() {
                    let at = (b * n_queries + first + row) * width + head * head_width;
                    out[at..at + head_width].copy_from_slice(values);
                }
            }
        })?;
    }
    Ok(out)
}
