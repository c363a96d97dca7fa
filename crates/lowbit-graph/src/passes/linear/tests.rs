use super::*;
use crate::Conv;
use crate::passes::canonicalize;
use lowbit_tensor::{DType, Rng};

use crate::op::testing::normal;
use crate::passes::testing::{Maker, apply, same};

#[test]
fn products_and_biases_at_the_end_of_a_graph_become_gemms() {
    let mut graph = Graph::new("chain");
    let mut value = graph.add_input("x", DType::F32, vec![None, Some(2)]);
    for layer in 0..3 {
        let weight = graph.add_constant("w", Tensor::new([2, 2], vec![1.0f32, 2.0, 3.0, 4.0]));
        let bias = graph.add_constant("b", Tensor::vector(vec![5.0f32, 6.0]));
        value = graph.add_node(&format!("product{layer}"), Op::MatMul, &[value, weight]);
        value = graph.add_node(&format!("sum{layer}"), Op::Binary(Binary::Add), &[value, bias]);
    }
    graph.outputs.push(value);
    let normal = canonicalize(&graph, &[Tensor::new([1, 2], vec![0.5f32, 0.5])]).unwrap();
    let gemm = |node: &Node| matches!(node.op, Op::Gemm(_)) && node.inputs.len() == 3;
    assert_eq!(normal.nodes.len(), 3, "{}", normal.dump());
    assert!(normal.nodes.iter().all(gemm), "{}", normal.dump());
}

/// Normalizing turns the graph that `make` makes into these operators, with so many operands each.
fn check(dims: &[usize], make: &dyn Fn(&mut Maker), expected: &[(&str, usize)]) {
    let mut maker = Maker::new(dims, 1);
    make(&mut maker);
    let (graph, example) = (maker.finish(), normal(dims, &mut Rng::new(2)));
    let after = apply(normalize_linear, &graph, &example);
    same(&graph, &after, &example, "normalize_linear");
    let found: Vec<(&str, usize)> =
        after.nodes.iter().map(|node| (node.op.name(), node.inputs.len())).collect();
    assert_eq!(found, expected, "{}", after.dump());
}

#[test]
fn constants_per_channel_behind_a_convolution_become_its_bias() {
    let added = |dims: &'static [usize]| {
        move |m: &mut Maker| {
            let (weight, constant) = (m.floats(&[5, 4, 1, 1], 0.5), m.floats(dims, 1.0));
            m.on(Op::Conv(Conv::PLAIN), &[weight]);
            m.on(Op::Binary(Binary::Add), &[constant]);
        }
    };
    check(&[1, 4, 5, 5], &added(&[5, 1, 1]), &[("Conv", 3)]);
    check(&[1, 4, 5, 5], &added(&[1, 5, 1, 1]), &[("Conv", 3)]);
    // Along the width, not the channels.
    check(&[1, 4, 5, 5], &added(&[5]), &[("Conv", 2), ("Add", 2)]);
    check(&[1, 4, 5, 5], &added(&[5, 5, 1]), &[("Conv", 2), ("Add", 2)]);
    check(&[1, 4, 5, 5], &added(&[1, 1, 5, 1, 1]), &[("Conv", 2), ("Add", 2)]);
}

#[test]
fn a_sum_that_two_read_or_whose_operand_is_an_output_is_kept() {
    let twice = |m: &mut Maker| {
        let (weight, bias) = (m.floats(&[4, 3], 0.5), m.floats(&[3], 1.0));
        let product = m.on(Op::MatMul, &[weight]);
        let sum = m.on(Op::Binary(Binary::Add), &[bias]);
        m.then(Op::Binary(Binary::Mul), &[sum, product]);
    };
    check(&[1, 4], &twice, &[("Gemm", 2), ("Add", 2), ("Mul", 2)]);
    let output = |m: &mut Maker| {
        let (weight, bias) = (m.floats(&[4, 3], 0.5), m.floats(&[3], 1.0));
        m.on(Op::MatMul, &[weight]);
        m.graph.outputs.push(m.value);
        m.on(Op::Binary(Binary::Add), &[bias]);
    };
    check(&[1, 4], &output, &[("Gemm", 2), ("Add", 2)]);
    let doubled = |m: &mut Maker| {
        let weight = m.floats(&[4, 3], 0.5);
        let product = m.on(Op::MatMul, &[weight]);
        m.then(Op::Binary(Binary::Add), &[product, product]);
    };
    check(&[1, 4], &doubled, &[("Gemm", 2), ("Add", 2)]);
}

#[test]
fn a_mean_over_both_spatial_axes_is_a_pool() {
    let mean = |axes: &'static [i64], keep_dims| {
        move |m: &mut Maker| {
            let axes = m.ints(axes);
            let kind = ReduceKind::Mean;
            let reduce = crate::Reduce { kind, keep_dims, noop_with_empty_axes: false };
            m.on(Op::Reduce(reduce), &[axes]);
        }
    };
    check(&[1, 4, 5, 5], &mean(&[2, 3], true), &[("GlobalAveragePool", 1)]);
    let flat = [("GlobalAveragePool", 1), ("Flatten", 1)];
    check(&[1, 4, 5, 5], &mean(&[-1, -2], false), &flat);
    check(&[1, 4, 5, 5], &mean(&[1, 2], true), &[("ReduceMean", 2)]);
    check(&[1, 4, 5], &mean(&[1, 2], true), &[("ReduceMean", 2)]);
}
