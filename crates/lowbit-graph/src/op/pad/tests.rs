use lowbit_tensor::Rng;

use super::*;
use crate::Op;
use crate::op::dispatch::testing::{check, ints, normal, range, refuse, run};

fn pad(mode: PadMode) -> Op {
    Op::Pad(Pad { mode })
}

fn padded_row(mode: PadMode, before: i64, after: i64) -> Vec<f32> {
    let found = run(&pad(mode), &[&range(&[3]), &ints(&[before, after])]).unwrap();
    found.f32s().to_vec()
}

#[test]
fn modes_choose_the_new_elements() {
    assert_eq!(padded_row(PadMode::Constant, 1, 2), [0.0, 0.0, 1.0, 2.0, 0.0, 0.0]);
    assert_eq!(padded_row(PadMode::Edge, 1, 2), [0.0, 0.0, 1.0, 2.0, 2.0, 2.0]);
    assert_eq!(padded_row(PadMode::Reflect, 2, 1), [2.0, 1.0, 0.0, 1.0, 2.0, 1.0]);
    assert_eq!(padded_row(PadMode::Wrap, 1, 2), [2.0, 0.0, 1.0, 2.0, 0.0, 1.0]);
    assert_eq!(padded_row(PadMode::Reflect, 0, 4), [0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 2.0]);
    assert_eq!(padded_row(PadMode::Constant, -1, 1), [1.0, 2.0, 0.0]);
    assert_eq!(padded_row(PadMode::Constant, -2, -1), [0f32; 0]);
    assert_eq!(padded_row(PadMode::Constant, -3, 3), [0.0; 3]);
}

#[test]
fn a_value_and_axes_may_be_given() {
    let x = Tensor::new([1, 2], vec![7u8, 8]);
    let (pads, value, axes) = (ints(&[1, 0]), Tensor::scalar(5u8), ints(&[-1]));
    let expected = Tensor::new([1, 3], vec![5u8, 7, 8]);
    check(&pad(PadMode::Constant), &[&x, &pads, &value, &axes], &expected);
}

#[test]
fn constant_pads_are_index_arithmetic() {
    let mut rng = Rng::new(6);
    for _ in 0..100 {
        let dims: Vec<usize> = (0..4).map(|_| 1 + rng.below(4)).collect();
        let x = normal(&dims, &mut rng);
        let pads: Vec<i64> = (0..8).map(|_| [0, 0, 0, 1, 2, -1][rng.below(6)]).collect();
        let grown = |a: usize| dims[a] as i64 + pads[a] + pads[a + 4];
        if (0..4).any(|a| grown(a) < 0) {
            continue;
        }
        let shape: Vec<usize> = (0..4).map(|a| grown(a) as usize).collect();
        let value = |mut linear: usize| {
            let (mut from, mut stride) = (0, 1);
            for a in (0..4).rev() {
                let at = (linear % shape[a]) as i64 - pads[a];
                linear /= shape[a];
                if at < 0 || at >= dims[a] as i64 {
                    return 0.0;
                }
                from += at as usize * stride;
                stride *= dims[a];
            }
            x.f32s()[from]
        };
        let expected = (0..shape.iter().product()).map(value).collect();
        check(&pad(PadMode::Constant), &[&x, &ints(&pads)], &Tensor::new(shape.clone(), expected));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let x = range(&[2, 2]);
    let constant = pad(PadMode::Constant);
    refuse(&constant, &[&x, &ints(&[1, 1])], "input 1: found 2 values, expected 4");
    refuse(&constant, &[&x, &ints(&[-2, 0, -1, 0])], "pads -2 and -1");
    refuse(&constant, &[&x, &ints(&[1 << 40; 4])], "exceeds the limit");
    refuse(&constant, &[&x, &ints(&[1; 4]), &Tensor::scalar(1u8)], "input 2: found uint8");
    refuse(&pad(PadMode::Edge), &[&range(&[0]), &ints(&[1, 1])], "elements on axis 0");
    let hollow = Tensor::new([0, 1 << 40], Vec::<f32>::new());
    check(&constant, &[&hollow, &ints(&[0; 4])], &hollow);
}
