//! Empirical bias correction (Nagel et al. 2019, arXiv:1906.04721, section 4.2).
//!
//! Rounding the weights of a channel by ΔW shifts the mean of its output by Σ ΔW·E[x]; the bias takes the shift back. The paper
//! derives E[x] from BatchNorm statistics; here it is measured on the calibration images, per input channel, and taps that
//! fall on padding are counted as if they did not.

use lowbit_graph::{Graph, Node, Op};

/// The mean shift of each output channel: Σ ΔW·E[x], with `error` = ΔW as rows [output channel][elements per channel] and
/// `means` per input channel of the node.
#[must_use]
pub(crate) fn mean_shift(op: &Op, error: &[f32], channels: usize, means: &[f64]) -> Vec<f64> {
    let per_channel = error.len() / channels.max(1);
    let groups = match op {
        Op::Conv(conv) => conv.groups.max(1),
        _ => 1,
    };
    let inputs = means.len() / groups;
    let taps = per_channel / inputs.max(1);
    let rows = error.chunks(per_channel.max(1)).enumerate();
    rows.map(|(o, row)| {
        let first = o / (channels / groups) * inputs;
        let terms = row.iter().enumerate();
        terms.map(|(i, &e)| f64::from(e) * means[first + i / taps.max(1)]).sum()
    })
    .collect()
}

/// Whether a node's bias can take a correction: a convolution or fully connected layer with constant weights.
pub(crate) fn correctable(graph: &Graph, node: &Node) -> bool {
    matches!(node.op, Op::Conv(_) | Op::Gemm(_)) && graph.constant_input(node, 1).is_some()
}
