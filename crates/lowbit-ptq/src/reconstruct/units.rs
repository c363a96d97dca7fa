//! What is reconstructed at once: a layer, a block, or the whole network.

use std::collections::{HashMap, HashSet};

use lowbit_graph::{Graph, Op, ValueId};
use serde::{Deserialize, Serialize};

use crate::{QuantizedGraph, Site};

/// How much of the network is reconstructed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// One convolution or fully connected layer, as AdaRound does.
    Layer,
    /// What lies between two values that all paths pass through, at least two layers: the residual blocks of BRECQ.
    Block,
    /// Everything from the image to the scores.
    Network,
}

/// A part of the network with one input and one output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unit {
    /// For messages: its last layer.
    pub(crate) name: String,
    /// Indices of the quantized weights inside.
    pub(crate) weights: Vec<usize>,
    /// What it reads: the float value.
    pub(crate) input: ValueId,
    /// What it makes: the float value.
    pub(crate) output: ValueId,
}

impl QuantizedGraph {
    /// The site of a float value.
    pub(crate) fn site(&self, value: ValueId) -> Option<&Site> {
        self.sites.iter().find(|site| site.value == value)
    }

    /// What readers of a float value see in the quantized graph.
    pub(crate) fn seen(&self, value: ValueId) -> ValueId {
        self.site(value).map_or(value, |site| site.result)
    }
}

/// The units of the network, in an order in which they can run.
pub(crate) fn units(float: &Graph, quantized: &QuantizedGraph, scope: Scope) -> Vec<Unit> {
    let weight_of: HashMap<&str, usize> =
        quantized.weights.iter().enumerate().map(|(i, w)| (w.node.as_str(), i)).collect();
    match scope {
        Scope::Layer => layers(float, &weight_of),
        Scope::Block => blocks(float, quantized, &weight_of),
        Scope::Network => {
            let weights = (0..quantized.weights.len()).collect();
            let (input, output) = (float.inputs[0].value, float.outputs[0]);
            vec![Unit { name: "network".into(), weights, input, output }]
        }
    }
}

fn layers(float: &Graph, weight_of: &HashMap<&str, usize>) -> Vec<Unit> {
    let unit = |node: &lowbit_graph::Node| {
        let index = *weight_of.get(node.name.as_str())?;
        let (name, weights) = (node.name.clone(), vec![index]);
        Some(Unit { name, weights, input: node.input(0)?, output: node.output() })
    };
    float.nodes.iter().filter_map(unit).collect()
}

/// Layers a block has at least: fewer know nothing of each other.
const BLOCK_LAYERS: usize = 2;

/// Cuts the graph where a single value is alive.
fn blocks(
    float: &Graph,
    quantized: &QuantizedGraph,
    weight_of: &HashMap<&str, usize>,
) -> Vec<Unit> {
    let last_read = last_reads(float);
    let mut alive: HashSet<ValueId> = HashSet::from([float.inputs[0].value]);
    let (mut units, mut inside) = (vec![], vec![]);
    let mut from = float.inputs[0].value;
    let mut name = String::new();
    for (i, node) in float.nodes.iter().enumerate() {
        if let Some(&index) = weight_of.get(node.name.as_str()) {
            inside.push(index);
            name.clone_from(&node.name);
        }
        alive.extend(node.outputs.iter().flatten());
        alive.retain(|value| last_read.get(value).is_some_and(|&last| last > i));
        let end = i + 1 == float.nodes.len();
        let output = if end { scores(float) } else { node.output() };
        let cut = alive.len() == 1 && alive.contains(&output) && quantized.site(output).is_some();
        if end && inside.len() < BLOCK_LAYERS {
            // A last layer alone joins the block before it.
            if let Some(Unit { weights, output: to, .. }) = units.last_mut() {
                weights.append(&mut inside);
                *to = output;
                break;
            }
        }
        if end || (cut && inside.len() >= BLOCK_LAYERS) {
            let weights = std::mem::take(&mut inside);
            units.push(Unit { name: name.clone(), weights, input: from, output });
            from = output;
        }
    }
    units.retain(|unit| !unit.weights.is_empty());
    units
}

/// The last node that reads each value; outputs are read at the end.
fn last_reads(float: &Graph) -> HashMap<ValueId, usize> {
    let mut last = HashMap::new();
    for (i, node) in float.nodes.iter().enumerate() {
        last.extend(node.inputs.iter().flatten().map(|&value| (value, i)));
    }
    last.extend(float.outputs.iter().map(|&value| (value, float.nodes.len())));
    last
}

/// The scores before a last Softmax.
pub(crate) fn scores(float: &Graph) -> ValueId {
    let output = float.outputs[0];
    let maker = float.nodes.iter().find(|node| node.outputs.contains(&Some(output)));
    let softmax = maker.filter(|node| matches!(node.op, Op::Softmax(_)));
    softmax.and_then(|node| node.input(0)).unwrap_or(output)
}
