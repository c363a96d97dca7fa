//! Data sets and preprocessing: the only image decoder.
