//! How a predicted picture is held in bounds: `clip_sample` and `thresholding` of a scheduler config. This is the only
//! arithmetic on data here, because the bound of the second depends on the data.

/// The bound of a predicted picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Between minus this and this.
    Clip(f64),
    /// Dynamic thresholding (arXiv 2205.11487, section 2.3): the values are cut at [`Limit::dynamic_bound`] and divided
    /// by it.
    Dynamic {
        /// Which share of the magnitudes stays below the bound, 0 to 1.
        ratio: f64,
        /// The largest bound.
        max: f64,
    },
}

impl Limit {
    /// The bound for one picture's values in the dynamic form: the quantile of their magnitudes, between linearly as
    /// torch has it, and held between 1 and `max`.
    #[must_use]
    pub fn dynamic_bound(values: &[f32], ratio: f64, max: f64) -> f64 {
        let mut magnitudes: Vec<f32> = values.iter().map(|value| value.abs()).collect();
        magnitudes.sort_by(f32::total_cmp);
        let Some(last) = magnitudes.len().checked_sub(1) else { return 1.0 };
        let position = ratio.clamp(0.0, 1.0) * last as f64;
        let (low, high) = (position.floor() as usize, position.ceil() as usize);
        let share = (position - position.floor()) as f32;
        let quantile = magnitudes[low] + share * (magnitudes[high] - magnitudes[low]);
        f64::from(quantile).max(1.0).min(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.quantile(torch.tensor([3., -1., 2., -4.]).abs(), q)`, held in the bounds.
    #[test]
    fn the_bound_is_a_quantile_of_magnitudes() {
        let values = [3.0, -1.0, 2.0, -4.0];
        assert_eq!(Limit::dynamic_bound(&values, 0.5, 10.0), 2.5);
        assert_eq!(Limit::dynamic_bound(&values, 1.0, 10.0), 4.0);
        assert_eq!(Limit::dynamic_bound(&values, 1.0, 2.0), 2.0);
        assert_eq!(Limit::dynamic_bound(&[0.1, 0.2], 0.9, 10.0), 1.0);
        assert_eq!(Limit::dynamic_bound(&values, 0.5, 0.5), 0.5);
    }
}
