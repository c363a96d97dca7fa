//! The list of operators that are read, and how many operands each takes.

use lowbit_graph::{Binary, Op, ReduceKind, Unary};
use lowbit_tensor::Tensor;

use super::node::NodeImport;
use super::{activation, conv, layout, linear, pool, qonnx, quantized, shape};
use crate::OnnxError;
use crate::proto::NodeProto;

/// Who defines an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Domain {
    /// The standard.
    Onnx,
    /// onnxruntime's own.
    Microsoft,
    /// QONNX, under any of its names.
    Qonnx,
}

/// QONNX's older names.
const QONNX_ALIASES: &[&str] = &["onnx.brevitas", "finn.custom_op.general"];

impl Domain {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Domain::Onnx => "",
            Domain::Microsoft => "com.microsoft",
            Domain::Qonnx => "qonnx.custom_op.general",
        }
    }
}

type ToOp = fn(&mut NodeImport<'_, '_>) -> Result<Op, OnnxError>;
type ToTensor = fn(&mut NodeImport<'_, '_>) -> Result<Tensor, OnnxError>;

/// What a file's node becomes.
#[derive(Clone, Copy)]
pub(crate) enum Translate {
    /// A node.
    Node(ToOp),
    /// A constant.
    Constant(ToTensor),
}

/// One operator.
pub(crate) struct Row {
    pub(crate) domain: Domain,
    pub(crate) name: &'static str,
    /// Fewest (all of which must be given) and most inputs.
    pub(crate) inputs: (usize, usize),
    /// Most outputs that may be read.
    pub(crate) outputs: usize,
    pub(crate) translate: Translate,
}

const fn onnx(name: &'static str, inputs: (usize, usize), to: ToOp) -> Row {
    Row { domain: Domain::Onnx, name, inputs, outputs: 1, translate: Translate::Node(to) }
}

const fn microsoft(name: &'static str, inputs: (usize, usize), to: ToOp) -> Row {
    Row { domain: Domain::Microsoft, name, inputs, outputs: 1, translate: Translate::Node(to) }
}

const fn qonnx(name: &'static str, inputs: (usize, usize), to: ToOp) -> Row {
    Row { domain: Domain::Qonnx, name, inputs, outputs: 1, translate: Translate::Node(to) }
}

const ANY: usize = usize::MAX;

