//! Compute kernels over plain slices: the only crate with unsafe code.
