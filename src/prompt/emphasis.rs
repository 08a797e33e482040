//! Weights applied to what a text encoder gave: states \[T,D\] of one chunk, a weight for each token.

/// The sum of all states, and that of the weighted ones.
#[must_use]
pub fn sums(states: &[f32], weights: &[f32]) -> (f64, f64) {
    let width = states.len() / weights.len().max(1);
    let of_token = |(token, weight): (&[f32], &f32)| {
        let sum: f64 = token.iter().map(|x| f64::from(*x)).sum();
        (sum, token.iter().map(|x| f64::from(*x * weight)).sum::<f64>())
    };
    let each = states.chunks_exact(width.max(1)).zip(weights).map(of_token);
    each.fold((0.0, 0.0), |(all, weighted), (sum, own)| (all + sum, weighted + own))
}

/// AUTOMATIC1111's: every state times its token's weight, then times `ratio`, which gives all states of the chunk the mean
/// that they had before.
pub fn multiply(states: &mut [f32], weights: &[f32], ratio: f32) {
    let width = states.len() / weights.len().max(1);
    for (token, weight) in states.chunks_exact_mut(width.max(1)).zip(weights) {
        token.iter_mut().for_each(|x| *x = *x * weight * ratio);
    }
}

/// ComfyUI's and compel's: every state moves away from, or towards, that of the empty prompt.
pub fn from_empty(states: &mut [f32], empty: &[f32], weights: &[f32]) {
    let width = (states.len() / weights.len().max(1)).max(1);
    let tokens = states.chunks_exact_mut(width).zip(empty.chunks_exact(width)).zip(weights);
    for ((token, empty), &weight) in tokens.filter(|(_, weight)| **weight != 1.0) {
        token.iter_mut().zip(empty).for_each(|(x, empty)| *x = (*x - empty) * weight + empty);
    }
}

/// The mean of several states, each with its share.
#[must_use]
pub fn blended(all: &[(f64, Vec<f32>)]) -> Vec<f32> {
    let total: f64 = all.iter().map(|(share, _)| share).sum();
    let n = all.first().map_or(0, |(_, states)| states.len());
    let mut sum = vec![0.0; n];
    for (share, states) in all {
        let share = share / total;
        sum.iter_mut().zip(states).for_each(|(sum, x)| *sum += f64::from(*x) * share);
    }
    sum.into_iter().map(|x| x as f32).collect()
}
