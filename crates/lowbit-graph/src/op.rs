//! The closed set of operators. One match per question, one file per operator or family.
//!
//! Attributes and input order are ONNX's newest: operands that newer opsets take as inputs (slice bounds, pads, axes,
//! clip limits) are inputs here. Quantized operators of the `com.microsoft` domain keep that domain's input order.

mod arithmetic;
mod backward;
mod binary;
mod cast;
mod concat;
mod conv;
mod dispatch;
mod gather;
mod inputs;
mod layout;
mod matmul;
mod moved;
mod norm;
mod pad;
mod pool;
mod prepared;
mod qconv;
mod qelementwise;
mod qmatmul;
mod qparams;
mod qpool;
mod quantize;
mod reduce;
mod select;
mod shape;
mod sketch;
mod slice;
mod softmax;
mod split;
mod strided;
mod unary;
mod window;

use lowbit_tensor::Tensor;

pub(crate) use backward::{Back, Gradients, pooled};
pub use binary::Binary;
pub use cast::Cast;
pub use concat::Concat;
pub use conv::{Activation, AutoPad, Conv};
#[cfg(test)]
pub(crate) use dispatch::testing;
pub use gather::Gather;
pub use inputs::Inputs;
pub use layout::{Flatten, Reshape, Transpose};
pub use matmul::Gemm;
pub use norm::{BatchNorm, LayerNorm};
pub use pad::{Pad, PadMode};
pub use pool::Pool2d;
pub(crate) use prepared::{Operand, Prepared};
pub use quantize::{Blocking, DequantizeLinear, QuantizeLinear, quantize_bias};
pub(crate) use quantize::{dequantize_one, quantize_one};
pub use reduce::{Reduce, ReduceKind};
pub use shape::{ConstantOfShape, ShapeOf};
pub use softmax::Softmax;
pub use split::Split;
pub use unary::Unary;
pub use window::Window;

use crate::{OpError, Workspace};

/// One operator with its attributes.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Convolution: x [n, c, h, w], weight [o, c/groups, kh, kw], bias [o]?; with a fused activation.
    Conv(Conv),
    /// alpha·A·B + beta·C with optional transposes; with a fused activation.
    Gemm(Gemm),
    /// Matrix product with numpy's batch broadcasting.
    MatMul,
    /// Inference-time batch normalization: x, scale, bias, mean, variance.
    BatchNorm(BatchNorm),
    /// Layer normalization: x, scale, bias?.
    LayerNorm(LayerNorm),
    /// One float in, one float out.
    Unary(Unary),
    /// x, min?, max?.
    Clip,
    /// x, slope (broadcast one way).
    PRelu,
    /// Two operands, broadcast.
    Binary(Binary),
    /// Softmax or its logarithm.
    Softmax(Softmax),
    /// Maximum over windows.
    MaxPool(Pool2d),
    /// Mean over windows.
    AveragePool(Pool2d),
    /// Mean over all positions of each channel.
    GlobalAveragePool,
    /// Maximum over all positions of each channel.
    GlobalMaxPool,
    /// Mean or sum over axes: data, axes?.
    Reduce(Reduce),
    /// Joins inputs along an axis.
    Concat(Concat),
    /// Cuts along an axis: data, sizes?.
    Split(Split),
    /// data, starts, ends, axes?, steps?.
    Slice,
    /// data, pads, value?, axes?.
    Pad(Pad),
    /// data, shape.
    Reshape(Reshape),
    /// Two axes out of many.
    Flatten(Flatten),
    /// data, axes?: drops axes of extent 1.
    Squeeze,
    /// data, axes: inserts axes of extent 1.
    Unsqueeze,
    /// Permutes axes.
    Transpose(Transpose),
    /// data, indices.
    Gather(Gather),
    /// The input's dimensions as int64.
    Shape(ShapeOf),
    /// A tensor of one value in the shape that the input names.
    ConstantOfShape(ConstantOfShape),
    /// Converts the element type.
    Cast(Cast),
    /// The input itself.
    Identity,
    /// data, shape.
    Expand,
    /// condition, then, else.
    Where,
    /// x, scale, zero_point? → codes.
    QuantizeLinear(QuantizeLinear),
    /// codes, scale, zero_point? → floats.
    DequantizeLinear(DequantizeLinear),
    /// x → codes, scale, zero_point, found from x's range.
    DynamicQuantizeLinear,
    /// x, x_scale, x_zp, w, w_scale, w_zp, y_scale, y_zp, bias?.
    QLinearConv(Conv),
    /// a, a_scale, a_zp, b, b_scale, b_zp, y_scale, y_zp.
    QLinearMatMul,
    /// x, w, x_zp?, w_zp? → int32.
    ConvInteger(Conv),
    /// a, b, a_zp?, b_zp? → int32.
    MatMulInteger,
    /// a, a_scale, a_zp, b, b_scale, b_zp, bias?, y_scale?, y_zp?: float result without y_scale (`com.microsoft`).
    QGemm(Gemm),
    /// a, a_scale, a_zp, b, b_scale, b_zp, y_scale, y_zp (`com.microsoft`).
    QLinearAdd,
    /// a, a_scale, a_zp, b, b_scale, b_zp, y_scale, y_zp (`com.microsoft`).
    QLinearMul,
    /// y_scale, y_zp, then (x, x_scale, x_zp) per part (`com.microsoft`).
    QLinearConcat(Concat),
    /// x, x_scale, x_zp, y_scale, y_zp (`com.microsoft`).
    QLinearGlobalAveragePool,
    /// x, x_scale, x_zp, y_scale, y_zp (`com.microsoft`).
    QLinearAveragePool(Pool2d),
    /// x, x_scale, x_zp, y_scale, y_zp (`com.microsoft`): a 256-entry table.
    QLinearUnary(Unary),
    /// x, x_scale, x_zp, y_scale, y_zp (`com.microsoft`).
    QLinearSoftmax(Softmax),
}

