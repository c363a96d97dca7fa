//! The recipes that have names.

use lowbit_ptq::{Equalization, Gptq, Reconstruction};
use lowbit_quant::{
    ClusterMethod, ClusterStart, Clustering, Codebook, Entries, Granularity, Grid, Quantizer,
    RangeRule, ScaleRule, Uniform, UniformCodes,
};

use super::{FloatStep, LayerRecipe, Recipe, Source, Step};

/// A recipe that has a name.
#[derive(Clone, Copy, Debug)]
pub struct RecipePreset {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a line.
    pub line: &'static str,
    /// The recipe.
    pub recipe: fn() -> Recipe,
}

/// All recipes that have names.
pub const PRESETS: &[RecipePreset] = &[
    RecipePreset {
        name: "int8",
        line: "8-bit weights per channel, 8-bit activations, bias correction: the default",
        recipe: int8,
    },
    RecipePreset {
        name: "int8-brecq",
        line: "as int8, blocks reconstructed: for scores that lie close together; minutes",
        recipe: || {
            let blocks = Reconstruction { iterations: 300, ..Reconstruction::brecq() };
            Recipe { steps: vec![Step::BiasCorrection, Step::Reconstruct(blocks)], ..int8() }
        },
    },
    RecipePreset {
        name: "w8a8-kl",
        line: "as int8, ranges of least Kullback-Leibler divergence",
        recipe: || Recipe { activations: RangeRule::Kl, ..int8() },
    },
    RecipePreset {
        name: "int8-per-tensor",
        line: "one 8-bit weight scale a layer, nothing else: what equalization is for",
        recipe: per_tensor,
    },
    RecipePreset {
        name: "int8-per-tensor-dfq",
        line: "one 8-bit weight scale a layer after cross-layer equalization, bias correction",
        recipe: || Recipe {
            float_steps: vec![FloatStep::Equalize(Equalization::DFQ)],
            steps: vec![Step::BiasCorrection],
            ..per_tensor()
        },
    },
    RecipePreset {
        name: "data-free-int8",
        line: "as int8, calibrated on images made from BatchNormalization statistics",
        recipe: || Recipe { calibration: Source::DISTILLED, ..int8() },
    },
    RecipePreset {
        name: "data-free-w4a8",
        line: "4-bit weights rounded by GPTQ on images made from BatchNormalization statistics",
        recipe: || Recipe {
            calibration: Source::DISTILLED,
            steps: vec![Step::Gptq(Gptq::PAPER), Step::BiasCorrection],
            ..bits(4, 8)
        },
    },
    RecipePreset {
        name: "w4a8-nearest",
        line: "4-bit weights rounded to nearest, bias correction: seconds",
        recipe: || Recipe { steps: vec![Step::BiasCorrection], ..bits(4, 8) },
    },
    RecipePreset {
        name: "w4a8",
        line: "4-bit weights, 8-bit activations, blocks reconstructed",
        recipe: || bits(4, 8),
    },
    RecipePreset {
        name: "w4a4",
        line: "4-bit weights and activations, blocks reconstructed, then the network: minutes",
        recipe: || learned((4, 4), (200, 400)),
    },
    RecipePreset {
        name: "w3a8",
        line: "3-bit weights, 8-bit activations, blocks reconstructed, then the network: minutes",
        recipe: || learned((3, 8), (300, 600)),
    },
    RecipePreset {
        name: "w2a8",
        line: "2-bit weights, 8-bit activations, blocks reconstructed, then the network: minutes",
        recipe: w2a8,
    },
    RecipePreset {
        name: "pot4",
        line: "4-bit powers of two, blocks reconstructed",
        recipe: || preset("pot-4"),
    },
    RecipePreset {
        name: "apot4",
        line: "4-bit sums of two powers of two, blocks reconstructed",
        recipe: || preset("apot-4"),
    },
    RecipePreset {
        name: "ternary",
        line: "weights -1, 0 and 1 times a scale per channel, blocks reconstructed",
        recipe: || preset("ternary-optimal"),
    },
    RecipePreset {
        name: "binary-weights",
        line: "weights -1 and 1 times a scale per channel, blocks reconstructed",
        recipe: || preset("bwn"),
    },
    RecipePreset {
        name: "kmeans4",
        line: "weights from a table of 16 numbers a layer, found by k-means; blocks reconstructed",
        recipe: || preset("kmeans-16"),
    },
    RecipePreset {
        name: "deep-compression",
        line: "pruned weights from small tables; write it with --format compressed",
        recipe: deep_compression,
    },
];

