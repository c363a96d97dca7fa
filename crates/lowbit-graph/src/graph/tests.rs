use lowbit_tensor::Rng;

use super::*;
use crate::passes::testing::{Maker, ends, names, random_graph};
use crate::{Binary, Unary};

const NEG: Op = Op::Unary(Unary::Neg);

/// x → -x → --x, and the two results.
fn chain() -> (Graph, [ValueId; 2]) {
    let mut maker = Maker::new(&[1, 2], 1);
    let values = [0, 1].map(|_| maker.on(NEG, &[]));
    (maker.finish(), values)
}

#[test]
fn the_dump_shows_operators_operands_and_constants() {
    let mut maker = Maker::new(&[1, 2], 1);
    let two = maker.scalar(2.0);
    maker.on(Op::Binary(Binary::Mul), &[two]);
    maker.on(Op::Clip, &[]);
    maker.graph.nodes[1].inputs.extend([None, Some(two)]);
    let expected = "input x: float32\n\
                    Mul0_out = Binary(Mul)(x, scalar: float32[])\n\
                    Clip1_out = Clip(Mul0_out, -, scalar: float32[])\n\
                    output Clip1_out\n";
    assert_eq!(maker.finish().dump(), expected);
}

#[test]
fn verify_names_what_is_wrong() {
    let check = |spoil: &dyn Fn(&mut Graph, [ValueId; 2]), expected: &str| {
        let (mut graph, values) = chain();
        graph.verify().unwrap();
        spoil(&mut graph, values);
        assert_eq!(graph.verify().unwrap_err().to_string(), expected);
    };
    check(&|g, [a, _]| g.nodes[1].outputs = vec![Some(a)], "value \"Neg0_out\" is provided twice");
    check(
        &|g, [a, _]| g.set_constant(a, Tensor::scalar(1.0f32)),
        "value \"Neg0_out\" is provided twice",
    );
    let undefined =
        "node \"Neg1\" reads \"Neg0_out\", which no earlier node, input or initializer provides";
    check(&|g, _| g.nodes.swap(0, 1), undefined);
    check(&|g, _| drop(g.nodes.remove(0)), undefined);
    let output = "graph output \"Neg1_out\" is not produced by any node, input or initializer";
    check(&|g, _| drop(g.nodes.pop()), output);
}

#[test]
fn sort_finds_an_order_or_the_cycle() {
    for seed in 0..50 {
        let (graph, _) = random_graph(seed);
        let mut same = graph.clone();
        same.sort().unwrap();
        assert_eq!(same, graph, "an order that runs is kept");
        let mut rng = Rng::new(seed);
        let mut mixed = graph.clone();
        let order = rng.sample(graph.nodes.len(), graph.nodes.len());
        mixed.nodes = order.iter().map(|&i| graph.nodes[i].clone()).collect();
        mixed.sort().unwrap();
        mixed.verify().unwrap();
        assert_eq!(mixed.nodes.len(), graph.nodes.len());
    }
    let (mut graph, [_, b]) = chain();
    graph.nodes[0].inputs = vec![Some(b)];
    let error = graph.sort().unwrap_err().to_string();
    assert_eq!(error, "the graph has a cycle through node \"Neg0\"");
}

#[test]
fn remove_dead_keeps_what_outputs_need() {
    let (mut graph, [a, _]) = chain();
    let unread = graph.add_constant("unread", Tensor::scalar(1.0f32));
    graph.add_node("dead", Op::Binary(Binary::Add), &[a, unread]);
    graph.remove_dead();
    assert_eq!(names(&graph), ["Neg", "Neg"]);
    assert!(graph.constant(unread).is_none());
    graph.outputs = vec![a];
    graph.remove_dead();
    assert_eq!(names(&graph), ["Neg"]);
    graph.outputs.clear();
    graph.remove_dead();
    assert_eq!((graph.nodes.len(), graph.inputs.len()), (0, 1));
}

#[test]
fn replaced_outputs_keep_their_names() {
    for copies in 1..4 {
        let (mut graph, [a, b]) = chain();
        graph.outputs = vec![b; copies];
        let before = ends(&graph);
        graph.replace_uses(b, a);
        assert_eq!(ends(&graph), before);
        assert_eq!(graph.outputs, vec![a; copies]);
    }
}

#[test]
fn a_value_that_is_an_output_or_read_twice_has_no_only_consumer() {
    let (mut graph, [a, b]) = chain();
    assert_eq!((graph.only_consumer(a), graph.only_consumer(b)), (Some(1), None));
    graph.nodes[1] = Node { inputs: vec![Some(a), Some(a)], ..graph.nodes[1].clone() };
    assert_eq!(graph.only_consumer(a), None);
    let (mut graph, [a, _]) = chain();
    graph.outputs.push(a);
    assert_eq!(graph.only_consumer(a), None);
}

#[test]
fn fresh_names_are_new() {
    let mut graph = Graph::new("names");
    let made = ["a", "a", "a_1", "a"].map(|name| graph.fresh(name));
    assert_eq!(made.map(|v| graph.value_name(v).to_owned()), ["a", "a_1", "a_1_1", "a_2"]);
}
