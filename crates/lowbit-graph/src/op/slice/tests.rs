use lowbit_tensor::Rng;

use super::*;
use crate::Op;
use crate::op::dispatch::testing::{check, ints, range, refuse, run};

fn taken(extent: usize, start: i64, end: i64, step: i64) -> Vec<f32> {
    let inputs = [&range(&[extent]), &ints(&[start]), &ints(&[end]), &ints(&[0]), &ints(&[step])];
    run(&Op::Slice, &inputs).unwrap().f32s().to_vec()
}

#[test]
fn bounds_are_pythons() {
    assert_eq!(taken(5, 1, 4, 1), [1.0, 2.0, 3.0]);
    assert_eq!(taken(5, -2, i64::MAX, 1), [3.0, 4.0]);
    assert_eq!(taken(5, 0, 5, 2), [0.0, 2.0, 4.0]);
    assert_eq!(taken(5, -1, i64::MIN, -1), [4.0, 3.0, 2.0, 1.0, 0.0]);
    assert_eq!(taken(5, 9, 0, -3), [4.0, 1.0]);
    assert_eq!(taken(5, 3, 3, 1), [0f32; 0]);
    assert_eq!(taken(5, 4, 1, 1), [0f32; 0]);
    assert_eq!(taken(5, 0, 5, i64::MAX), [0.0]);
    assert_eq!(taken(5, 4, -9, i64::MIN), [4.0]);
    assert_eq!(taken(0, 0, 5, 1), [0f32; 0]);
    assert_eq!(taken(0, 0, i64::MIN, -1), [0f32; 0]);
}

#[test]
fn slices_are_index_arithmetic() {
    let mut rng = Rng::new(5);
    for _ in 0..200 {
        let dims = [1 + rng.below(5), 1 + rng.below(5), 1 + rng.below(5)];
        let x = range(&dims);
        let steps: Vec<i64> = (0..3).map(|_| [1, 1, 2, -1, -2][rng.below(5)]).collect();
        let begins: Vec<usize> = dims.iter().map(|&d| rng.below(d)).collect();
        let along = |axis: usize| -> Vec<usize> {
            let ahead: Vec<usize> = match steps[axis] > 0 {
                true => (begins[axis]..dims[axis]).collect(),
                false => (0..=begins[axis]).rev().collect(),
            };
            ahead.into_iter().step_by(steps[axis].unsigned_abs() as usize).collect()
        };
        let picked = [along(0), along(1), along(2)];
        let mut expected = vec![];
        for &i in &picked[0] {
            for &j in &picked[1] {
                for &k in &picked[2] {
                    expected.push(((i * dims[1] + j) * dims[2] + k) as f32);
                }
            }
        }
        let starts: Vec<i64> = begins.iter().map(|&b| b as i64).collect();
        let end = |&s: &i64| if s > 0 { i64::MAX } else { i64::MIN };
        let ends: Vec<i64> = steps.iter().map(end).collect();
        let shape = [picked[0].len(), picked[1].len(), picked[2].len()];
        let inputs = [&x, &ints(&starts), &ints(&ends), &ints(&[0, 1, -1]), &ints(&steps)];
        check(&Op::Slice, &inputs, &Tensor::new(shape, expected));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let x = range(&[2, 3]);
    let (zeros, ones) = (ints(&[0, 0]), ints(&[1, 1]));
    refuse(&Op::Slice, &[&x, &zeros, &ints(&[1])], "input 2: found 1 values");
    refuse(&Op::Slice, &[&x, &zeros, &ones, &ints(&[0, -2])], "axis 0 is sliced twice");
    refuse(&Op::Slice, &[&x, &zeros, &ones, &ints(&[0, 2])], "axis 2 of a rank-2 tensor");
    refuse(&Op::Slice, &[&x, &zeros, &ones, &ints(&[0, 1]), &zeros], "step 0");
    refuse(&Op::Slice, &[&x, &zeros], "input 2 (ends) is missing");
}
