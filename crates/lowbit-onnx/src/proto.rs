//! `prost` types for ONNX's protobuf schema. Generated: see `proto/generate.rs`.

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated from onnx.proto, where the documentation is"
)]
mod onnx;

pub use onnx::*;
