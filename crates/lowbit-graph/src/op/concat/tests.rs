use super::*;
use crate::Op;
use crate::op::dispatch::testing::{check, range, refuse, run_all};
use crate::op::split::Split;

fn concat(axis: i64) -> Op {
    Op::Concat(Concat { axis })
}

#[test]
fn parts_follow_one_another_on_the_axis() {
    let (a, b) = (range(&[2, 2]), range(&[2, 1]));
    let expected = Tensor::new([2, 3], vec![0.0f32, 1.0, 0.0, 2.0, 3.0, 1.0]);
    check(&concat(1), &[&a, &b], &expected);
    check(&concat(-1), &[&a, &b], &expected);
    check(&concat(0), &[&a], &a);
    let empty = Tensor::new([2, 0], Vec::<f32>::new());
    check(&concat(1), &[&empty, &a], &a);
    check(&concat(1), &[&empty, &empty], &empty);
}

#[test]
fn split_undoes_concat() {
    let whole = range(&[3, 5, 4]);
    for axis in 0..3 {
        let split = Op::Split(Split { axis, outputs: 2 });
        let parts = run_all(&split, &[Some(&whole)]).unwrap();
        check(&concat(axis), &parts.iter().collect::<Vec<_>>(), &whole);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    refuse(&concat(0), &[&range(&[2, 2]), &range(&[2, 1])], "input 1: found shape [2, 1]");
    refuse(&concat(2), &[&range(&[2, 2])], "axis 2 of a rank-2 tensor");
    let integers = Tensor::new([2, 2], vec![0i64; 4]);
    refuse(&concat(0), &[&range(&[2, 2]), &integers], "input 1: found int64");
    refuse(&concat(0), &[], "missing");
}
