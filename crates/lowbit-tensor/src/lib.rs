//! Shapes, dense tensors and the project's only randomness.
