//! Noise between that of two seeds, as AUTOMATIC1111 mixes a seed with a variation seed.
//!
//! Spherical interpolation keeps the noise's standard deviation, which a weighted sum does not. AUTOMATIC1111 gives its
//! `slerp` the noise of one picture, C H W, and normalises over dimension 1: each column of each channel is turned by
//! the angle between the two columns, and not the noise as a whole. Its pictures are repeated only by doing the same.
//!
//! Source: AUTOMATIC1111/stable-diffusion-webui 1.10 `modules/rng.py` (`slerp`, `ImageRNG.first`), in f32 as there.

/// Above this mean of the columns' cosines AUTOMATIC1111 takes a weighted sum: the seeds are the same.
const SAME: f32 = 0.9995;

/// `own` turned towards `other` by `strength`, 0 to 1: both C H W, `height` values in a column and `width` columns.
///
/// Two differences from the source. It gives NaN where two columns are parallel, which those of one value always are (a
/// picture of 8 pixels in height); here they are summed with the weights `1 - strength` and `strength`. And its sum for equal
/// seeds has the weights the other way around, which rounding alone can show.
///
/// # Panics
/// If the lengths differ or are no multiple of `height * width`.
#[must_use]
pub fn mix(own: &[f32], other: &[f32], strength: f64, height: usize, width: usize) -> Vec<f32> {
    assert_eq!(own.len(), other.len(), "noise of two seeds");
    assert!(height * width > 0 && own.len().is_multiple_of(height * width), "columns of {height}, {width} a channel");
    let cosines: Vec<f32> = own
        .chunks_exact(height * width)
        .zip(other.chunks_exact(height * width))
        .flat_map(|(own, other)| (0..width).map(move |column| cosine(own, other, column, width)))
        .collect();
    let strength = strength as f32;
    let sum = |own: f32, other: f32| (1.0 - strength) * own + strength * other;
    if cosines.iter().sum::<f32>() / cosines.len() as f32 > SAME {
        return own.iter().zip(other).map(|(&own, &other)| sum(own, other)).collect();
    }
    let mixed = own.iter().zip(other).enumerate().map(|(i, (&own, &other))| {
        let cosine = cosines[i / (height * width) * width + i % width];
        let angle = cosine.clamp(-1.0, 1.0).acos();
        let sine = angle.sin();
        // The sine of pi in f32 is no zero, but as good as one.
        if sine.abs() < 1e-6 {
            return sum(own, other);
        }
        ((1.0 - strength) * angle).sin() / sine * own + (strength * angle).sin() / sine * other
    });
    mixed.collect()
}

/// The cosine of the angle between the same column of two channels, H W.
fn cosine(own: &[f32], other: &[f32], column: usize, width: usize) -> f32 {
    let values = |channel: &[f32]| channel[column..].iter().step_by(width).copied().collect::<Vec<f32>>();
    let length = |values: &[f32]| values.iter().map(|x| x * x).sum::<f32>().sqrt();
    let (own, other) = (values(own), values(other));
    let (own_length, other_length) = (length(&own), length(&other));
    own.iter().zip(&other).map(|(a, b)| (a / own_length) * (b / other_length)).sum()
}
