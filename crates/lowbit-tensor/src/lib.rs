//! Shapes, dense tensors and the project's only randomness.
//!
//! Knows nothing of graphs, files or quantizers: a tensor is a shape, an element type and a row-major buffer.

mod dtype;
mod rng;
mod shape;
mod tensor;

pub use dtype::{Buffer, DType, Element};
pub use rng::Rng;
pub use shape::Shape;
pub use tensor::{Tensor, TensorError};
