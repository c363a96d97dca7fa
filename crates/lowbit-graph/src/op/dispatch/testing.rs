//! What the operators' tests share.

use lowbit_tensor::{DType, Rng, Shape, Tensor};

use crate::{Inputs, Op, OpError, Workspace};

/// The outputs of `op`, having found them the same on one thread and on many, in fresh and in used buffers.
pub(crate) fn run_all(op: &Op, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
    let mut work = Workspace::parallel().with_limit(1 << 24);
    work.pool.give(Tensor::full([1 << 12], f32::NAN));
    work.pool.give(Tensor::full([1 << 12], 77u8));
    let shared = op.forward(&Inputs(inputs), &mut work);
    let serial = op.forward(&Inputs(inputs), &mut Workspace::serial().with_limit(1 << 24));
    assert_eq!(
        format!("{shared:?}"),
        format!("{serial:?}"),
        "{} depends on threads or on what buffers held",
        op.name()
    );
    serial
}

/// The one output of `op`.
pub(crate) fn run(op: &Op, inputs: &[&Tensor]) -> Result<Tensor, OpError> {
    let inputs: Vec<_> = inputs.iter().map(|&t| Some(t)).collect();
    Ok(run_all(op, &inputs)?.remove(0))
}

/// `op` gives exactly `expected`.
pub(crate) fn check(op: &Op, inputs: &[&Tensor], expected: &Tensor) {
    let found = run(op, inputs).unwrap_or_else(|e| panic!("{op:?}: {e}"));
    assert_eq!(&found, expected, "{op:?}");
}

/// `op` gives `expected` to a relative 1e-6.
pub(crate) fn check_close(op: &Op, inputs: &[&Tensor], expected: &Tensor) {
    let found = run(op, inputs).unwrap_or_else(|e| panic!("{op:?}: {e}"));
    assert_eq!(found.shape(), expected.shape(), "{op:?}");
    for (i, (f, e)) in found.f32s().iter().zip(expected.f32s()).enumerate() {
        let near = (f - e).abs() <= 1e-6 * e.abs() || f == e || (f.is_nan() && e.is_nan());
        assert!(near, "{op:?} element {i}: found {f}, expected {e}");
    }
}

/// `op` refuses its inputs with a message that contains `why`.
pub(crate) fn refuse(op: &Op, inputs: &[&Tensor], why: &str) {
    let error = run(op, inputs).expect_err("refused").to_string();
    assert!(error.contains(why), "{op:?} says {error:?}, not {why:?}");
}

/// A shape and list of int64.
pub(crate) fn ints(values: &[i64]) -> Tensor {
    Tensor::vector(values.to_vec())
}

/// 0, 1, 2, ..
pub(crate) fn range(shape: &[usize]) -> Tensor {
    let len: usize = shape.iter().product();
    Tensor::new(Shape::from(shape), (0..len).map(|i| i as f32).collect())
}

/// Standard normal values.
pub(crate) fn normal(shape: &[usize], rng: &mut Rng) -> Tensor {
    let len: usize = shape.iter().product();
    Tensor::new(Shape::from(shape), (0..len).map(|_| rng.normal()).collect())
}

/// Codes of any type that QuantizeLinear makes.
pub(crate) fn codes(dtype: DType, shape: &[usize], values: &[i32]) -> Tensor {
    let range = dtype.range().expect("a type of codes");
    assert!(values.iter().all(|v| (range.0..=range.1).contains(v)), "{values:?} in {dtype}");
    super::super::quantize::tensor_of_codes(dtype, Shape::from(shape), values).expect("they fit")
}
