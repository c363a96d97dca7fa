//! ONNX files in and out: the only crate that knows protobuf.