/// A quantizer by name between a first and a last layer of 8 bits.
fn preset(name: &str) -> Recipe {
    Recipe { weights: named(name), ..bits(4, 8) }
}

fn named(name: &str) -> Quantizer {
    Quantizer::preset(name).expect("a test opens every recipe")
}

/// The pipeline of Deep Compression (Han et al. 2016, arXiv:1510.00149): pruning by magnitude and a table for each layer;
/// entropy coding is a matter of the file. In the place of retraining, blocks are reconstructed.
fn deep_compression() -> Recipe {
    let table = |entries: u32, prune: f64| Quantizer {
        grid: Grid::Codebook(Codebook { entries, dimension: 1, numbers: Entries::Int8 }),
        scale: ScaleRule::Cluster(Clustering {
            method: ClusterMethod::KMeans { start: ClusterStart::Linear, rounds: 100 },
            prune,
        }),
        ..named("kmeans-16")
    };
    let ends = LayerRecipe { weights: table(64, 0.0), activation_bits: 8 };
    Recipe { weights: table(16, 0.3), ends: Some(ends), ..bits(4, 8) }
}

/// int8 weights per channel, uint8 activations.
pub(super) fn int8() -> Recipe {
    Recipe {
        activations: RangeRule::Mse,
        activation_bits: 8,
        channel_scales: true,
        weights: uniform(8),
        importance: None,
        shared_codebook: false,
        ends: None,
        layers: vec![],
        calibration: Source::Images,
        float_steps: vec![],
        steps: vec![Step::BiasCorrection],
    }
}

/// int8 weights with one scale a layer.
fn per_tensor() -> Recipe {
    Recipe {
        channel_scales: false,
        weights: Quantizer { granularity: Granularity::Tensor, ..uniform(8) },
        steps: vec![],
        ..int8()
    }
}

/// Few bits between a first and a last layer of 8.
fn bits(weights: u8, activations: u8) -> Recipe {
    Recipe {
        activation_bits: activations,
        weights: uniform(weights),
        ends: Some(LayerRecipe { weights: uniform(8), activation_bits: 8 }),
        steps: vec![Step::BiasCorrection, Step::Reconstruct(Reconstruction::brecq())],
        ..int8()
    }
}

/// As [`bits`], with so many steps a block, and then for the whole network.
fn learned((weights, activations): (u8, u8), (blocks, network): (usize, usize)) -> Recipe {
    let blocks = Reconstruction { iterations: blocks, ..Reconstruction::brecq() };
    let network = Reconstruction { iterations: network, ..Reconstruction::distillation() };
    Recipe { steps: block_by_block(blocks, network), ..bits(weights, activations) }
}

/// Bias correction, then blocks, then the network.
fn block_by_block(blocks: Reconstruction, network: Reconstruction) -> Vec<Step> {
    vec![Step::BiasCorrection, Step::Reconstruct(blocks), Step::Reconstruct(network)]
}

/// Four levels without 0; with so few, longer steps, and scales that follow.
fn w2a8() -> Recipe {
    let mid_rise = Grid::Uniform(Uniform { bits: 2, codes: UniformCodes::MidRise });
    let blocks = Reconstruction { iterations: 200, ..Reconstruction::brecq() };
    let network = Reconstruction {
        iterations: 1000,
        rate: 0.005,
        scale_rate: 0.001,
        settled: 0.1,
        ..Reconstruction::distillation()
    };
    Recipe {
        weights: Quantizer::per_channel(mid_rise, ScaleRule::Mse),
        steps: block_by_block(blocks, network),
        ..bits(2, 8)
    }
}

/// Equal steps per channel: the largest weight sets the scale at 8 bits, the least squared error below.
fn uniform(bits: u8) -> Quantizer {
    let (codes, scale) = match bits {
        8 => (UniformCodes::Narrow, ScaleRule::MaxAbs),
        _ => (UniformCodes::Signed, ScaleRule::Mse),
    };
    Quantizer::per_channel(Grid::Uniform(Uniform { bits, codes }), scale)
}
