use super::*;
use crate::Op;
use crate::op::dispatch::testing::{check, range, refuse};

#[test]
fn each_element_comes_from_one_of_the_two() {
    let condition = Tensor::new([2, 1], vec![true, false]);
    let (x, y) = (range(&[2]), Tensor::scalar(9f32));
    check(&Op::Where, &[&condition, &x, &y], &Tensor::new([2, 2], vec![0f32, 1.0, 9.0, 9.0]));
    let codes = |v: &[u8]| Tensor::vector(v.to_vec());
    let both = Tensor::vector(vec![true, false]);
    check(&Op::Where, &[&both, &codes(&[1, 2]), &codes(&[3, 4])], &codes(&[1, 4]));
    refuse(&Op::Where, &[&condition, &x, &codes(&[1, 2])], "input 2: found uint8");
    refuse(&Op::Where, &[&x, &x, &y], "input 0: found float32, expected bool");
    refuse(&Op::Where, &[&both, &range(&[3]), &y], "input 1: found shape [3]");
}
