//! The public API: a typed pipeline from a float classifier to a quantized one with its proof.
