//! Compute kernels over plain slices: the only crate with unsafe code.
//!
//! Images are NCHW. Kernels are compiled for several instruction sets and chosen at run time ([`Isa`]); results do not
//! depend on thread counts or batch sizes. Nothing here knows graphs, tensors or quantization schemes.

mod arch;
mod conv;

mod depthwise;
mod elementwise;
mod engine;
mod gemm;
mod geometry;
mod gradient;
mod isa;
pub mod naive;
pub mod nhwc;
mod qconv;
mod stage;
mod sweep;
mod threads;
mod tile;
mod weights;
mod word;

pub use conv::{ConvCall, PackedConv};
pub use elementwise::{
    Code, ROUNDER, Requantization, add_f32, dequantize, dot, minmax, mul_f32, quantize,
    quantize_gradient, requantize,
};
pub use engine::Scratch;
pub use gemm::{
    GemmCall, MatShape, Order, PackedGemm, PackedQGemm, QGemmCall, QMat, matmul, qmatmul,
};
pub use geometry::{Activation, ConvGeometry, Parallel};
pub use gradient::ConvGradient;
pub use isa::{Body, Isa};
pub use qconv::{IntSlice, PackedQConv, QConvCall};
