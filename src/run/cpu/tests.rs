//! Every operation gives the same bits in the smallest slices as in one, with any number of threads, and stops between two
//! slices.

mod small;

use super::*;
use crate::graph::Activation;

type Run = dyn Fn(&mut TimeSlices) -> Result<Vec<f32>, Stopped> + Sync;

/// An operation at one size.
struct Case {
    name: &'static str,
    run: Box<Run>,
}

/// Values between -1 and 1 that look random.
fn values(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn case(name: &'static str, run: impl Fn(&mut TimeSlices) -> Result<Vec<f32>, Stopped> + Sync + 'static) -> Case {
    Case { name, run: Box::new(run) }
}

fn conv(name: &'static str, input: [usize; 4], output: [usize; 4], kernel: usize, stride: usize) -> Case {
    let pad = kernel / 2;
    let sizes = ConvSizes { input, output, kernel, stride, pad: [pad, pad], upsample: None };
    let x = values(input.iter().product(), 1);
    let (weight, bias) = (values(kernel * kernel * input[3] * output[3], 2), values(output[3], 3));
    case(name, move |time| conv2d(&x, &weight, &bias, sizes, time))
}

fn of_attention(
    name: &'static str,
    n_queries: usize,
    n_keys: usize,
    width: usize,
    heads: usize,
    scores: Scores,
) -> Case {
    let sizes = AttentionSizes { batch: 2, n_queries, n_keys, width, heads, scale: 0.3, causal: n_queries == n_keys };
    let (q, k, v) = (values(2 * n_queries * width, 1), values(2 * n_keys * width, 2), values(2 * n_keys * width, 3));
    case(name, move |time| attention(&q, &k, &v, sizes, scores, time))
}

fn of_linear(name: &'static str, m: usize, k: usize, n: usize) -> Case {
    let (x, weight, bias) = (values(m * k, 1), values(n * k, 2), values(n, 3));
    case(name, move |time| linear(&x, &weight, Some(&bias), [m, n, k], time))
}

/// Large enough for more than one unit of work.
fn cases() -> Vec<Case> {
    let x = values(3 * 5 * 1000 * 12, 4);
    let (other, scale, shift, row) = (values(x.len(), 5), values(12, 6), values(12, 7), values(3 * 12, 8));
    let (y, z) = (x.clone(), x.clone());
    let (norm_x, norm_scale, norm_shift) = (x.clone(), scale.clone(), shift.clone());
    let (add_x, rows_x, columns_x, column) = (x.clone(), x.clone(), x.clone(), values(5000, 9));
    let (scaled, affine_x, factors, offsets) = (x.clone(), x.clone(), scale.clone(), shift.clone());
    vec![
        of_linear("linear", 700, 600, 70),
        of_linear("linear, few columns", 1000, 700, 3),
        of_linear("linear, one column", 1001, 40, 1),
        of_linear("linear, few rows", 5, 64, 300),
        conv("conv", [1, 40, 41, 6], [1, 40, 41, 8], 3, 1),
        conv("conv, step 2", [2, 40, 40, 6], [2, 20, 20, 8], 3, 2),
        conv("conv 1x1", [1, 40, 41, 6], [1, 40, 41, 8], 1, 1),
        conv("conv, many weights", [1, 34, 32, 480], [1, 34, 32, 1000], 3, 1),
        conv("conv, many weights, one row left over", [1, 31, 31, 480], [1, 31, 31, 1000], 3, 1),
        conv("conv, one row left over", [1, 25, 41, 64], [1, 25, 41, 8], 3, 1),
        conv("conv, few rows left over", [1, 24, 23, 64], [1, 24, 23, 8], 3, 1),
        conv("conv, two columns", [1, 25, 41, 6], [1, 25, 41, 2], 3, 1),
        conv("conv, one column", [1, 25, 41, 6], [1, 25, 41, 1], 3, 1),
        conv("conv 1x1, one row left over", [1, 43, 3, 600], [1, 43, 3, 7], 1, 1),
        of_attention("attention", 300, 77, 24, 3, Scores::Flash),
        of_attention("causal attention", 201, 201, 24, 3, Scores::Flash),
        of_attention("attention by heads", 130, 70, 24, 3, Scores::Heads(2)),
        of_attention("attention, all scores", 130, 70, 24, 3, Scores::Whole),
        case("silu", move |time| activate(&y, Activation::Silu, time)),
        case("geglu", move |time| geglu(&z, 6, time)),
        case("add", move |time| add(&add_x, &other, &[3, 5000, 12], &[3, 5000, 12], time)),
        case("add columns", move |time| add(&columns_x, &column, &[3, 5000, 12], &[1, 5000, 1], time)),
        case("add rows", move |time| add(&rows_x, &row, &[3, 5000, 12], &[3, 1, 12], time)),
        case("scale", move |time| elementwise::scale(&scaled, 0.3, time)),
        case("affine", move |time| affine(&affine_x, &factors, &offsets, time)),
        case("group norm", move |time| group_norm(&norm_x, &norm_scale, &norm_shift, 3, 4, 1e-5, true, time)),
        case("layer norm", move |time| layer_norm(&x, &scale, &shift, 1e-5, time)),
    ]
}

#[test]
fn slices_change_no_bit() {
    for Case { name, run } in cases() {
        let whole = run(&mut TimeSlices::new(&mut || true)).unwrap();
        let mut n_asked = 0;
        let mut go_on = || {
            n_asked += 1;
            true
        };
        let sliced = run(&mut TimeSlices::new(&mut go_on).with_most(1)).unwrap();
        assert!(whole.iter().zip(&sliced).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}");
        assert!(whole.iter().all(|value| value.is_finite()) && whole.len() == sliced.len(), "{name}");
        assert!(n_asked > 0, "{name} asks nobody");
        // Told to stop, it asks no more.
        for stop in [1, n_asked] {
            let mut n_asked = 0;
            let mut go_on = || {
                n_asked += 1;
                n_asked < stop
            };
            assert_eq!(run(&mut TimeSlices::new(&mut go_on).with_most(1)), Err(Stopped), "{name}");
            assert_eq!(n_asked, stop, "{name}");
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let with_threads = |run: &Run, n_threads: usize, most: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        pool.install(|| run(&mut TimeSlices::new(&mut || true).with_most(most))).unwrap()
    };
    for Case { name, run } in cases() {
        let expected = with_threads(&*run, 1, usize::MAX);
        for n_threads in [1, 2, 4, 7] {
            for most in [1, usize::MAX] {
                let got = with_threads(&*run, n_threads, most);
                let n_unlike = expected.iter().zip(&got).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
                assert_eq!(n_unlike, 0, "{name}: {n_threads} threads, {most} units in a slice");
            }
        }
    }
}

/// Blocks are smaller where weights or keys are many. That changes nothing either: what a row gives does not depend on how many
/// are multiplied with it, but for few rows and columns, and for one row, which are left as they are.
#[test]
fn rows_give_the_same_bits_in_blocks_of_any_size() {
    use product::{Strided, matmul};
    for (blocks, n, k, is_turned) in
        [([8, 64, 128], 96, 5000, false), ([8, 32, 128], 5000, 96, true), ([64, 128, 256], 1000, 4320, false)]
    {
        let m = 256;
        let (lhs, rhs) = (values(m * k, 1), values(k * n, 2));
        let right = match is_turned {
            true => Strided { values: &rhs, row: 1, col: k },
            false => Strided { values: &rhs, row: n, col: 1 },
        };
        let of_rows = |block: usize, shared: bool| {
            let mut out = vec![0.5; m * n];
            for (idx, out) in out.chunks_mut(block * n).enumerate() {
                let left = Strided { values: &lhs[idx * block * k..], row: k, col: 1 };
                matmul([out.len() / n, n, k], out, true, left, right, shared);
            }
            out
        };
        let whole = of_rows(m, true);
        for block in blocks {
            for shared in [false, true] {
                let same = whole.iter().zip(&of_rows(block, shared)).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{block} rows of {m}, {n} columns, {k} terms");
            }
        }
    }
}

/// As long as an operation may be, what is done between two questions is bounded: in operations, since clocks differ.
#[test]
fn blocks_of_wide_heads_and_many_weights_are_small() {
    // The VAE of SD at 2048x2048.
    let block = attention::block_of(512, 65_536, 65_536);
    assert!((8..=16).contains(&block), "{block}");
    assert_eq!(attention::block_of(40, 65_536, 65_536), attention::block_of(40, 64, 64));
}

#[test]
fn rows_are_gathered_and_pictures_blended() {
    assert_eq!(gather(&[2, 0], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2), [5.0, 6.0, 1.0, 2.0]);
    assert_eq!(gather(&[], &[1.0], 1), [0.0; 0]);
    // One mask for two pictures of two pixels with two channels, and one for each.
    let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [0.0; 8]);
    let one = blend(&[1.0, 0.5], &a, &b, [2, 1, 2, 2], [1, 1, 2, 1]);
    assert_eq!(one, [1.0, 2.0, 1.5, 2.0, 5.0, 6.0, 3.5, 4.0]);
    let each = blend(&[1.0, 0.5, 0.0, 1.0], &a, &b, [2, 1, 2, 2], [2, 1, 2, 1]);
    assert_eq!(each, [1.0, 2.0, 1.5, 2.0, 0.0, 0.0, 7.0, 8.0]);
}