impl Op {
    /// The operator's ONNX name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Op::Conv(_) => "Conv",
            Op::Gemm(_) => "Gemm",
            Op::MatMul => "MatMul",
            Op::BatchNorm(_) => "BatchNormalization",
            Op::LayerNorm(_) => "LayerNormalization",
            Op::Unary(unary) => unary.name(),
            Op::Clip => "Clip",
            Op::PRelu => "PRelu",
            Op::Binary(binary) => binary.name(),
            Op::Softmax(softmax) => softmax.name(),
            Op::MaxPool(_) => "MaxPool",
            Op::AveragePool(_) => "AveragePool",
            Op::GlobalAveragePool => "GlobalAveragePool",
            Op::GlobalMaxPool => "GlobalMaxPool",
            Op::Reduce(reduce) => reduce.name(),
            Op::Concat(_) => "Concat",
            Op::Split(_) => "Split",
            Op::Slice => "Slice",
            Op::Pad(_) => "Pad",
            Op::Reshape(_) => "Reshape",
            Op::Flatten(_) => "Flatten",
            Op::Squeeze => "Squeeze",
            Op::Unsqueeze => "Unsqueeze",
            Op::Transpose(_) => "Transpose",
            Op::Gather(_) => "Gather",
            Op::Shape(_) => "Shape",
            Op::ConstantOfShape(_) => "ConstantOfShape",
            Op::Cast(_) => "Cast",
            Op::Identity => "Identity",
            Op::Expand => "Expand",
            Op::Where => "Where",
            Op::QuantizeLinear(_) => "QuantizeLinear",
            Op::DequantizeLinear(_) => "DequantizeLinear",
            Op::DynamicQuantizeLinear => "DynamicQuantizeLinear",
            Op::QLinearConv(_) => "QLinearConv",
            Op::QLinearMatMul => "QLinearMatMul",
            Op::ConvInteger(_) => "ConvInteger",
            Op::MatMulInteger => "MatMulInteger",
            Op::QGemm(_) => "QGemm",
            Op::QLinearAdd => "QLinearAdd",
            Op::QLinearMul => "QLinearMul",
            Op::QLinearConcat(_) => "QLinearConcat",
            Op::QLinearGlobalAveragePool => "QLinearGlobalAveragePool",
            Op::QLinearAveragePool(_) => "QLinearAveragePool",
            Op::QLinearUnary(Unary::Sigmoid) => "QLinearSigmoid",
            Op::QLinearUnary(Unary::LeakyRelu { .. }) => "QLinearLeakyRelu",
            Op::QLinearUnary(_) => "QLinearUnary",
            Op::QLinearSoftmax(_) => "QLinearSoftmax",
        }
    }

    /// Whether the result holds elements of the first input, moved or picked out, and at most a constant beside them: then codes can be
    /// moved in their place.
    #[must_use]
    pub fn moves_elements(&self) -> bool {
        matches!(
            self,
            Op::MaxPool(_)
                | Op::Reshape(_)
                | Op::Flatten(_)
                | Op::Squeeze
                | Op::Unsqueeze
                | Op::Transpose(_)
                | Op::Slice
                | Op::Pad(_)
                | Op::Gather(_)
                | Op::Expand
                | Op::Identity
        )
    }

    /// Whether it makes or reads quantized codes.
    #[must_use]
    pub fn is_quantized(&self) -> bool {
        let name = self.name();
        name.contains("Quantize")
            || name.contains("quantize")
            || name.starts_with('Q')
            || name.ends_with("Integer")
    }

    /// Computes the outputs from the inputs.
    ///
    /// # Errors
    /// [`OpError`] when the inputs' types or shapes do not fit the operator.
    pub fn forward(
        &self,
        inputs: &Inputs<'_>,
        workspace: &mut Workspace,
    ) -> Result<Vec<Tensor>, OpError> {
        let one = match self {
            Op::Split(split) => return split.forward(inputs, workspace),
            Op::DynamicQuantizeLinear => return quantize::dynamic(inputs),
            Op::Conv(conv) => conv.forward(inputs, workspace),
            Op::Gemm(gemm) => gemm.forward(inputs, workspace),
            Op::MatMul => matmul::forward(inputs, workspace),
            Op::BatchNorm(norm) => norm.forward(inputs, workspace),
            Op::LayerNorm(norm) => norm.forward(inputs, workspace),
            Op::Unary(unary) => unary.forward(inputs, workspace),
            Op::Clip => unary::clip(inputs, workspace),
            Op::PRelu => unary::prelu(inputs, workspace),
            Op::Binary(binary) => binary.forward(inputs, workspace),
            Op::Softmax(softmax) => softmax.forward(inputs, workspace),
            Op::MaxPool(pool) => pool.max(inputs, workspace),
            Op::AveragePool(pool) => pool.average(inputs, workspace),
            Op::GlobalAveragePool => pool::global_average(inputs, workspace),
            Op::GlobalMaxPool => pool::global_max(inputs, workspace),
            Op::Reduce(reduce) => reduce.forward(inputs, workspace),
            Op::Concat(concat) => concat.forward(inputs, workspace),
            Op::Slice => slice::forward(inputs, workspace),
            Op::Pad(pad) => pad.forward(inputs, workspace),
            Op::Reshape(reshape) => reshape.forward(inputs, workspace),
            Op::Flatten(flatten) => flatten.forward(inputs, workspace),
            Op::Squeeze => layout::squeeze(inputs, workspace),
            Op::Unsqueeze => layout::unsqueeze(inputs, workspace),
            Op::Transpose(transpose) => transpose.forward(inputs, workspace),
            Op::Gather(gather) => gather.forward(inputs, workspace),
            Op::Shape(shape) => shape.forward(inputs),
            Op::ConstantOfShape(constant) => constant.forward(inputs, workspace),
            Op::Cast(cast) => cast.forward(inputs, workspace),
            Op::Identity => layout::identity(inputs, workspace),
            Op::Expand => layout::expand(inputs, workspace),
            Op::Where => select::forward(inputs, workspace),
            Op::QuantizeLinear(quantize) => quantize.forward(inputs, workspace),
            Op::DequantizeLinear(dequantize) => dequantize.forward(inputs, workspace),
            Op::QLinearConv(conv) => qconv::qlinear(conv, inputs, workspace),
            Op::ConvInteger(conv) => qconv::integer(conv, inputs, workspace),
            Op::QLinearMatMul => qmatmul::qlinear(inputs, workspace),
            Op::MatMulInteger => qmatmul::integer(inputs, workspace),
            Op::QGemm(gemm) => qmatmul::qgemm(gemm, inputs, workspace),
            Op::QLinearAdd => qelementwise::add(inputs, workspace),
            Op::QLinearMul => qelementwise::mul(inputs, workspace),
            Op::QLinearConcat(concat) => qelementwise::concat(concat, inputs, workspace),
            Op::QLinearUnary(unary) => qelementwise::table(unary, inputs, workspace),
            Op::QLinearSoftmax(softmax) => qelementwise::softmax(softmax, inputs, workspace),
            Op::QLinearGlobalAveragePool => qpool::global_average(inputs, workspace),
            Op::QLinearAveragePool(pool) => qpool::average(pool, inputs, workspace),
        }?;
        Ok(vec![one])
    }
}
