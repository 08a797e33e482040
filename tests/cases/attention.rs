//! Cases of attention.

use darkroom::run::gpu::Element;
use darkroom::run::gpu::kernel::{Machine, Multiply};
use darkroom::run::gpu::kernels::attention::{Attention, Bindings, launch, reference};

use super::rig::{Bench, Rig};
use super::{compare_with_slack, elements, stored_scatter};

/// What rounding every weight to f16 may do to a weighted mean of values below 1.
const WEIGHTS_F16: f32 = 5e-4;

/// One attention.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    attention: Attention,
    /// Scales queries and keys.
    magnitude: f32,
}

/// Batch items, queries, keys, heads and columns of a head.
const fn case(name: &'static str, [batch, queries, keys, heads, head_size]: [u32; 5]) -> Case {
    let strides = [heads * head_size; 3];
    let scale = 0.3;
    let attention = Attention { batch, queries, keys, heads, head_size, scale, causal: false, strides, packed: false };
    Case { name, attention, magnitude: 1.0 }
}

const fn causal(name: &'static str, sizes: [u32; 5]) -> Case {
    let case = case(name, sizes);
    Case { attention: Attention { causal: true, ..case.attention }, ..case }
}

/// Queries, keys and values in the rows of one tensor: batch items, tokens, heads and columns of a head.
const fn packed(name: &'static str, [batch, tokens, heads, head_size]: [u32; 4]) -> Case {
    let case = case(name, [batch, tokens, tokens, heads, head_size]);
    let strides = [3 * heads * head_size; 3];
    Case { attention: Attention { packed: true, strides, ..case.attention }, ..case }
}

/// All cases.
pub const CASES: &[Case] = &[
    case("one value", [1, 1, 1, 1, 1]),
    case("one query, one key", [2, 1, 1, 2, 8]),
    case("heads of 40", [2, 36, 36, 2, 40]),
    case("heads of 64", [1, 40, 70, 2, 64]),
    case("heads of 80", [1, 33, 33, 1, 80]),
    case("heads of 160", [2, 16, 77, 1, 160]),
    case("heads of 12", [1, 64, 5, 3, 12]),
    case("heads of 2", [1, 9, 9, 5, 2]),
    case("heads of 30", [1, 9, 40, 2, 30]),
    case("odd heads", [1, 9, 9, 2, 7]),
    case("heads of 132", [1, 20, 20, 1, 132]),
    case("the VAE's one head of 512", [1, 36, 50, 1, 512]),
    case("a head of 300", [1, 20, 33, 1, 300]),
    case("cross attention", [2, 64, 77, 2, 40]),
    causal("causal", [1, 77, 77, 2, 64]),
    causal("causal, one token", [1, 1, 1, 1, 16]),
    causal("causal, odd heads", [2, 35, 35, 1, 6]),
    packed("packed", [2, 36, 2, 40]),
    packed("packed, odd heads", [1, 9, 3, 5]),
    Case {
        attention: Attention { causal: true, ..packed("", [1, 77, 2, 64]).attention },
        ..packed("packed, causal", [1, 77, 2, 64])
    },
    Case { magnitude: 100.0, ..case("scores of some thousands", [1, 40, 40, 1, 40]) },
    Case { magnitude: 0.0, ..case("all scores equal", [1, 40, 45, 1, 40]) },
    Case {
        attention: Attention { strides: [48, 96, 40], ..case("", [2, 20, 20, 2, 16]).attention },
        ..case("rows with gaps", [2, 20, 20, 2, 16])
    },
];

/// One to three queries and keys, by themselves and packed.
pub fn smallest() -> Vec<Case> {
    let mut cases = Vec::new();
    for batch in [1, 2] {
        for (heads, head_size) in [(1, 1), (3, 5), (2, 4), (2, 40)] {
            for (queries, keys) in [(1, 1), (1, 2), (2, 1), (3, 2), (1, 77)] {
                let name = format!("{batch}x{heads} heads of {head_size}, {queries} queries, {keys} keys").leak();
                cases.push(case(name, [batch, queries, keys, heads, head_size]));
            }
            for tokens in [1, 2, 3] {
                let name = format!("{batch}x{heads} heads of {head_size}, {tokens} tokens").leak();
                cases.push(causal(name, [batch, tokens, tokens, heads, head_size]));
                cases.push(packed(name, [batch, tokens, heads, head_size]));
            }
        }
    }
    cases
}

