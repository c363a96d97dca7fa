//! Integer elementwise operators, with the arithmetic of onnxruntime 1.31's CPU operators.

use lowbit_tensor::{Shape, Tensor};

use super::qparams::{Code, QParam, by_code_type};
use super::{Concat, Inputs, Softmax, Unary};
use crate::{OpError, Workspace};

/// Two quantized operands and where they meet.
struct Pair<'a, T> {
    a: (&'a Tensor, &'a [T], QParam),
    b: (&'a Tensor, &'a [T], QParam),
    to: QParam,
    shape: Shape,
}

impl<'a, T: Code> Pair<'a, T> {
    fn read(inputs: &Inputs<'a>) -> Result<Self, OpError> {
        let (a, a_codes) = inputs.typed::<T>(0, "A")?;
        let (b, b_codes) = inputs.typed::<T>(3, "B")?;
        let shape = a.shape().broadcast(b.shape()).ok_or_else(|| OpError::Input {
            index: 3,
            found: format!("shape {}", b.shape()),
            expected: format!("one that broadcasts with {}", a.shape()),
        })?;
        Ok(Pair {
            a: (a, a_codes, QParam::read::<T>(inputs, 1)?),
            b: (b, b_codes, QParam::read::<T>(inputs, 4)?),
            to: QParam::read::<T>(inputs, 6)?,
            shape,
        })
    }

    /// Applies `f` to every pair of codes.
    fn map(&self, work: &mut Workspace, f: impl Fn(i32, i32) -> T) -> Result<Tensor, OpError> {
        let mut out = T::buffer(work, &self.shape)?;
        let ((a, a_codes, _), (b, b_codes, _)) = (self.a, self.b);
        if a.shape() == b.shape() {
            for ((y, &p), &q) in out.iter_mut().zip(a_codes).zip(b_codes) {
                *y = f(p.into(), q.into());
            }
        } else {
            let (left, right) =
                (Walk::new(a.shape(), &self.shape), Walk::new(b.shape(), &self.shape));
            for (i, y) in out.iter_mut().enumerate() {
                *y = f(a_codes[left.at(i)].into(), b_codes[right.at(i)].into());
            }
        }
        Ok(Tensor::new(self.shape.clone(), out))
    }
}

/// Maps positions of a broadcast result to positions of an operand.
struct Walk {
    /// (extent of the result, stride in the operand) per axis, innermost first.
    axes: Vec<(usize, usize)>,
}

impl Walk {
    fn new(operand: &Shape, result: &Shape) -> Walk {
        let missing = result.len() - operand.len();
        let strides = operand.strides();
        let axes = (0..result.len()).rev().map(|axis| {
            let stride = match axis.checked_sub(missing) {
                Some(own) if operand[own] > 1 => strides[own],
                _ => 0,
            };
            (result[axis], stride)
        });
        Walk { axes: axes.collect() }
    }

    fn at(&self, mut position: usize) -> usize {
        let mut index = 0;
        for &(extent, stride) in &self.axes {
            index += position % extent * stride;
            position /= extent;
        }
        index
    }
}

/// `rint(fma(a, r_a, fma(b, r_b, fixed)))` on the raw codes, with `r = s / s_y` and
/// `fixed = z_y - fma(r_a, z_a, f32(r_b·z_b))`.
pub(crate) fn add(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    by_code_type!(inputs, 0, add_of(inputs, work))
}

#[expect(clippy::cast_precision_loss, reason = "codes of 8 bits are exact")]
fn add_of<T: Code>(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let pair = Pair::<T>::read(inputs)?;
    let (a, b, to) = (pair.a.2, pair.b.2, pair.to);
    let (ratio_a, ratio_b) = (a.scale / to.scale, b.scale / to.scale);
    let fixed = to.zero() - ratio_a.mul_add(a.zero(), ratio_b * b.zero());
    pair.map(work, |p, q| {
        let sum = (p as f32).mul_add(ratio_a, (q as f32).mul_add(ratio_b, fixed));
        T::saturate(sum.round_ties_even())
    })
}

