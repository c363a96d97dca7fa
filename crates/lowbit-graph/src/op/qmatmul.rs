//! Integer matrix products.

use lowbit_kernels::{IntSlice, MatShape, Order, PackedQGemm, QGemmCall, QMat, qmatmul};
use lowbit_tensor::{Buffer, DType, Shape, Tensor};

use super::matmul::{Batches, PackedRight, extents, same_inner};
use super::qparams::{Code, QParam, by_code_type, zero_points};
use super::{Activation, Gemm, Inputs};
use crate::{OpError, Workspace};

fn int_slice(index: usize, tensor: &Tensor) -> Result<IntSlice<'_>, OpError> {
    match (tensor.dtype(), tensor.buffer()) {
        (DType::U8, Buffer::U8(codes)) => Ok(IntSlice::U8(codes)),
        (DType::I8, Buffer::I8(codes)) => Ok(IntSlice::I8(codes)),
        _ => Err(OpError::Input {
            index,
            found: tensor.dtype().to_string(),
            expected: "int8 or uint8".into(),
        }),
    }
}

fn part<'a>(slice: IntSlice<'a>, range: std::ops::Range<usize>) -> IntSlice<'a> {
    match slice {
        IntSlice::U8(codes) => IntSlice::U8(&codes[range]),
        IntSlice::I8(codes) => IntSlice::I8(&codes[range]),
    }
}

/// Inner extent beyond which an int32 sum might overflow.
const INNER_MAX: usize = 33_025;

fn check_inner(k: usize) -> Result<(), OpError> {
    if k <= INNER_MAX {
        return Ok(());
    }
    Err(OpError::Unsupported {
        what: "inner extent of an integer product",
        found: k.to_string(),
        supported: "33025, beyond which int32 may overflow",
    })
}

/// The exact products of inputs `a` and `b`.
fn products(
    (a, a_zero): (&Tensor, Option<&Tensor>),
    (b, b_zero): (&Tensor, Option<&Tensor>),
    work: &mut Workspace,
) -> Result<(Vec<i32>, Batches), OpError> {
    let batches = Batches::new(a, b)?;
    let MatShape { m, k, n } = batches.shape;
    check_inner(k)?;
    let (left, right) = (int_slice(0, a)?, int_slice(1, b)?);
    let (a_zero, b_zero) = (zero_points(a_zero, m)?, zero_points(b_zero, n)?);
    let mut out = work.pool.sums(&batches.result)?;
    for (&(i, j), y) in batches.pairs.iter().zip(out.chunks_exact_mut(m * n)) {
        let x = QMat { values: part(left, i * m * k..(i + 1) * m * k), zero_points: &a_zero };
        let w = QMat { values: part(right, j * k * n..(j + 1) * k * n), zero_points: &b_zero };
        qmatmul(x, w, batches.shape, y, work.parallel);
    }
    Ok((out, batches))
}

/// MatMulInteger: the exact products.
pub(crate) fn integer(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let a = (inputs.required(0, "A")?, inputs.optional(2));
    let b = (inputs.required(1, "B")?, inputs.optional(3));
    let (out, batches) = products(a, b, work)?;
    Ok(Tensor::new(batches.result, out))
}

/// QLinearMatMul: `rint(f32(sum) · f32(f32(s_a·s_b[n]) / s_y)) + z_y`.
pub(crate) fn qlinear(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    by_code_type!(inputs, 0, qlinear_of(inputs, work))
}

#[expect(clippy::cast_precision_loss, reason = "the arithmetic that onnxruntime does")]
fn qlinear_of<T: Code>(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let (_, a_scales) = inputs.typed::<f32>(1, "a_scale")?;
    let (_, b_scales) = inputs.typed::<f32>(4, "b_scale")?;
    let to = QParam::read::<T>(inputs, 6)?;
    let a = (inputs.required(0, "a")?, inputs.optional(2));
    let b = (inputs.required(3, "b")?, inputs.optional(5));
    let (sums, batches) = products(a, b, work)?;
    let MatShape { m, n, .. } = batches.shape;
    let fits = |scales: &[f32], lines: usize| scales.len() == 1 || scales.len() == lines;
    if !fits(a_scales, m) || !fits(b_scales, n) {
        return Err(OpError::Invalid(format!(
            "{} and {} scales for {m} rows and {n} columns",
            a_scales.len(),
            b_scales.len()
        )));
    }
    let at = |scales: &[f32], i: usize| scales[if scales.len() == 1 { 0 } else { i }];
    let mut out = T::buffer(work, &batches.result)?;
    for (i, (y, &sum)) in out.iter_mut().zip(&sums).enumerate() {
        let multiplier = at(a_scales, i / n % m) * at(b_scales, i % n) / to.scale;
        *y = T::saturate((sum as f32 * multiplier).round_ties_even() + to.zero());
    }
    work.pool.give_sums(sums);
    Ok(Tensor::new(batches.result, out))
}

