//! What can go wrong between a float graph and a quantized one.

use lowbit_graph::GraphError;
use lowbit_quant::QuantError;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PtqError {
    /// The graph does not run.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// An image could not be had.
    #[error("calibration image {index}")]
    Sample {
        /// Its position in the calibration set.
        index: usize,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A layer's weights, bias or activations cannot be quantized.
    #[error("\"{name}\": {source}")]
    Value {
        /// The node or value.
        name: String,
        /// Why.
        source: QuantError,
    },
    /// Weights that a format for integers alone cannot hold.
    #[error(
        "node \"{node}\": weights of grid {grid} per {granularity}; this format holds integers of one number of bits, with \
         a scale per tensor or channel (int4-mse, ternary, binary): use qdq-packed"
    )]
    NotUniform {
        /// The layer.
        node: String,
        /// Its grid.
        grid: &'static str,
        /// What shares a scale.
        granularity: &'static str,
    },
    /// There is nothing to quantize.
    #[error("the model has no convolution or fully connected layer with constant weights")]
    NothingToQuantize,
    /// The model is quantized already.
    #[error(
        "the model is quantized already: it holds {op} (node \"{node}\"); give the float model"
    )]
    AlreadyQuantized {
        /// The operator found.
        op: &'static str,
        /// Its node.
        node: String,
    },
    /// Data-free calibration without the statistics it reads.
    #[error(
        "the model has no BatchNormalization left, whose statistics calibration without images reads; \
         give a model with its BatchNormalization nodes, or images"
    )]
    NoBatchNorm,
    /// A quantized value about which the statistics say nothing.
    #[error(
        "\"{value}\": its range does not follow from BatchNormalization statistics; calibrate on distilled images"
    )]
    Unreached {
        /// Its name.
        value: String,
    },
    /// A model of this kind cannot be calibrated.
    #[error("the model has {found} inputs, expected one float32 image input")]
    Inputs {
        /// How many it has.
        found: usize,
    },
}