/// A few that cover every path, for where time is short.
pub fn short() -> impl Iterator<Item = &'static Case> {
    const NAMES: &[&str] =
        &["heads of 40", "odd heads", "causal", "packed", "scores of some thousands", "a head of 300"];
    CASES.iter().filter(|case| NAMES.contains(&case.name))
}

/// What rounding products of queries and keys to f16, and sums of four of them, may do: to scores, and by them to a weighted mean
/// of values below 1, whose own products are rounded too.
fn slack_of_halves(case: &Case) -> f32 {
    let Attention { head_size, scale, .. } = case.attention;
    // Each of the roundings is off by at most 2⁻¹² of a sum of four products, whose mean square is a ninth.
    let of_scores = 6.0 / 4096.0 * 2.0 / 3.0 * case.magnitude.powi(2) * scale * (head_size as f32).sqrt();
    of_scores.min(2.0) + 2.0 * WEIGHTS_F16
}

/// Runs one case in every way that the adapter has, and panics with the first value that is wrong.
pub async fn check(rig: &mut Rig<'_>, case: &Case) {
    for &element in elements(rig.gpu) {
        let machine = rig.gpu.caps.machine(element);
        check_with(rig, case, &machine, Multiply::F32).await;
        let plain = Machine { matrices: None, least_subgroup: None, ..machine };
        if case.attention.asks_subgroups(&machine, Multiply::F32) {
            check_with(rig, case, &plain, Multiply::F32).await;
        }
        if element == Element::F16 {
            check_with(rig, case, &plain, Multiply::F16).await;
            let subgroups = Machine { matrices: None, ..machine };
            if case.attention.asks_subgroups(&subgroups, Multiply::F16) {
                check_with(rig, case, &subgroups, Multiply::F16).await;
            }
        }
    }
}

async fn check_with(rig: &mut Rig<'_>, case: &Case, machine: &Machine, multiply: Multiply) {
    let Attention { batch, queries, keys, heads, head_size, strides, .. } = case.attention;
    let element = machine.element;
    let q = stored_scatter(element, 1, (batch * queries * strides[0]) as usize, case.magnitude);
    let k = stored_scatter(element, 2, (batch * keys * strides[1]) as usize, case.magnitude);
    let v = stored_scatter(element, 3, (batch * keys * strides[2]) as usize, 1.0);
    let n_values = (batch * queries * heads * head_size) as usize;
    let mut bench = Bench::default();
    let is_packed = case.attention.packed;
    let width = (heads * head_size) as usize;
    let (k, v) = if is_packed { (&q[width..], &q[2 * width..]) } else { (&k[..], &v[..]) };
    let mut keys_or_values = |x| (!is_packed).then(|| bench.elements(element, x));
    let (k_operand, v_operand) = (keys_or_values(k), keys_or_values(v));
    let (q_operand, out) = (bench.elements(element, &q), bench.room(element, n_values));
    let launch = launch(&case.attention, machine, multiply).expect(case.name);
    let slack = match launch.kernel.name {
        // Weights are rounded to f16 where cooperative matrices multiply them with the values.
        "attention_matrix" => WEIGHTS_F16,
        "attention_half" | "attention_half_subgroups" => slack_of_halves(case),
        _ => 0.0,
    };
    let name = format!("{}, {}", case.name, launch.kernel.name);
    bench.launch(launch, Bindings { q: q_operand, k: k_operand, v: v_operand, out });
    let results = rig.run(case.name, bench).await;
    let got = results.elements(element, out, n_values);
    compare_with_slack(&name, element, &got, &reference(&case.attention, &q, k, v), slack);
}
