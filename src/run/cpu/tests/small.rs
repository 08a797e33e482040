//! Every operation at the smallest sizes, and of nothing, against its formula.

use super::*;
use crate::graph::Activation;

/// Sides that are taken.
const SIDES: [usize; 4] = [0, 1, 2, 3];

fn run(operation: impl FnOnce(&mut TimeSlices) -> Result<Vec<f32>, Stopped>) -> Vec<f32> {
    operation(&mut TimeSlices::new(&mut || true)).unwrap()
}

/// Compares with what was computed in 64 bits.
fn check(name: &str, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{name}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let difference = (f64::from(*got) - expected).abs();
        assert!(difference <= 2e-6 * (1.0 + expected.abs()), "{name}: value {i} is {got}, expected {expected}");
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

#[test]
fn linear_layers() {
    for m in SIDES {
        for n in SIDES {
            for k in [0, 1, 2, 3, 33] {
                let (x, weight, bias) = (values(m * k, 1), values(n * k, 2), values(n, 3));
                for bias in [None, Some(&*bias)] {
                    let got = run(|time| linear(&x, &weight, bias, [m, n, k], time));
                    let value = |i: usize| {
                        let (row, col) = (i / n, i % n);
                        let products = (0..k).map(|j| f64::from(x[row * k + j]) * f64::from(weight[col * k + j]));
                        bias.map_or(0.0, |bias| f64::from(bias[col])) + products.sum::<f64>()
                    };
                    check(&format!("{m}x{k} by {n}"), &got, &(0..m * n).map(value).collect::<Vec<_>>());
                }
            }
        }
    }
}

/// The formula of a convolution, value by value.
fn convolved(x: &[f32], weight: &[f32], bias: &[f32], sizes: ConvSizes) -> Vec<f64> {
    let ConvSizes { input: [_, height, width, channels], output, kernel, stride, pad, upsample } = sizes;
    let [full_h, full_w] = upsample.unwrap_or([height, width]);
    let shift = usize::from(upsample.is_some());
    let value = |i: usize| {
        let (out, col, row) = (i % output[3], i / output[3] % output[2], i / output[3] / output[2] % output[1]);
        let b = i / output[3] / output[2] / output[1];
        let mut sum = f64::from(bias[out]);
        for (ky, kx) in (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (ky, kx))) {
            let (y, x_in) = (row * stride + ky, col * stride + kx);
            if y < pad[0] || x_in < pad[1] || y - pad[0] >= full_h || x_in - pad[1] >= full_w {
                continue;
            }
            let at = ((b * height + ((y - pad[0]) >> shift)) * width + ((x_in - pad[1]) >> shift)) * channels;
            let taps = (ky * kernel + kx) * channels;
            for c in 0..channels {
                sum += f64::from(x[at + c]) * f64::from(weight[(taps + c) * output[3] + out]);
            }
        }
        sum
    };
    (0..output.iter().product()).map(value).collect()
}

#[test]
fn convolutions() {
    for (height, width) in SIDES.into_iter().flat_map(|height| SIDES.map(|width| (height, width))) {
        for (batch, channels, out_channels) in
            [(1, 1, 1), (2, 1, 3), (1, 3, 2), (3, 2, 1), (0, 2, 2), (2, 0, 2), (2, 2, 0)]
        {
            // Kernel, step, zeros on the top and on the left, on the other sides, and whether the picture is doubled.
            for (kernel, stride, before, after, is_doubled) in [
                (1, 1, 0, 0, false),
                (1, 1, 0, 1, false),
                (3, 1, 1, 1, false),
                (3, 2, 1, 1, false),
                (3, 2, 0, 1, false),
                (3, 1, 1, 1, true),
            ] {
                let full = |side: usize| if is_doubled { 2 * side } else { side };
                let out =
                    |side: usize| (full(side) + before + after).checked_sub(kernel).map_or(0, |over| over / stride + 1);
                let sizes = ConvSizes {
                    input: [batch, height, width, channels],
                    output: [batch, out(height), out(width), out_channels],
                    kernel,
                    stride,
                    pad: [before; 2],
                    upsample: is_doubled.then_some([2 * height, 2 * width]),
                };
                let x = values(batch * height * width * channels, 1);
                let weight = values(kernel * kernel * channels * out_channels, 2);
                let bias = values(out_channels, 3);
                let got = run(|time| conv2d(&x, &weight, &bias, sizes, time));
                check(&format!("{sizes:?}"), &got, &convolved(&x, &weight, &bias, sizes));
            }
        }
    }
}

