//! Constant operands packed once for the kernels.

use lowbit_kernels::{PackedConv, PackedGemm, PackedQConv, PackedQGemm};
use lowbit_tensor::{DType, Tensor};

use super::conv::PackedWeight;
use super::matmul::PackedRight;
use super::{Conv, Gemm, Inputs, Op, qconv, qmatmul};
use crate::{OpError, Workspace};

/// What is known of a node's input before it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operand<'a> {
    /// Not given.
    Absent,
    /// Known only when the graph runs.
    Dynamic,
    /// Known now.
    Constant(&'a Tensor),
}

/// What a session keeps per node beside the operator.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// Nothing: the operator reads its inputs as they are.
    Plain,
    /// Float convolution.
    Conv(Conv, PackedWeight<PackedConv>),
    /// Float fully connected layer.
    Gemm(Gemm, PackedRight<PackedGemm>),
    /// Integer convolution.
    QConv(Conv, PackedWeight<PackedQConv>),
    /// Integer fully connected layer.
    QGemm(Gemm, PackedRight<PackedQGemm>),
}

impl Prepared {
    /// Packs the weight, when it and what is packed with it (bias or zero points) are constant.
    pub(crate) fn new(op: &Op, operands: &[Operand<'_>]) -> Result<Self, OpError> {
        let at = |i: usize| operands.get(i).copied().unwrap_or(Operand::Absent);
        let constant = |i: usize| match at(i) {
            Operand::Constant(tensor) => Some(tensor),
            Operand::Absent | Operand::Dynamic => None,
        };
        let (weight, beside) = match op {
            Op::QLinearConv(_) | Op::QGemm(_) => (constant(3), at(5)),
            _ => (constant(1), at(2)),
        };
        let Some(weight) = weight else {
            return Ok(Prepared::Plain);
        };
        if matches!(beside, Operand::Dynamic) {
            return Ok(Prepared::Plain);
        }
        Ok(match op {
            Op::Conv(conv) if weight.dtype() == DType::F32 => {
                Prepared::Conv(*conv, conv.pack(weight, constant(2))?)
            }
            Op::Gemm(gemm) if weight.dtype() == DType::F32 => {
                Prepared::Gemm(*gemm, gemm.pack(weight, constant(2))?)
            }
            Op::QLinearConv(conv) => {
                Prepared::QConv(*conv, qconv::pack(conv, 3, weight, constant(5))?)
            }
            Op::QGemm(gemm) => Prepared::QGemm(*gemm, qmatmul::pack(gemm, weight, constant(5))?),
            _ => Prepared::Plain,
        })
    }

    /// Runs the node.
    pub(crate) fn forward(
        &self,
        op: &Op,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Vec<Tensor>, OpError> {
        let one = match self {
            Prepared::Plain => return op.forward(inputs, work),
            Prepared::Conv(conv, packed) => conv.run(packed, inputs, work),
            Prepared::Gemm(gemm, packed) => gemm.run(packed, inputs, work),
            Prepared::QConv(conv, packed) => qconv::run(conv, packed, inputs, work),
            Prepared::QGemm(gemm, packed) => qmatmul::run(gemm, packed, inputs, work),
        }?;
        Ok(vec![one])
    }
}