/// `rint(f32(a - z_a) · f32(b - z_b) · f32(s_a·s_b / s_y) + z_y)`: the zero point is added before rounding.
pub(crate) fn mul(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    by_code_type!(inputs, 0, mul_of(inputs, work))
}

#[expect(clippy::cast_precision_loss, reason = "products of 8-bit codes are exact")]
fn mul_of<T: Code>(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let pair = Pair::<T>::read(inputs)?;
    let (a, b, to) = (pair.a.2, pair.b.2, pair.to);
    let ratio = a.scale * b.scale / to.scale;
    pair.map(work, |p, q| {
        let product = ((p - a.zero_point) * (q - b.zero_point)) as f32;
        T::saturate((product * ratio + to.zero()).round_ties_even())
    })
}

/// Joins parts that may have other parameters than the result: each code goes through dequantize and quantize.
pub(crate) fn concat(
    concat: &Concat,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    by_code_type!(inputs, 2, concat_of(concat, inputs, work))
}

fn concat_of<T: Code>(
    concat: &Concat,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let to = QParam::read::<T>(inputs, 0)?;
    let mut parts = Vec::new();
    for index in (2..inputs.count()).step_by(3) {
        let (x, codes) = inputs.typed::<T>(index, "part")?;
        let from = QParam::read::<T>(inputs, index + 1)?;
        let same = from.scale.to_bits() == to.scale.to_bits() && from.zero_point == to.zero_point;
        let moved = if same {
            codes.to_vec()
        } else {
            codes.iter().map(|&code| to.code(from.value(code.into()))).collect()
        };
        parts.push(Tensor::new(x.shape().clone(), moved));
    }
    let parts: Vec<Option<&Tensor>> = parts.iter().map(Some).collect();
    concat.forward(&Inputs(&parts), work)
}

/// A function of one code, through the float operator on all 256 codes.
pub(crate) fn table(
    unary: &Unary,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    by_code_type!(inputs, 0, table_of(unary, inputs, work))
}

fn table_of<T: Code>(
    unary: &Unary,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let (x, codes) = inputs.typed::<T>(0, "x")?;
    let (from, to) = (QParam::read::<T>(inputs, 1)?, QParam::read::<T>(inputs, 3)?);
    let (low, high) = T::DTYPE.range().expect("8-bit codes have a range");
    let values = Tensor::vector((low..=high).map(|code| from.value(code)).collect::<Vec<f32>>());
    let results = unary.forward(&Inputs(&[Some(&values)]), work)?;
    let table: Vec<T> = results.f32s().iter().map(|&y| to.code(y)).collect();
    let mut out = T::buffer(work, x.shape())?;
    for (y, &code) in out.iter_mut().zip(codes) {
        *y = table[(code.into() - low) as usize];
    }
    Ok(Tensor::new(x.shape().clone(), out))
}

/// Softmax of the dequantized codes, in float, quantized again.
pub(crate) fn softmax(
    softmax: &Softmax,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    by_code_type!(inputs, 0, softmax_of(softmax, inputs, work))
}

fn softmax_of<T: Code>(
    softmax: &Softmax,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let (x, codes) = inputs.typed::<T>(0, "x")?;
    let (from, to) = (QParam::read::<T>(inputs, 1)?, QParam::read::<T>(inputs, 3)?);
    let values: Vec<f32> = codes.iter().map(|&code| from.value(code.into())).collect();
    let values = Tensor::new(x.shape().clone(), values);
    let results = softmax.forward(&Inputs(&[Some(&values)]), work)?;
    let out: Vec<T> = results.f32s().iter().map(|&y| to.code(y)).collect();
    Ok(Tensor::new(x.shape().clone(), out))
}

#[cfg(test)]
mod tests;
