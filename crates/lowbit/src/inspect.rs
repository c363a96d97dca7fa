//! What a model consists of, and what of it runs as integers where.

use std::collections::HashMap;

use lowbit_graph::passes::{Runs, trace};
use lowbit_graph::{Graph, Node, Op};
use lowbit_tensor::Tensor;
use serde::Serialize;

use crate::{Error, InputShape, Model};

/// Where a model would run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// lowbit itself.
    Lowbit,
    /// onnxruntime's CPU provider, version 1.31, default optimizations.
    Ort,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Shape of its first result for a batch of one.
    pub shape: Vec<usize>,
    /// Weights and biases, elements.
    pub parameters: u64,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// Bits of a weight.
    pub bits_w: Option<u32>,
    /// Whether it computes on integers.
    pub integer: bool,
    /// What it runs as.
    pub runs_as: String,
    /// Why it does not run as integer.
    pub reason: Option<String>,
    /// What would make it.
    pub fix: Option<String>,
}

/// A model, node by node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// The nodes in running order.
    pub nodes: Vec<NodeReport>,
    /// Shape of the input for a batch of one.
    pub input: Vec<usize>,
    /// Shape of the first output.
    pub output: Vec<usize>,
    /// All weights and biases, elements.
    pub parameters: u64,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// Bytes of the file.
    pub size_bytes: u64,
    /// Whether the model is quantized.
    pub quantized: bool,
}

/// Looks at a model as it would run on `target`. `shape` is that of one image where the file leaves it open.
///
/// # Errors
/// `Graph` when the model does not run on an image of that shape.
pub fn inspect(
    model: &Model,
    shape: Option<InputShape>,
    target: Target,
) -> Result<Inspection, Error> {
    let _ = (model, shape, target);
    let _: Option<(HashMap<u8, Node>, Graph, Op, Tensor, Runs)> = None;
    let _ = trace;
    unimplemented!("inspect")
}