/// The formula of attention; zeros where there are no keys.
fn attended([q, k, v]: [&[f32]; 3], sizes: AttentionSizes) -> Vec<f64> {
    let AttentionSizes { batch, n_queries, n_keys, width, heads, scale, causal } = sizes;
    let of_head = width / heads;
    let mut out = vec![0.0; batch * n_queries * width];
    for (i, out) in out.iter_mut().enumerate() {
        let (column, query, b) = (i % width, i / width % n_queries, i / width / n_queries);
        let head = column / of_head * of_head;
        let n_visible = if causal { n_keys.min(query + 1) } else { n_keys };
        let score = |key: usize| {
            let products = (head..head + of_head).map(|c| {
                f64::from(q[(b * n_queries + query) * width + c]) * f64::from(k[(b * n_keys + key) * width + c])
            });
            (f64::from(scale) * products.sum::<f64>()).exp()
        };
        let total: f64 = (0..n_visible).map(score).sum();
        *out = (0..n_visible).map(|key| score(key) / total * f64::from(v[(b * n_keys + key) * width + column])).sum();
    }
    out
}

#[test]
fn attentions() {
    for (n_queries, n_keys) in SIDES.into_iter().flat_map(|n_queries| SIDES.map(|n_keys| (n_queries, n_keys))) {
        for (batch, width, heads) in [(1, 1, 1), (2, 2, 1), (1, 2, 2), (3, 3, 3), (2, 6, 2), (0, 2, 1), (2, 0, 1)] {
            for causal in [false, true] {
                if causal && n_queries != n_keys {
                    continue;
                }
                let sizes = AttentionSizes { batch, n_queries, n_keys, width, heads, scale: 0.7, causal };
                let (q, [k, v]) =
                    (values(batch * n_queries * width, 1), [2, 3].map(|seed| values(batch * n_keys * width, seed)));
                let expected = attended([&q, &k, &v], sizes);
                for scores in [Scores::Flash, Scores::Heads(1), Scores::Heads(2), Scores::Whole] {
                    let got = run(|time| attention(&q, &k, &v, sizes, scores, time));
                    check(&format!("{sizes:?}, {scores:?}"), &got, &expected);
                }
            }
        }
    }
}

/// (x - mean) / deviation of some values.
fn normalised(x: &[f64], eps: f64) -> Vec<f64> {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let variance = x.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / x.len() as f64;
    x.iter().map(|value| (value - mean) / (variance + eps).sqrt()).collect()
}

#[test]
fn norms() {
    for rows in SIDES {
        for width in SIDES {
            let (x, weight, bias) = (values(rows * width, 1), values(width, 2), values(width, 3));
            let got = run(|time| layer_norm(&x, &weight, &bias, 1e-2, time));
            let of_row = |row: &[f64]| {
                let places = weight.iter().zip(&bias);
                let values = normalised(row, 1e-2).into_iter().zip(places);
                values.map(|(x, (weight, bias))| x * f64::from(*weight) + f64::from(*bias)).collect::<Vec<_>>()
            };
            let expected = wide(&x).chunks(width.max(1)).flat_map(of_row).collect::<Vec<_>>();
            check(&format!("layer norm of {rows}x{width}"), &got, &expected);
        }
    }
    for (batch, pixels) in SIDES.into_iter().flat_map(|batch| SIDES.map(|pixels| (batch, pixels))) {
        for (channels, groups) in [(0, 1), (1, 1), (2, 1), (2, 2), (3, 3), (6, 2)] {
            let (x, weight, bias) = (values(batch * pixels * channels, 1), values(channels, 2), values(channels, 3));
            for with_silu in [false, true] {
                let got = run(|time| group_norm(&x, &weight, &bias, batch, groups, 1e-2, with_silu, time));
                let of_group = channels / groups;
                let mut expected = vec![0.0; x.len()];
                for (b, group) in (0..batch).flat_map(|b| (0..groups).map(move |group| (b, group))) {
                    let at = |i: usize| (b * pixels + i / of_group) * channels + group * of_group + i % of_group;
                    let of_item: Vec<f64> = (0..pixels * of_group).map(|i| f64::from(x[at(i)])).collect();
                    for (i, value) in normalised(&of_item, 1e-2).into_iter().enumerate() {
                        let channel = at(i) % channels;
                        let value = value * f64::from(weight[channel]) + f64::from(bias[channel]);
                        expected[at(i)] = if with_silu { value / (1.0 + (-value).exp()) } else { value };
                    }
                }
                check(&format!("group norm of {batch}x{pixels}x{channels} in {groups} groups"), &got, &expected);
            }
        }
    }
}