/// Packs the constant right operand of QGemm.
pub(crate) fn pack(
    gemm: &Gemm,
    b: &Tensor,
    zero: Option<&Tensor>,
) -> Result<PackedRight<PackedQGemm>, OpError> {
    let [k, n] = extents(3, b, gemm.transpose_b)?;
    check_inner(k)?;
    let order = if gemm.transpose_b { Order::Nk } else { Order::Kn };
    let weight = PackedQGemm::new(int_slice(3, b)?, order, [k, n], &zero_points(zero, n)?);
    Ok(PackedRight { weight, k, n })
}

/// QGemm: float result `f32(sum + bias) · f32(s_a·s_b[n])`, or codes when an output scale is given.
pub(crate) fn qgemm(
    gemm: &Gemm,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let packed = pack(gemm, inputs.required(3, "B")?, inputs.optional(5))?;
    run(gemm, &packed, inputs, work)
}

/// [`qgemm`] with B packed before.
pub(crate) fn run(
    gemm: &Gemm,
    packed: &PackedRight<PackedQGemm>,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let plain = gemm.activation == Activation::None && gemm.alpha == 1.0 && !gemm.transpose_a;
    if !plain {
        return Err(OpError::Unsupported {
            what: "form of QGemm",
            found: format!("alpha {}, transA {}", gemm.alpha, gemm.transpose_a),
            supported: "alpha 1, transA 0, no activation",
        });
    }
    by_code_type!(inputs, 0, run_of(packed, inputs, work))
}

#[expect(clippy::cast_precision_loss, reason = "the arithmetic that onnxruntime does")]
fn run_of<T: Code>(
    packed: &PackedRight<PackedQGemm>,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let a = inputs.required(0, "A")?;
    let [m, k] = extents(0, a, false)?;
    same_inner(3, packed.k, k)?;
    let n = packed.n;
    let from = QParam::read::<T>(inputs, 1)?;
    let scales = inputs.typed::<f32>(4, "b_scale")?.1;
    let bias = inputs.optional(6).map(|_| inputs.typed::<i32>(6, "C")).transpose()?.map(|b| b.1);
    if ![1, n].contains(&scales.len()) || bias.is_some_and(|b| b.len() != n) {
        return Err(OpError::Invalid(format!("scales or bias that are not one per column of {n}")));
    }
    let shape = Shape::from([m, n]);
    let mut sums = work.pool.sums(&shape)?;
    let zero = [from.zero_point];
    let call = QGemmCall { m, a_zero_points: &zero, parallel: work.parallel };
    packed.weight.run(T::slice(a.as_slice::<T>()?), &call, &mut sums, &mut work.scratch);
    if let Some(bias) = bias {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = sum.wrapping_add(bias[i % n]);
        }
    }
    let scale = |i: usize| from.scale * scales[if scales.len() == 1 { 0 } else { i % n }];
    let result = if inputs.optional(7).is_some() {
        let to = QParam::read::<T>(inputs, 7)?;
        let mut out = T::buffer(work, &shape)?;
        for (i, (y, &sum)) in out.iter_mut().zip(&sums).enumerate() {
            let multiplier = scale(i) / to.scale;
            *y = T::saturate((sum as f32 * multiplier).round_ties_even() + to.zero());
        }
        Tensor::new(shape, out)
    } else {
        let mut out = work.pool.floats(&shape)?;
        for (i, (y, &sum)) in out.iter_mut().zip(&sums).enumerate() {
            *y = sum as f32 * scale(i);
        }
        Tensor::new(shape, out)
    };
    work.pool.give_sums(sums);
    Ok(result)
}

#[cfg(test)]
mod tests;
