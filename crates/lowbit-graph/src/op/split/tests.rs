use super::*;
use crate::Op;
use crate::op::dispatch::testing::{ints, range, refuse, run_all};

fn extents(axis: i64, outputs: usize, sizes: Option<&[i64]>) -> Vec<usize> {
    let sizes = sizes.map(ints);
    let op = Op::Split(Split { axis, outputs });
    let parts = run_all(&op, &[Some(&range(&[2, 7])), sizes.as_ref()]).unwrap();
    parts.iter().map(|p| p.shape()[1]).collect()
}

#[test]
fn sizes_are_given_or_equal() {
    assert_eq!(extents(1, 3, None), [3, 3, 1]);
    assert_eq!(extents(-1, 7, None), [1; 7]);
    assert_eq!(extents(1, 3, Some(&[2, 0, 5])), [2, 0, 5]);
    let op = Op::Split(Split { axis: 1, outputs: 2 });
    let parts = run_all(&op, &[Some(&range(&[2, 3]))]).unwrap();
    assert_eq!(parts[0].f32s(), [0.0, 1.0, 3.0, 4.0]);
    assert_eq!(parts[1].f32s(), [2.0, 5.0]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let op = |outputs| Op::Split(Split { axis: 1, outputs });
    let x = range(&[2, 5]);
    refuse(&op(2), &[&x, &ints(&[2, 2])], "input 1: found sizes [2, 2]");
    refuse(&op(2), &[&x, &ints(&[-1, 6])], "expected 2 sizes");
    refuse(&op(2), &[&x, &ints(&[i64::MAX, i64::MAX])], "expected 2 sizes");
    refuse(&op(4), &[&x], "does not split into 4 parts");
    refuse(&op(0), &[&x], "does not split");
    refuse(&op(usize::MAX), &[&x], "does not split");
}
