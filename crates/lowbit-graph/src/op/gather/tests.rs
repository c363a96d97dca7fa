use super::*;
use crate::Op;
use crate::op::dispatch::testing::{check, ints, range, refuse};

fn gather(axis: i64) -> Op {
    Op::Gather(Gather { axis })
}

#[test]
fn indices_replace_the_axis() {
    let data = range(&[3, 2]);
    let pairs = Tensor::new([2, 2], vec![0i64, 1, 1, -1]);
    let rows = vec![0.0f32, 1.0, 2.0, 3.0, 2.0, 3.0, 4.0, 5.0];
    check(&gather(0), &[&data, &pairs], &Tensor::new([2, 2, 2], rows));
    let column = Tensor::new([3, 1], vec![1.0f32, 3.0, 5.0]);
    check(&gather(-1), &[&data, &ints(&[1])], &column);
    let scalar = Tensor::scalar(1i32);
    check(&gather(1), &[&data, &scalar], &Tensor::vector(vec![1.0f32, 3.0, 5.0]));
    check(&gather(0), &[&data, &ints(&[])], &range(&[0, 2]));
}

#[test]
fn what_does_not_fit_is_refused() {
    refuse(&gather(0), &[&range(&[3]), &ints(&[3])], "index 3");
    refuse(&gather(0), &[&range(&[3]), &ints(&[i64::MIN])], "-3 to 3 - 1");
    refuse(&gather(0), &[&range(&[0]), &ints(&[0])], "index 0");
    refuse(&gather(0), &[&range(&[3]), &range(&[1])], "int64 or int32");
    let empty = Tensor::new([1, 0, 1 << 60], Vec::<f32>::new());
    refuse(&gather(1), &[&empty, &ints(&[0])], "index 0");
}
