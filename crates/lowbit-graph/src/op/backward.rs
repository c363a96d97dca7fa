//! The way back through one operator: what it reads, and which operator knows its gradient.
//!
//! Each operator's backward stands beside its forward; here is the one match over all of them.

use lowbit_tensor::{Shape, Tensor};

use super::{Inputs, Op, layout, matmul, moved, pool, select, unary};
use crate::{OpError, Workspace};

/// What an operator's way back reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Back<'a> {
    /// The inputs of the run.
    pub(crate) inputs: &'a Inputs<'a>,
    /// What the run made of them.
    pub(crate) outputs: &'a [Option<&'a Tensor>],
    /// The gradient of each output, float32 of its shape; `None` means zeros.
    pub(crate) grads: &'a [Option<&'a Tensor>],
    /// Per input, whether its gradient is needed.
    pub(crate) wanted: &'a [bool],
}

/// The gradient of each input, float32 of its shape; `None` where it is not wanted or always zero.
pub(crate) type Gradients = Vec<Option<Tensor>>;

impl<'a> Back<'a> {
    /// Whether the gradient of input `index` is needed.
    pub(crate) fn wants(&self, index: usize) -> bool {
        self.wanted.get(index).copied().unwrap_or(false)
    }

    /// The gradient of the first output, with its elements.
    ///
    /// # Errors
    /// `Invalid` when there is none.
    pub(crate) fn grad(&self) -> Result<(&'a Tensor, &'a [f32]), OpError> {
        let grad = self.grads.first().copied().flatten();
        let grad = grad.ok_or_else(|| OpError::Invalid("the output has no gradient".into()))?;
        Ok((grad, grad.as_slice()?))
    }

    /// The first output, with its elements.
    ///
    /// # Errors
    /// `Invalid` when it was not kept, `Tensor` when it is not float32.
    pub(crate) fn output(&self) -> Result<(&'a Tensor, &'a [f32]), OpError> {
        let output = self.outputs.first().copied().flatten();
        let output = output.ok_or_else(|| OpError::Invalid("the output was not kept".into()))?;
        Ok((output, output.as_slice()?))
    }

    /// The gradients when only input 0 has one: `found`, which is asked for only where it is wanted.
    ///
    /// # Errors
    /// What `found` says.
    pub(crate) fn first(
        &self,
        found: impl FnOnce() -> Result<Tensor, OpError>,
    ) -> Result<Gradients, OpError> {
        Ok(vec![if self.wants(0) { Some(found()?) } else { None }])
    }
}

/// A gradient of `shape` in a buffer of the pool, so that what is given back there was taken from there.
pub(crate) fn pooled(
    shape: &Shape,
    values: impl IntoIterator<Item = f32>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let mut out = work.pool.floats(shape)?;
    out.iter_mut().zip(values).for_each(|(to, value)| *to = value);
    Ok(Tensor::new(shape.clone(), out))
}

impl Op {
    /// Computes the wanted gradients of the inputs from those of the outputs.
    ///
    /// # Errors
    /// `NoGradient` for an operator that has none, else what its way back says.
    pub(crate) fn backward(
        &self,
        back: &Back<'_>,
        work: &mut Workspace,
    ) -> Result<Gradients, OpError> {
        match self {
            Op::Conv(conv) => conv.backward(back, work),
            Op::Gemm(gemm) => gemm.backward(back, work),
            Op::MatMul => matmul::backward(back, work),
            Op::BatchNorm(norm) => norm.backward(back, work),
            Op::LayerNorm(norm) => norm.backward(back, work),
            Op::Unary(unary) => unary.backward(back, work),
            Op::Clip => unary::clip_backward(back, work),
            Op::PRelu => unary::prelu_backward(back, work),
            Op::Binary(binary) => binary.backward(back, work),
            Op::Softmax(softmax) => softmax.backward(back, work),
            Op::MaxPool(pool) => pool.max_backward(back, work),
            Op::AveragePool(pool) => pool.average_backward(back, work),
            Op::GlobalAveragePool => pool::global_average_backward(back, work),
            Op::GlobalMaxPool => pool::global_max_backward(back, work),
            Op::Reduce(reduce) => reduce.backward(back, work),
            Op::Concat(concat) => concat.backward(back, work),
            Op::Split(_)
            | Op::Slice
            | Op::Pad(_)
            | Op::Transpose(_)
            | Op::Gather(_)
            | Op::Expand => moved::backward(self, back, work),
            Op::Where => select::backward(back, work),
            Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze | Op::Unsqueeze | Op::Identity => {
                layout::reshape_backward(back, work)
            }
            Op::QuantizeLinear(quantize) => quantize.backward(back, work),
            Op::DequantizeLinear(dequantize) => dequantize.backward(back, work),
            Op::Shape(_)
            | Op::ConstantOfShape(_)
            | Op::Cast(_)
            | Op::DynamicQuantizeLinear
            | Op::QLinearConv(_)
            | Op::QLinearMatMul
            | Op::ConvInteger(_)
            | Op::MatMulInteger
            | Op::QGemm(_)
            | Op::QLinearAdd
            | Op::QLinearMul
            | Op::QLinearConcat(_)
            | Op::QLinearGlobalAveragePool
            | Op::QLinearAveragePool(_)
            | Op::QLinearUnary(_)
            | Op::QLinearSoftmax(_) => Err(OpError::NoGradient),
        }
    }
}

#[cfg(test)]
mod tests;
