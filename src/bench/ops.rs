//! The operations of a graph one by one, each with the shapes that it has there.

use serde::Serialize;

use super::Case;
use crate::graph::{Graph, InputKind, Node, NodeId, Op, Output, OutputKind};

/// One operation and how often a graph has it.
#[derive(Clone, Debug)]
pub struct OpCase {
    /// Its name and shapes: `conv2d [2,64,64,320] x [320,320,3,3]`.
    pub label: String,
    /// [`Op::name`].
    pub op: &'static str,
    /// How many nodes of the graph are like this.
    pub n: usize,
    /// Floating-point operations of one.
    pub flops: u64,
    /// Elements read and written by one, each operand once.
    pub elements_moved: u64,
    /// To be loaded and timed.
    pub case: Case,
}

/// What the operations of one kind on the same shapes took together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpTime {
    /// [`Op::name`].
    pub op: &'static str,
    /// Its name and shapes.
    pub label: String,
    /// How many there are.
    pub n: usize,
    /// Seconds of all.
    pub secs: f64,
    /// Floating-point operations of all.
    pub flops: u64,
}

/// Adds up the seconds of the operations that compute anything, in the graph's order; nothing where there are not as many.
pub(super) fn times(graph: &Graph, secs: &[f64]) -> Vec<OpTime> {
    let nodes: Vec<&Node> = graph.nodes.iter().filter(|node| graph.cost(node).flops > 0).collect();
    if nodes.len() != secs.len() {
        return Vec::new();
    }
    let mut times: Vec<OpTime> = Vec::new();
    for (node, secs) in nodes.into_iter().zip(secs) {
        let (label, flops) = (label(graph, node), graph.cost(node).flops);
        match times.iter_mut().find(|time| time.label == label) {
            Some(time) => (time.n, time.secs, time.flops) = (time.n + 1, time.secs + secs, time.flops + flops),
            None => times.push(OpTime { op: node.op.name(), label, n: 1, secs: *secs, flops }),
        }
    }
    times.sort_by(|a, b| b.secs.total_cmp(&a.secs));
    times
}

/// The distinct operations of a graph that compute anything, the most work first.
#[must_use]
pub fn ops(graph: &Graph) -> Vec<OpCase> {
    let mut cases: Vec<OpCase> = Vec::new();
    for node in &graph.nodes {
        let cost = graph.cost(node);
        if cost.flops == 0 {
            continue;
        }
        let label = label(graph, node);
        match cases.iter_mut().find(|case| case.label == label) {
            Some(case) => case.n += 1,
            None => cases.push(OpCase {
                label,
                op: node.op.name(),
                n: 1,
                flops: cost.flops,
                elements_moved: cost.elements_moved,
                case: alone(graph, node),
            }),
        }
    }
    cases.sort_by_key(|case| std::cmp::Reverse(case.n as u64 * case.flops));
    cases
}

fn label(graph: &Graph, node: &Node) -> String {
    let shape = |id: &NodeId| {
        let dims: Vec<String> = graph.node(*id).shape.iter().map(usize::to_string).collect();
        format!("[{}]", dims.join(","))
    };
    // A bias changes nothing worth a line.
    let operands: Vec<String> = node.inputs.iter().filter(|id| graph.node(**id).shape.len() > 1).map(shape).collect();
    let details = match &node.op {
        Op::Conv2d { stride, upsample, .. } => {
            let stride = if *stride > 1 { format!(" stride {stride}") } else { String::new() };
            stride + if upsample.is_some() { " upsample" } else { "" }
        }
        Op::Attention { heads, .. } => format!(" {heads} heads"),
        _ => String::new(),
    };
    format!("{} {}{details}", node.op.name(), operands.join(" x "))
}

