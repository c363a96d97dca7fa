//! A weight with its output channels as rows.

use lowbit_graph::{Graph, Node, Op};

/// A weight with its output channels as rows.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) values: Vec<f32>,
    /// [output channels, ...].
    pub(crate) shape: Vec<usize>,
    /// Whether the channels were columns.
    pub(crate) turned: bool,
}

impl Rows {
    /// The constant weight of a convolution or fully connected layer that integers can compute.
    pub(crate) fn of(graph: &Graph, node: &Node) -> Option<Rows> {
        let turned = match &node.op {
            Op::Conv(_) => false,
            Op::Gemm(gemm) if gemm.alpha == 1.0 => !gemm.transpose_b,
            _ => return None,
        };
        let weight = graph.constant_input(node, 1)?;
        let (values, mut shape) = (weight.f32s(), weight.shape().to_vec());
        if !turned {
            return Some(Rows { values: values.to_vec(), shape, turned });
        }
        shape.reverse();
        Some(Rows { values: turn(values, shape[0]), shape, turned })
    }

    /// Number of output channels.
    pub(crate) fn channels(&self) -> usize {
        self.shape[0]
    }

    /// Elements per output channel.
    pub(crate) fn per_channel(&self) -> usize {
        (self.values.len() / self.shape[0].max(1)).max(1)
    }

    /// Multiplies what reads each input channel by its factor.
    pub(crate) fn scale_inputs(&mut self, op: &Op, factors: Option<&[f32]>) {
        let Some(factors) = factors else { return };
        let groups = if let Op::Conv(conv) = op { conv.groups } else { 1 };
        let (per_row, channels) = (self.per_channel(), self.channels());
        let inputs = (factors.len() / groups).max(1);
        let taps = (per_row / inputs).max(1);
        for (i, w) in self.values.iter_mut().enumerate() {
            let (row, column) = (i / per_row, i % per_row);
            let group = row / (channels / groups);
            *w *= factors[group * inputs + column / taps];
        }
    }
}

/// Rows from columns, given how many columns there are.
pub(crate) fn turn<T: Copy>(values: &[T], columns: usize) -> Vec<T> {
    let rows = values.len() / columns.max(1);
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}
