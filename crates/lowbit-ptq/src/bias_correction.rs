//! Empirical bias correction (Nagel et al. 2019, arXiv:1906.04721, section 4.2; here with images instead of BatchNorm
//! statistics): quantization shifts the mean of a channel's output, and the bias takes the shift back.
