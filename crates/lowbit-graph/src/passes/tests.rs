use super::testing::{apply, canonical, random_graph, same};
use super::*;
use crate::Op;

const GRAPHS: u64 = 320;

#[test]
fn every_pass_alone_keeps_what_a_graph_computes() {
    for seed in 0..GRAPHS {
        let (graph, example) = random_graph(seed);
        for &(name, pass) in CANONICAL {
            let after = apply(pass, &graph, &example);
            same(&graph, &after, &example, &format!("{name}, seed {seed}"));
        }
    }
}

#[test]
fn the_canonical_form_computes_the_same_and_is_its_own_canonical_form() {
    for seed in 0..GRAPHS {
        let (graph, example) = random_graph(seed);
        let after = canonical(&graph, &example);
        same(&graph, &after, &example, &format!("canonicalize, seed {seed}"));
        let left =
            |op: &Op| matches!(op, Op::BatchNorm(_) | Op::Identity | Op::MatMul | Op::Shape(_));
        let node = after.nodes.iter().find(|node| left(&node.op));
        let ends_there = node.is_none_or(|n| graph.outputs.contains(&n.output()));
        assert!(ends_there, "seed {seed}: {node:?} in\n{}", after.dump());
        let again = canonical(&after, &example);
        assert_eq!(again.dump(), after.dump(), "seed {seed}");
    }
}

#[test]
fn equal_graphs_have_equal_canonical_forms() {
    for seed in 0..20 {
        let (graph, example) = random_graph(seed);
        assert_eq!(canonical(&graph, &example), canonical(&graph, &example), "seed {seed}");
    }
}
