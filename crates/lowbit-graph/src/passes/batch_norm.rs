//! Folds inference-time batch normalization away.

use lowbit_tensor::Tensor;

use super::Trace;
use crate::{Activation, BatchNorm, Binary, Conv, Graph, GraphError, Node, Op};

/// Folds BatchNormalization into the Conv or Gemm before it (which gains a bias where it had none); where it stands alone
/// it becomes a 1x1 depthwise convolution (rank 4), or a Mul and an Add.
///
/// # Errors
/// None of its own.
pub fn fold_batch_norm(graph: &Graph, trace: &Trace) -> Result<Graph, GraphError> {
    let mut folded = graph.clone();
    let mut index = 0;
    while index < folded.nodes.len() {
        if let Op::BatchNorm(norm) = folded.nodes[index].op
            && let Some(affine) = Affine::of(&folded, index, norm)
            && !fold_into_producer(&mut folded, index, &affine)
        {
            stand_alone(&mut folded, trace, index, &affine);
        }
        index += 1;
    }
    folded.nodes.retain(|node| !node.outputs.is_empty());
    Ok(folded)
}

/// y = scale · x + shift, per channel.
struct Affine {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Affine {
    /// scale = γ / √(σ² + ε), shift = β - μ·scale; in f64, so that folding adds no error of its own.
    #[expect(clippy::cast_possible_truncation, reason = "back to the model's precision")]
    fn of(graph: &Graph, index: usize, norm: BatchNorm) -> Option<Affine> {
        let node = &graph.nodes[index];
        let parameter = |i: usize| {
            let tensor = graph.constant_input(node, i)?;
            tensor.as_slice::<f32>().ok().map(<[f32]>::to_vec)
        };
        let (gamma, beta, mean, variance) =
            (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
        let channels = gamma.len();
        if [beta.len(), mean.len(), variance.len()].iter().any(|&n| n != channels) {
            return None;
        }
        let factor = |c: usize| {
            f64::from(gamma[c]) / (f64::from(variance[c]) + f64::from(norm.epsilon)).sqrt()
        };
        Some(Affine {
            scale: (0..channels).map(|c| factor(c) as f32).collect(),
            shift: (0..channels)
                .map(|c| (f64::from(beta[c]) - f64::from(mean[c]) * factor(c)) as f32)
                .collect(),
        })
    }
}

/// Scales the weight and bias of the Conv or Gemm whose only reader the normalization is.
fn fold_into_producer(graph: &mut Graph, index: usize, affine: &Affine) -> bool {
    let norm = graph.nodes[index].clone();
    let Some(x) = norm.input(0) else { return false };
    if graph.only_consumer(x) != Some(index) {
        return false;
    }
    let Some(producer) = graph.nodes.iter().position(|n| n.outputs.contains(&Some(x))) else {
        return false;
    };
    let node = graph.nodes[producer].clone();
    let layout = match node.op {
        Op::Conv(conv) if conv.activation == Activation::None => Rows::First,
        Op::Gemm(gemm) if gemm.activation == Activation::None && gemm.beta == 1.0 => {
            if gemm.transpose_b { Rows::First } else { Rows::Last }
        }
        _ => return false,
    };
    let channels = affine.scale.len();
    let Some(weight) = graph.constant_input(&node, 1).cloned() else {
        return false;
    };
    let Some(bias) = bias_of(graph, &node, channels) else {
        return false;
    };
    let Some(scaled) = layout.scale(&weight, &affine.scale) else {
        return false;
    };
    let bias: Vec<f32> = bias
        .iter()
        .zip(affine.scale.iter().zip(&affine.shift))
        .map(|(b, (scale, shift))| b * scale + shift)
        .collect();
    let weight = graph.add_constant(&format!("{}_weight_folded", node.name), scaled);
    let bias = graph.add_constant(&format!("{}_bias_folded", node.name), Tensor::vector(bias));
    let target = &mut graph.nodes[producer];
    target.inputs = vec![node.inputs[0], Some(weight), Some(bias)];
    target.outputs = norm.outputs;
    // The normalization is left as an empty node, so that indices stay; the caller drops it.
    graph.nodes[index].inputs.clear();
    graph.nodes[index].outputs.clear();
    graph.nodes[index].op = Op::Identity;
    true
}

fn bias_of(graph: &Graph, node: &Node, channels: usize) -> Option<Vec<f32>> {
    if node.input(2).is_none() {
        return Some(vec![0.0; channels]);
    }
    let bias = graph.constant_input(node, 2)?;
    let row = bias.len() == channels && bias.shape().last() == Some(&channels);
    row.then(|| bias.as_slice::<f32>().ok().map(<[f32]>::to_vec))?
}

/// Where a weight's output channels lie.
enum Rows {
    First,
    Last,
}

impl Rows {
    fn scale(&self, weight: &Tensor, factors: &[f32]) -> Option<Tensor> {
        let values = weight.as_slice::<f32>().ok()?;
        let channels = match self {
            Rows::First => *weight.shape().first()?,
            Rows::Last => *weight.shape().last()?,
        };
        if channels != factors.len() || values.is_empty() {
            return None;
        }
        let per_row = values.len() / channels;
        let channel = |i: usize| match self {
            Rows::First => i / per_row,
            Rows::Last => i % channels,
        };
        let scaled = values.iter().enumerate().map(|(i, w)| w * factors[channel(i)]).collect();
        Some(Tensor::new(weight.shape().clone(), scaled))
    }
}

fn stand_alone(graph: &mut Graph, trace: &Trace, index: usize, affine: &Affine) {
    let node = graph.nodes[index].clone();
    let Some(rank) = node.input(0).and_then(|x| trace.shape(x)).map(|s| s.len()) else {
        return;
    };
    let channels = affine.scale.len();
    let mut shape = vec![1; rank.max(2)];
    shape[1] = channels;
    let constant = |graph: &mut Graph, what: &str, shape: Vec<usize>, values: &[f32]| {
        graph.add_constant(&format!("{}_{what}", node.name), Tensor::new(shape, values.to_vec()))
    };
    if rank == 4 {
        let weight = constant(graph, "scale", vec![channels, 1, 1, 1], &affine.scale);
        let bias = constant(graph, "shift", vec![channels], &affine.shift);
        graph.nodes[index].inputs = vec![node.inputs[0], Some(weight), Some(bias)];
        graph.nodes[index].op =
            Op::Conv(Conv { kernel: Some([1, 1]), groups: channels, ..Conv::PLAIN });
        return;
    }
    let scale = constant(graph, "scale", shape.clone(), &affine.scale);
    let shift = constant(graph, "shift", shape, &affine.shift);
    let product = graph.fresh(&format!("{}_product", node.name));
    graph.nodes[index] = Node {
        name: node.name.clone(),
        op: Op::Binary(Binary::Mul),
        inputs: vec![node.inputs[0], Some(scale)],
        outputs: vec![Some(product)],
    };
    graph.nodes.push(Node {
        name: format!("{}_shift", node.name),
        op: Op::Binary(Binary::Add),
        inputs: vec![Some(product), Some(shift)],
        outputs: node.outputs,
    });
}

#[cfg(test)]
mod tests;
