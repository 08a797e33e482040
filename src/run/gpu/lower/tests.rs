//! Small graphs and the tasks that they become.

use super::*;
use crate::graph::{Conv, GraphBuilder, Path};

/// Each task in a few words.
fn summary(graph: &Graph) -> Vec<String> {
    let lowered = lower(graph, WeightType::F16);
    let name = |id: NodeId| graph.node(id).name.as_str();
    let of_task = |task: &Task| match &task.kind {
        TaskKind::Product(product) => format!(
            "{}{}{}{}{}{}{}",
            if product.norm.is_some() { "norm+" } else { "" },
            if product.x.len() > 1 { "two:" } else { "" },
            product.weights.iter().map(|&w| name(w).trim_end_matches(".weight")).collect::<Vec<_>>().join("&"),
            if product.time_embedding.is_some() { "+temb" } else { "" },
            if product.geglu { "+geglu" } else { "" },
            if product.residual.is_some() { "+residual" } else { "" },
            if product.activation.is_some() { "+act" } else { "" },
        ),
        TaskKind::GroupNorm(Normed { silu, x, .. }) => {
            let two = if x.len() > 1 { "two:" } else { "" };
            format!("{two}{}{}", name(task.node), if *silu { "+silu" } else { "" })
        }
        TaskKind::Attention(Attended { packed: Some(_), .. }) => format!("{}:packed", name(task.node)),
        TaskKind::LayerNorm { .. } | TaskKind::Attention(_) | TaskKind::Elementwise(_) => {
            format!("{}:{}", name(task.node), graph.node(task.node).op.name())
        }
    };
    lowered.tasks.iter().map(of_task).collect()
}

#[test]
fn epilogues_are_fused_and_shared_values_are_not() {
    let mut g = GraphBuilder::new("toy");
    let w = Path::root();
    let x = g.input("x", &[1, 4, 4, 8]);
    let t = g.input("t", &[1, 6]);
    let temb = g.linear(t, &w.pp("temb"), 8, true).unwrap();
    let temb = g.reshape(temb, &[1, 1, 1, 8]).unwrap();
    let h = g.group_norm(x, &w.pp("norm1"), 2, 1e-5).unwrap();
    let h = g.silu(h);
    let h = g.conv2d(h, &w.pp("conv1"), Conv::k3(8)).unwrap();
    let h = g.add(h, temb, &w).unwrap();
    let h = g.conv2d(h, &w.pp("conv2"), Conv::k3(8)).unwrap();
    let y = g.add(h, x, &w).unwrap();
    let rows = g.reshape(y, &[1, 16, 8]).unwrap();
    let ff = g.linear(rows, &w.pp("proj"), 32, true).unwrap();
    let ff = g.geglu(ff, &w).unwrap();
    let ff = g.linear(ff, &w.pp("net2"), 8, true).unwrap();
    let z = g.add(ff, rows, &w).unwrap();
    g.output("z", z);
    let graph = g.finish();
    assert_eq!(summary(&graph), ["temb", "norm1+silu", "conv1+temb", "conv2+residual", "proj+geglu", "net2+residual"]);
}

#[test]
fn layers_of_one_input_are_one_product() {
    let mut g = GraphBuilder::new("toy");
    let w = Path::root();
    let x = g.input("x", &[2, 9, 8]);
    let h = g.layer_norm(x, &w.pp("norm"), 1e-5).unwrap();
    let [q, k, v] = ["q", "k", "v"].map(|name| g.linear(h, &w.pp(name), 8, false).unwrap());
    let h = g.attention([q, k, v], 2, false, false, &w.pp("attn")).unwrap();
    let h = g.linear(h, &w.pp("out"), 8, true).unwrap();
    let h = g.add(h, x, &w).unwrap();
    let n = g.layer_norm(h, &w.pp("norm2"), 1e-5).unwrap();
    let q = g.linear(n, &w.pp("q2"), 8, false).unwrap();
    g.output("q", q);
    g.output("n", n);
    let graph = g.finish();
    assert_eq!(summary(&graph), ["norm+q&k&v", "attn:packed", "out+residual", "norm2:layer_norm", "q2"]);
    let keys: Vec<String> =
        lower(&graph, WeightType::F16).weights(&graph).into_iter().map(|buffer| buffer.key.to_string()).collect();
    assert!(keys.contains(&"q.weight+k.weight+v.weight".to_string()), "{keys:?}");
    assert!(keys.contains(&"norm.weight+norm.bias".to_string()), "{keys:?}");
}

#[test]
fn concatenations_are_read_where_they_lie_and_time_embeddings_are_merged() {
    // At one pixel a time embedding has the shape of a residual.
    for (batch, height, width) in [(1, 4, 4), (2, 4, 4), (1, 1, 4), (1, 1, 1), (2, 1, 1)] {
        check_merged_time_embeddings(batch, height, width);
    }
}

fn check_merged_time_embeddings(batch: usize, height: usize, width: usize) {
    let mut g = GraphBuilder::new("toy");
    let w = Path::root();
    let x = g.input("x", &[batch, height, width, 8]);
    let t = g.input("t", &[batch, 6]);
    let a = g.conv2d(x, &w.pp("a"), Conv::k3(8)).unwrap();
    let mut h = g.concat(&[a, x], 3, &w).unwrap();
    for name in ["r0", "r1"] {
        let block = w.pp(name);
        let n = g.group_norm(h, &block.pp("norm"), 2, 1e-5).unwrap();
        let c = g.conv2d(n, &block.pp("conv"), Conv::k3(8)).unwrap();
        let temb = g.linear(t, &block.pp("temb"), 8, true).unwrap();
        let temb = g.reshape(temb, &[batch, 1, 1, 8]).unwrap();
        let c = g.add(c, temb, &w).unwrap();
        let s = g.conv2d(h, &block.pp("shortcut"), Conv::k1(8)).unwrap();
        h = g.add(c, s, &w).unwrap();
    }
    g.output("h", h);
    let graph = g.finish();
    let tasks = [
        "a",
        "two:r0.norm",
        "r0.temb&r1.temb",
        "two:r0.shortcut",
        "r0.conv+temb+residual",
        "r1.norm",
        "r1.shortcut",
        "r1.conv+temb+residual",
    ];
    assert_eq!(summary(&graph), tasks, "{batch}x{height}x{width}");
}
