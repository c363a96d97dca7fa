//! ONNX files in and out: the only crate that knows protobuf.
//!
//! [`import`] reads opsets 7 to 25 and `com.microsoft` version 1 and translates older forms of an operator into the
//! newest, which is what [`lowbit_graph`] means by its name. Whatever it cannot translate exactly is an error that names
//! node, operator, attribute, what was found and what is supported; nothing is ignored. Files may be hostile: every size
//! they claim is checked against the bytes that are there before anything is allocated.
//!
//! [`export`] writes the lowest opset that has every form the graph needs.
//!
//! Knows nothing of quantization, of data sets, or of how a graph runs.

mod error;
mod export;
mod import;
mod infer;
pub mod proto;
mod tensor;

pub use error::OnnxError;
pub use export::{export, export_bytes, export_qonnx_bytes};
pub use import::{MAX_OPSET, MIN_OPSET, import, import_bytes, supported_operators};
pub use infer::{Dims, Fact, Facts, infer};
pub use tensor::{tensor_from_bytes, tensor_from_proto, tensor_to_proto};
