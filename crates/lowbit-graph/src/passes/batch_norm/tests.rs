use lowbit_tensor::Rng;

use super::*;
use crate::Conv;
use crate::op::testing::normal;
use crate::passes::testing::{Maker, apply, names, same};
use crate::{Gemm, Unary};

fn norm(maker: &mut Maker, channels: usize) {
    let [scale, bias, mean] = [1.0, 0.5, 0.5].map(|deviation| maker.floats(&[channels], deviation));
    let variance = (0..channels).map(|c| 0.1 + c as f32).collect::<Vec<f32>>();
    let variance = maker.graph.add_constant("variance", Tensor::vector(variance));
    maker.on(Op::BatchNorm(BatchNorm { epsilon: 1e-3 }), &[scale, bias, mean, variance]);
}

/// Folding turns the graph that `make` makes into these operators.
fn check(dims: &[usize], make: &dyn Fn(&mut Maker), expected: &[&str]) {
    let mut maker = Maker::new(dims, 1);
    make(&mut maker);
    let (graph, example) = (maker.finish(), normal(dims, &mut Rng::new(2)));
    let after = apply(fold_batch_norm, &graph, &example);
    same(&graph, &after, &example, "fold_batch_norm");
    assert_eq!(names(&after), expected, "{}", after.dump());
}

fn conv(maker: &mut Maker) {
    let weight = maker.floats(&[6, 2, 3, 3], 0.3);
    maker.on(Op::Conv(Conv { groups: 2, ..Conv::PLAIN }), &[weight]);
}

#[test]
fn it_goes_into_the_convolution_or_gemm_before_it() {
    check(&[1, 4, 5, 5], &|m| (conv(m), norm(m, 6)).1, &["Conv"]);
    for transpose_b in [false, true] {
        let gemm = |m: &mut Maker| {
            let dims = if transpose_b { [3, 4] } else { [4, 3] };
            let (weight, bias) = (m.floats(&dims, 0.5), m.floats(&[1, 3], 0.5));
            m.on(Op::Gemm(Gemm { alpha: 0.5, transpose_b, ..Gemm::PLAIN }), &[weight, bias]);
            norm(m, 3);
        };
        check(&[1, 4], &gemm, &["Gemm"]);
    }
}

#[test]
fn alone_it_becomes_what_its_rank_allows() {
    check(&[1, 4, 5, 5], &|m| norm(m, 4), &["Conv"]);
    check(&[1, 4], &|m| norm(m, 4), &["Mul", "Add"]);
    check(&[1, 4, 5], &|m| norm(m, 4), &["Mul", "Add"]);
}

#[test]
fn two_in_a_row_and_one_behind_an_activation() {
    check(&[1, 4, 5, 5], &|m| (0..2).for_each(|_| norm(m, 4)), &["Conv"]);
    let behind = |m: &mut Maker| {
        conv(m);
        m.on(Op::Unary(Unary::Relu), &[]);
        norm(m, 6);
    };
    check(&[1, 4, 5, 5], &behind, &["Conv", "Relu", "Conv"]);
}

#[test]
fn a_convolution_read_twice_or_that_is_an_output_keeps_its_weight() {
    let twice = |m: &mut Maker| {
        conv(m);
        let linear = m.value;
        norm(m, 6);
        m.on(Op::Binary(Binary::Add), &[linear]);
    };
    check(&[1, 4, 5, 5], &twice, &["Conv", "Conv", "Add"]);
    let output = |m: &mut Maker| {
        conv(m);
        m.graph.outputs.push(m.value);
        norm(m, 6);
    };
    check(&[1, 4, 5, 5], &output, &["Conv", "Conv"]);
}

#[test]
fn a_weight_that_two_convolutions_share_is_scaled_for_one() {
    let shared = |m: &mut Maker| {
        let (x, weight) = (m.value, m.floats(&[4, 4, 1, 1], 0.5));
        let other = m.node(Op::Conv(Conv::PLAIN), &[x, weight]);
        m.on(Op::Conv(Conv::PLAIN), &[weight]);
        norm(m, 4);
        m.on(Op::Binary(Binary::Add), &[other]);
    };
    check(&[1, 4, 5, 5], &shared, &["Conv", "Conv", "Add"]);
}

#[test]
fn factors_of_the_bias_keep_the_gemm_as_it_is() {
    let gemm = |m: &mut Maker| {
        let (weight, bias) = (m.floats(&[4, 3], 0.5), m.floats(&[3], 0.5));
        m.on(Op::Gemm(Gemm { beta: 0.5, ..Gemm::PLAIN }), &[weight, bias]);
        norm(m, 3);
    };
    check(&[1, 4], &gemm, &["Gemm", "Mul", "Add"]);
}