/// Every operator that is read.
pub(crate) const OPERATORS: &[Row] = &[
    onnx("Abs", (1, 1), |_| Ok(Op::Unary(Unary::Abs))),
    onnx("Add", (2, 2), |_| Ok(Op::Binary(Binary::Add))),
    onnx("AveragePool", (1, 1), pool::average),
    onnx("BatchNormalization", (5, 5), linear::batch_norm),
    onnx("Cast", (1, 1), shape::cast),
    onnx("Ceil", (1, 1), |_| Ok(Op::Unary(Unary::Ceil))),
    onnx("Clip", (1, 3), activation::clip),
    onnx("Concat", (1, ANY), layout::concat),
    Row {
        translate: Translate::Constant(shape::constant),
        ..onnx("Constant", (0, 0), layout::identity)
    },
    onnx("ConstantOfShape", (1, 1), shape::constant_of_shape),
    onnx("Conv", (2, 3), conv::conv),
    onnx("ConvInteger", (2, 4), conv::conv_integer),
    onnx("DequantizeLinear", (2, 3), quantized::dequantize),
    onnx("Div", (2, 2), |_| Ok(Op::Binary(Binary::Div))),
    onnx("Dropout", (1, 3), layout::dropout),
    Row { outputs: 3, ..onnx("DynamicQuantizeLinear", (1, 1), |_| Ok(Op::DynamicQuantizeLinear)) },
    onnx("Equal", (2, 2), |_| Ok(Op::Binary(Binary::Equal))),
    onnx("Erf", (1, 1), |_| Ok(Op::Unary(Unary::Erf))),
    onnx("Exp", (1, 1), |_| Ok(Op::Unary(Unary::Exp))),
    onnx("Expand", (2, 2), |_| Ok(Op::Expand)),
    onnx("Flatten", (1, 1), layout::flatten),
    onnx("Floor", (1, 1), |_| Ok(Op::Unary(Unary::Floor))),
    onnx("Gather", (2, 2), layout::gather),
    onnx("Gelu", (1, 1), activation::gelu),
    onnx("Gemm", (2, 3), linear::gemm),
    onnx("GlobalAveragePool", (1, 1), |_| Ok(Op::GlobalAveragePool)),
    onnx("GlobalMaxPool", (1, 1), |_| Ok(Op::GlobalMaxPool)),
    onnx("Greater", (2, 2), |_| Ok(Op::Binary(Binary::Greater))),
    onnx("GreaterOrEqual", (2, 2), |_| Ok(Op::Binary(Binary::GreaterOrEqual))),
    onnx("HardSigmoid", (1, 1), activation::hard_sigmoid),
    onnx("HardSwish", (1, 1), |_| Ok(Op::Unary(Unary::HardSwish))),
    onnx("Identity", (1, 1), layout::identity),
    onnx("LayerNormalization", (2, 3), linear::layer_norm),
    onnx("LeakyRelu", (1, 1), activation::leaky_relu),
    onnx("Less", (2, 2), |_| Ok(Op::Binary(Binary::Less))),
    onnx("LessOrEqual", (2, 2), |_| Ok(Op::Binary(Binary::LessOrEqual))),
    onnx("LogSoftmax", (1, 1), |n| activation::softmax(n, true)),
    onnx("MatMul", (2, 2), |_| Ok(Op::MatMul)),
    onnx("MatMulInteger", (2, 4), |_| Ok(Op::MatMulInteger)),
    onnx("Max", (1, ANY), |n| linear::chain(n, Binary::Max)),
    onnx("MaxPool", (1, 1), pool::max),
    onnx("Min", (1, ANY), |n| linear::chain(n, Binary::Min)),
    onnx("Mul", (2, 2), |_| Ok(Op::Binary(Binary::Mul))),
    onnx("Neg", (1, 1), |_| Ok(Op::Unary(Unary::Neg))),
    onnx("PRelu", (2, 2), |_| Ok(Op::PRelu)),
    onnx("Pad", (1, 4), layout::pad),
    onnx("Pow", (2, 2), |_| Ok(Op::Binary(Binary::Pow))),
    onnx("QLinearConv", (8, 9), conv::qlinear_conv),
    onnx("QLinearMatMul", (8, 8), |_| Ok(Op::QLinearMatMul)),
    onnx("QuantizeLinear", (2, 3), quantized::quantize),
    onnx("ReduceMean", (1, 2), |n| layout::reduce(n, ReduceKind::Mean)),
    onnx("ReduceSum", (1, 2), |n| layout::reduce(n, ReduceKind::Sum)),
    onnx("Relu", (1, 1), |_| Ok(Op::Unary(Unary::Relu))),
    onnx("Reshape", (2, 2), layout::reshape),
    onnx("Shape", (1, 1), shape::shape),
    onnx("Sigmoid", (1, 1), |_| Ok(Op::Unary(Unary::Sigmoid))),
    onnx("Sign", (1, 1), |_| Ok(Op::Unary(Unary::Sign))),
    onnx("Slice", (1, 5), layout::slice),
    onnx("Softmax", (1, 1), |n| activation::softmax(n, false)),
    Row { outputs: ANY, ..onnx("Split", (1, 2), layout::split) },
    onnx("Sqrt", (1, 1), |_| Ok(Op::Unary(Unary::Sqrt))),
    onnx("Squeeze", (1, 2), layout::squeeze),
    onnx("Sub", (2, 2), |_| Ok(Op::Binary(Binary::Sub))),
    onnx("Tanh", (1, 1), |_| Ok(Op::Unary(Unary::Tanh))),
    onnx("Transpose", (1, 1), layout::transpose),
    onnx("Unsqueeze", (1, 2), layout::unsqueeze),
    onnx("Where", (3, 3), |_| Ok(Op::Where)),
    microsoft("DequantizeLinear", (2, 3), quantized::dequantize),
    microsoft("Gelu", (1, 1), |_| Ok(Op::Unary(Unary::Gelu))),
    microsoft("QGemm", (6, 9), quantized::qgemm),
    microsoft("QLinearAdd", (7, 8), |_| Ok(Op::QLinearAdd)),
    microsoft("QLinearAveragePool", (4, 5), pool::qlinear_average),
    microsoft("QLinearConcat", (5, ANY), quantized::qlinear_concat),
    microsoft("QLinearGlobalAveragePool", (4, 5), quantized::qlinear_global_average),
    microsoft("QLinearLeakyRelu", (4, 5), quantized::qlinear_leaky_relu),
    microsoft("QLinearMul", (7, 8), |_| Ok(Op::QLinearMul)),
    microsoft("QLinearSigmoid", (4, 5), |_| Ok(Op::QLinearUnary(Unary::Sigmoid))),
    microsoft("QLinearSoftmax", (4, 5), quantized::qlinear_softmax),
    microsoft("QuantizeLinear", (2, 3), quantized::quantize),
    qonnx("BipolarQuant", (2, 2), qonnx::bipolar_quant),
    qonnx("IntQuant", (4, 4), qonnx::int_quant),
    qonnx("Quant", (4, 4), qonnx::int_quant),
];

/// Every operator that is read, as (domain, name); the domain of the standard is "".
pub fn supported_operators() -> impl Iterator<Item = (&'static str, &'static str)> {
    OPERATORS.iter().map(|row| (row.domain.name(), row.name))
}

/// The row for a file's node.
pub(crate) fn find(name: &str, node: &NodeProto) -> Result<&'static Row, OnnxError> {
    let op = node.op_type.as_deref().unwrap_or_default();
    let domain = match node.domain.as_deref().unwrap_or_default() {
        "ai.onnx" => "",
        alias if QONNX_ALIASES.contains(&alias) => Domain::Qonnx.name(),
        other => other,
    };
    let fits = |row: &&Row| row.domain.name() == domain && row.name == op;
    OPERATORS.iter().find(fits).ok_or_else(|| OnnxError::Operator {
        node: name.to_owned(),
        op: op.to_owned(),
        domain: domain.to_owned(),
        supported: siblings(domain),
    })
}

/// What is supported of a domain, for messages.
fn siblings(domain: &str) -> String {
    let of = |domain: &str| -> Vec<&str> {
        OPERATORS.iter().filter(|r| r.domain.name() == domain).map(|r| r.name).collect()
    };
    match of(domain) {
        none if none.is_empty() => {
            "domains \"\", \"com.microsoft\" and \"qonnx.custom_op.general\"".into()
        }
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operator_has_one_row() {
        for (i, row) in OPERATORS.iter().enumerate() {
            let twin = OPERATORS[..i].iter().find(|r| r.domain == row.domain && r.name == row.name);
            assert!(twin.is_none(), "{} twice", row.name);
        }
    }
}
