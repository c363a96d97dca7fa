use lowbit_tensor::{Rng, Tensor};

use crate::op::testing::normal;
use crate::passes::testing::{Maker, apply, canonical, ends, names, run, same};
use crate::{Graph, Op, Pad, PadMode, Reshape, Transpose, Unary};

const DIMS: [usize; 4] = [1, 4, 5, 5];

fn example() -> Tensor {
    normal(&DIMS, &mut Rng::new(1))
}

fn removed(graph: &Graph) -> Graph {
    let after = apply(super::remove_noops, graph, &example());
    same(graph, &after, &example(), "remove_noops");
    after
}

#[test]
fn nodes_that_change_nothing_go() {
    let mut maker = Maker::new(&DIMS, 1);
    let pads = maker.ints(&[0; 8]);
    let (starts, ends, axes) = (maker.ints(&[0]), maker.ints(&[5]), maker.ints(&[2]));
    let shape = maker.ints(&[-1, 4, 5, 5]);
    maker.on(Op::Identity, &[]);
    maker.on(Op::Pad(Pad { mode: PadMode::Edge }), &[pads]);
    maker.on(Op::Unary(Unary::Neg), &[]);
    maker.on(Op::Slice, &[starts, ends, axes]);
    maker.on(Op::Reshape(Reshape { allow_zero: false }), &[shape]);
    maker.on(Op::Transpose(Transpose { perm: Some(vec![0, 1, 2, 3]) }), &[]);
    assert_eq!(names(&removed(&maker.finish())), ["Neg"]);
}

#[test]
fn nodes_of_equal_shapes_that_change_something_stay() {
    let mut maker = Maker::new(&DIMS, 1);
    let (starts, ends) = (maker.ints(&[-1]), maker.ints(&[-9]));
    let (axes, steps) = (maker.ints(&[2]), maker.ints(&[-1]));
    maker.on(Op::Slice, &[starts, ends, axes, steps]);
    maker.on(Op::Transpose(Transpose { perm: Some(vec![0, 1, 3, 2]) }), &[]);
    let pads = maker.ints(&[0, 0, 1, 0, 0, 0, -1, 0]);
    maker.on(Op::Pad(Pad { mode: PadMode::Constant }), &[pads]);
    assert_eq!(names(&removed(&maker.finish())), ["Slice", "Transpose", "Pad"]);
}

#[test]
fn an_input_that_is_an_output_keeps_both_names() {
    for identities in 0..4 {
        let mut maker = Maker::new(&DIMS, 1);
        for _ in 0..identities {
            maker.on(Op::Identity, &[]);
        }
        let graph = maker.finish();
        let after = removed(&graph);
        assert_eq!(after.nodes.len(), identities.min(1), "{}", after.dump());
        same(&graph, &canonical(&graph, &example()), &example(), "canonicalize");
    }
}

#[test]
fn two_outputs_of_one_value_keep_both_names() {
    let mut maker = Maker::new(&DIMS, 1);
    let first = maker.on(Op::Unary(Unary::Neg), &[]);
    maker.graph.outputs.push(first);
    maker.on(Op::Identity, &[]);
    maker.on(Op::Identity, &[]);
    let graph = maker.finish();
    let after = removed(&graph);
    assert_eq!(ends(&after), ["x", "Neg0_out", "Identity2_out"]);
    assert_eq!(names(&after), ["Neg", "Identity"]);
}

#[test]
fn an_output_given_twice_stays_twice() {
    let mut maker = Maker::new(&DIMS, 1);
    maker.on(Op::Unary(Unary::Neg), &[]);
    let last = maker.on(Op::Identity, &[]);
    maker.graph.outputs.push(last);
    let graph = maker.finish();
    let after = removed(&graph);
    assert_eq!(ends(&after), ["x", "Identity1_out", "Identity1_out"]);
    assert_eq!(run(&after, &example()).len(), 2);
}