/// A graph with that node alone. What it reads is computed before, so that it has the type that it has in the model.
fn alone(graph: &Graph, node: &Node) -> Case {
    let empty = |name: &str| Graph {
        name: name.to_owned(),
        needs_f32: graph.needs_f32,
        nodes: Vec::new(),
        outputs: Vec::new(),
    };
    let (mut prompt, mut timed) = (empty("inputs"), empty("operation"));
    let push = |graph: &mut Graph, node: Node| {
        graph.nodes.push(node);
        NodeId(graph.nodes.len() as u32 - 1)
    };
    let mut inputs = Vec::new();
    for id in &node.inputs {
        let operand = graph.node(*id);
        let op = match operand.op {
            Op::Weight => Op::Weight,
            Op::Input(InputKind::Ids) => Op::Input(InputKind::Ids),
            _ => {
                let name = format!("operand.{}", inputs.len());
                let given =
                    Node { op: Op::Input(InputKind::Values), name: format!("{name}.values"), ..operand.clone() };
                let given = push(&mut prompt, Node { inputs: Vec::new(), ..given });
                let scale = Node { op: Op::Scale { factor: 1.0 }, inputs: vec![given], name, ..operand.clone() };
                let scaled = push(&mut prompt, scale.clone());
                prompt.outputs.push(Output { name: scale.name.clone(), id: scaled, kind: OutputKind::Computed });
                let computed = Node { op: Op::Input(InputKind::Computed), inputs: Vec::new(), ..scale };
                inputs.push(push(&mut timed, computed));
                continue;
            }
        };
        inputs.push(push(&mut timed, Node { op, inputs: Vec::new(), ..operand.clone() }));
    }
    let result = push(&mut timed, Node { inputs, ..node.clone() });
    timed.outputs.push(Output { name: "result".into(), id: result, kind: OutputKind::Computed });
    Case { layers: vec![timed.clone()], prompt: Some(prompt).filter(|graph| !graph.nodes.is_empty()), timed }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use std::rc::Rc;

    use super::super::{Bench, Part, RandomWeights, Sizes};
    use super::*;
    use crate::run::candle::{CandleRunner, Precision};
    use crate::run::gpu::lower::lower;
    use crate::weights::WeightType;
    use crate::weights::Weights;

    fn unet() -> Case {
        let config = include_str!("../model/published/v1-5/unet.json");
        Case::new(Part::Unet, config, Sizes { batch: 2, height: 8, width: 8 }).expect("a case")
    }

    #[test]
    fn the_operations_are_all_the_work_of_the_graph() {
        let case = unet();
        let all = ops(case.graph());
        assert_eq!(all.iter().map(|op| op.n as u64 * op.flops).sum::<u64>(), case.flops());
        let count = |name| all.iter().filter(|op| op.op == name).map(|op| op.n).sum::<usize>();
        let in_graph = |name| case.graph().nodes.iter().filter(|node| node.op.name() == name).count();
        for name in ["conv2d", "linear", "attention", "group_norm"] {
            assert!(in_graph(name) > 0, "{name}");
            assert_eq!(count(name), in_graph(name), "{name}");
        }
    }

    #[test]
    fn an_operation_alone_can_be_lowered_for_a_gpu() {
        for op in ops(unet().graph()) {
            assert!(!lower(op.case.graph(), WeightType::F16).tasks.is_empty(), "{}", op.label);
        }
    }

    #[test]
    fn an_operation_alone_can_be_run() {
        let (case, mut kinds) = (unet(), std::collections::BTreeSet::new());
        // The smallest of each kind.
        for op in ops(case.graph()).into_iter().rev().filter(|op| kinds.insert(op.op)) {
            let (secs, result) = pollster::block_on(async {
                let weights = Weights::open(vec![Box::new(RandomWeights::new(&op.case.weights()))]).await?;
                let mut bench =
                    Bench::load(Rc::new(CandleRunner::cpu(Precision::F32)), &op.case, &weights, &[]).await?;
                Ok::<_, crate::Error>((bench.run().await?, bench.result().await?))
            })
            .unwrap_or_else(|error| panic!("{}: {error}", op.label));
            assert!(secs > 0.0, "{}", op.label);
            let timed = op.case.graph().nodes.last().unwrap();
            assert_eq!(result.len(), timed.n_elements(), "{}", op.label);
            assert!(result.iter().all(|value| value.is_finite()), "{}", op.label);
        }
    }
}
