//! The names of file formats on the command line.

use clap::ValueEnum;
use lowbit::Format;

/// The ways of writing a quantized model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatName {
    /// QuantizeLinear and DequantizeLinear around float operators, int8 weights: every runtime reads it
    Qdq,
    /// As qdq, with weights as narrow codes that are decoded when the file is loaded: small, and as fast as qdq
    QdqPacked,
    /// Quantizers as operators of QONNX, for uniform and binary weights of any width
    Qonnx,
    /// Entropy-coded, in a container that lowbit alone reads (.lbz): smallest
    Compressed,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Format {
        match name {
            FormatName::Qdq => Format::Qdq,
            FormatName::QdqPacked => Format::QdqPacked,
            FormatName::Qonnx => Format::Qonnx,
            FormatName::Compressed => Format::Compressed,
        }
    }
}
