//! Quantizer maths that knows no graph: parameters, grids, scale rules, observers' histograms.