/// x times the share of a normal distribution below x, by Simpson's rule.
fn gelu(x: f64) -> f64 {
    let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let step = x / 200.0;
    let inner: f64 = (1..200).map(|i| density(f64::from(i) * step) * if i % 2 == 0 { 2.0 } else { 4.0 }).sum();
    x * (0.5 + step / 3.0 * (density(0.0) + inner + density(x)))
}

#[test]
fn values_by_themselves() {
    type Formula = fn(f64) -> f64;
    let formulas: [(Activation, Formula); 5] = [
        (Activation::Silu, |x| x / (1.0 + (-x).exp())),
        (Activation::Gelu, gelu),
        (Activation::QuickGelu, |x| x / (1.0 + (-1.702 * x).exp())),
        (Activation::Relu, |x| x.max(0.0)),
        (Activation::Tanh, f64::tanh),
    ];
    for n in SIDES {
        let x = values(n, 1);
        for (activation, formula) in formulas {
            let got = run(|time| activate(&x, activation, time));
            check(&format!("{activation:?} of {n}"), &got, &wide(&x).into_iter().map(formula).collect::<Vec<_>>());
        }
        for rows in SIDES {
            let x = values(rows * 2 * n, 2);
            let value = |i: usize| {
                let at = i / n * 2 * n + i % n;
                f64::from(x[at]) * gelu(f64::from(x[at + n]))
            };
            let expected = (0..rows * n).map(value).collect::<Vec<_>>();
            check(&format!("geglu of {rows}x{n}"), &run(|time| geglu(&x, n, time)), &expected);
        }
        let (a, b) = (values(n, 3), values(n, 4));
        let sums = |bound: f64| {
            let sum = |(a, b): (&f32, &f32)| 2.0 * f64::from(*a) - 0.5 * f64::from(*b);
            a.iter().zip(&b).map(sum).map(|sum| sum.clamp(-bound, bound)).collect::<Vec<_>>()
        };
        check("lincomb", &lincomb(&[(2.0, &a), (-0.5, &b)], None), &sums(f64::INFINITY));
        check("lincomb, clamped", &lincomb(&[(2.0, &a), (-0.5, &b)], Some((-0.25, 0.25))), &sums(0.25));
        for half in SIDES {
            for flips in [false, true] {
                let angle = |i: usize| {
                    let frequency = 10_000f64.powf(-((i % half) as f64) / half as f64);
                    f64::from(a[i / (2 * half)]) * frequency
                };
                let value = |i: usize| {
                    let is_cosine = (i / half % 2 == 1) != flips;
                    if is_cosine { angle(i).cos() } else { angle(i).sin() }
                };
                let expected = (0..n * 2 * half).map(value).collect::<Vec<_>>();
                check("timestep embedding", &timestep_embedding(&a, 2 * half, flips, 0.0), &expected);
            }
        }
    }
    assert!(lincomb(&[], None).is_empty());
}

#[test]
fn sums_of_two() {
    for shape in SIDES.into_iter().flat_map(|h| SIDES.into_iter().flat_map(move |w| SIDES.map(|c| [h, w, c]))) {
        for repeats in 0..8 {
            // Bit by bit, whether a dimension of the other one is 1.
            let other = [0, 1, 2].map(|d| if repeats >> d & 1 == 1 { 1 } else { shape[d] });
            let (a, b) = (values(shape.iter().product(), 1), values(other.iter().product(), 2));
            let value = |i: usize| {
                let place = [i / shape[2] / shape[1], i / shape[2] % shape[1], i % shape[2]];
                let at = (0..3).fold(0, |at, d| at * other[d] + if other[d] == 1 { 0 } else { place[d] });
                f64::from(a[i]) + f64::from(b[at])
            };
            let expected = (0..a.len()).map(value).collect::<Vec<_>>();
            check(&format!("{shape:?} and {other:?}"), &run(|time| add(&a, &b, &shape, &other, time)), &expected);
        }
    }
}
