//! What BatchNormalization remembers of the training images: how each channel of a layer's result is distributed.

use std::collections::BTreeMap;

use lowbit_graph::{Graph, Node, Op};

/// A normal distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normal {
    /// Its mean.
    pub mean: f32,
    /// Its standard deviation.
    pub deviation: f32,
}

/// The distribution of every channel behind a normalization, before the activation: y ~ N(β, γ²), by the name of the layer that
/// the normalization is folded into.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchNormStatistics {
    /// Channels of each layer.
    pub layers: BTreeMap<String, Vec<Normal>>,
}

impl BatchNormStatistics {
    /// Reads the normalizations of a graph that still has them ([`lowbit_graph::passes::canonicalize_unfolded`]).
    #[must_use]
    pub fn of(unfolded: &Graph) -> BatchNormStatistics {
        let normalizations = unfolded.nodes.iter().filter(|n| matches!(n.op, Op::BatchNorm(_)));
        let layers = normalizations.filter_map(|node| {
            let gamma = unfolded.constant_input(node, 1)?.as_slice::<f32>().ok()?;
            let beta = unfolded.constant_input(node, 2)?.as_slice::<f32>().ok()?;
            let normal = |(&mean, gamma): (&f32, &f32)| Normal { mean, deviation: gamma.abs() };
            Some((layer_of(unfolded, node), beta.iter().zip(gamma).map(normal).collect()))
        });
        BatchNormStatistics { layers: layers.collect() }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }
}

/// The layer that a normalization is folded into; its own name where it stands alone.
fn layer_of(graph: &Graph, norm: &Node) -> String {
    let before = norm.input(0).and_then(|x| {
        graph.only_consumer(x)?;
        graph.nodes.iter().find(|node| node.outputs.contains(&Some(x)))
    });
    let layer = before.filter(|node| {
        matches!(node.op, Op::Conv(_) | Op::Gemm(_)) && graph.constant_input(node, 1).is_some()
    });
    layer.unwrap_or(norm).name.clone()
}
