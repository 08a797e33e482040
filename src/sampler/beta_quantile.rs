//! Quantiles of the beta distribution with both parameters 0.6, for the noise levels of `use_beta_sigmas`.
//!
//! The distribution function is its power series on the lower half, and the rest follows from symmetry; bisection
//! inverts it to the last digit. Other parameters are not here: diffusers has no option for them.

/// Both parameters of the distribution (arXiv 2407.12173).
const SHAPE: f64 = 0.6;
/// The complete beta function of (0.6, 0.6).
const COMPLETE: f64 = 2.4153442080024723;
/// Halvings of an interval of length 1/2 until nothing changes any more.
const HALVINGS: usize = 120;

/// The value below which the share `share` (0 to 1) of the distribution lies.
pub(super) fn beta_quantile(share: f64) -> f64 {
    if share > 0.5 {
        return 1.0 - beta_quantile(1.0 - share);
    }
    let (mut low, mut high) = (0.0_f64, 0.5_f64);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if share_below(middle) < share {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The regularised incomplete beta function (DLMF 8.17.8), for `x` up to 1/2.
fn share_below(x: f64) -> f64 {
    let (mut term, mut sum) = (1.0, 0.0);
    for n in 0..80 {
        sum += term;
        let n = f64::from(n);
        term *= x * (2.0 * SHAPE + n) / (SHAPE + 1.0 + n);
    }
    (x * (1.0 - x)).powf(SHAPE) / (SHAPE * COMPLETE) * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.beta.ppf` of scipy 1.17.1.
    #[test]
    fn quantiles_are_those_of_scipy() {
        for (share, expected) in [
            (0.0, 0.0),
            (0.001, 1.855873851745199e-05),
            (0.05, 0.012554456873611399),
            (0.25, 0.17568037865269498),
            (0.5, 0.5000000000000001),
            (0.7, 0.7659829961247643),
            (0.9473684210526316, 0.9863289184355307),
            (0.999, 0.9999814412614826),
            (1.0, 1.0),
        ] {
            let got = beta_quantile(share);
            assert!((got - expected).abs() < 1e-14, "{share}: {got} instead of {expected}");
        }
    }
}
