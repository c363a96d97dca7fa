//! Finds activations in their spelled-out forms, and joins them to the operator before them.

use std::collections::HashMap;

use crate::{Activation, Binary, Graph, GraphError, Node, Op, Unary, ValueId};

/// Joins Relu and Clip with constant limits to the Conv or Gemm whose only reader they are.
///
/// # Errors
/// None of its own.
pub fn fuse_activations(graph: &Graph) -> Result<Graph, GraphError> {
    let mut fused = graph.clone();
    let mut index = 0;
    while index < fused.nodes.len() {
        let node = &fused.nodes[index];
        let linear = match &node.op {
            Op::Conv(conv) => conv.activation == Activation::None,
            Op::Gemm(gemm) => gemm.activation == Activation::None,
            _ => false,
        };
        if linear {
            fuse_reader(&mut fused, index);
        }
        index += 1;
    }
    Ok(fused)
}

fn fuse_reader(graph: &mut Graph, index: usize) {
    let Some(reader) = graph.only_consumer(graph.nodes[index].output()) else {
        return;
    };
    let reading = &graph.nodes[reader];
    if reading.input(0) != Some(graph.nodes[index].output()) {
        return;
    }
    let Some(activation) = as_activation(graph, reading) else {
        return;
    };
    let outputs = reading.outputs.clone();
    let node = &mut graph.nodes[index];
    node.outputs = outputs;
    match &mut node.op {
        Op::Conv(conv) => conv.activation = activation,
        Op::Gemm(gemm) => gemm.activation = activation,
        _ => return,
    }
    graph.nodes.remove(reader);
}

/// The fusable activation a node is; Clip from 0 to infinity is Relu.
pub(crate) fn as_activation(graph: &Graph, node: &Node) -> Option<Activation> {
    match &node.op {
        Op::Unary(Unary::Relu) => Some(Activation::Relu),
        Op::Clip => {
            let limit = |index: usize, open: f32| match node.input(index) {
                None => Some(open),
                Some(value) => scalar(graph, value),
            };
            let (min, max) = (limit(1, f32::NEG_INFINITY)?, limit(2, f32::INFINITY)?);
            if (min, max) == (0.0, f32::INFINITY) || (min == 0.0 && max == f32::MAX) {
                return Some(Activation::Relu);
            }
            Some(Activation::Clip { min, max })
        }
        _ => None,
    }
}

fn scalar(graph: &Graph, value: ValueId) -> Option<f32> {
    let tensor = graph.constant(value)?;
    match tensor.as_slice::<f32>() {
        Ok([single]) => Some(*single),
        _ => None,
    }
}

/// Replaces hard-swish, SiLU and GELU written out in elementary operators by the one operator.
///
/// # Errors
/// None of its own.
pub fn recognize_activations(graph: &Graph) -> Result<Graph, GraphError> {
    let mut known = graph.clone();
    let producers = known.producers();
    for index in (0..known.nodes.len()).rev() {
        let finder = Finder { graph: &known, producers: &producers };
        let found = MATCHERS.iter().find_map(|matcher| matcher(&finder, index));
        if let Some((x, unary)) = found {
            known.nodes[index].op = Op::Unary(unary);
            known.nodes[index].inputs = vec![Some(x)];
        }
    }
    known.remove_dead();
    Ok(known)
}

type Matcher = fn(&Finder<'_>, usize) -> Option<(ValueId, Unary)>;

/// Each looks at a graph from a last node backwards and says which function of which value it is.
const MATCHERS: &[Matcher] = &[hard_swish, silu, gelu_erf, gelu_tanh];

/// Reads a graph backwards from a value.
struct Finder<'a> {
    graph: &'a Graph,
    producers: &'a HashMap<ValueId, usize>,
}

impl<'a> Finder<'a> {
    fn node(&self, value: ValueId) -> Option<&'a Node> {
        self.producers.get(&value).map(|&i| &self.graph.nodes[i])
    }

    /// The operands of `value` when `binary` made it.
    fn binary(&self, value: ValueId, binary: Binary) -> Option<(ValueId, ValueId)> {
        let node = self.node(value)?;
        (node.op == Op::Binary(binary)).then_some((node.input(0)?, node.input(1)?))
    }

    /// The operand of `value` and the constant that `binary` combined it with, in either order where that is the same.
    fn with_constant(&self, value: ValueId, binary: Binary) -> Option<(ValueId, f32)> {
        let (a, b) = self.binary(value, binary)?;
        if let Some(constant) = scalar(self.graph, b) {
            return Some((a, constant));
        }
        let commutes = matches!(binary, Binary::Add | Binary::Mul);
        scalar(self.graph, a).filter(|_| commutes).map(|constant| (b, constant))
    }

    /// The operand of `value` when `unary` made it.
    fn unary(&self, value: ValueId, unary: Unary) -> Option<ValueId> {
        let node = self.node(value)?;
        (node.op == Op::Unary(unary)).then(|| node.input(0))?
    }

    /// Both factors of a product, in both orders.
    fn factors(&self, value: ValueId) -> Vec<(ValueId, ValueId)> {
        self.binary(value, Binary::Mul).map_or(vec![], |(a, b)| vec![(a, b), (b, a)])
    }

    /// `value` without a factor of `constant`, written as a product or as a division by its inverse.
    fn scaled(&self, value: ValueId, constant: f32) -> Option<ValueId> {
        let product = self.with_constant(value, Binary::Mul).filter(|p| near(p.1, constant));
        let quotient =
            || self.with_constant(value, Binary::Div).filter(|q| near(q.1, 1.0 / constant));
        product.or_else(quotient).map(|(x, _)| x)
    }
}

fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-5 * b.abs()
}

/// x · clip(x + 3, 0, 6) / 6 in any association, and x · hard_sigmoid(x; 1/6, 1/2).
fn hard_swish(find: &Finder<'_>, index: usize) -> Option<(ValueId, Unary)> {
    let output = find.graph.nodes[index].output();
    let sixth = 1.0 / 6.0;
    // x where value = clip(x + 3, 0, 6).
    let gate = |value: ValueId| {
        let node = find.node(value)?;
        let clip = as_activation(find.graph, node)?;
        if clip != (Activation::Clip { min: 0.0, max: 6.0 }) {
            return None;
        }
        find.with_constant(node.input(0)?, Binary::Add).filter(|a| near(a.1, 3.0)).map(|a| a.0)
    };
    let hard_sigmoid = |value: ValueId| {
        let node = find.node(value)?;
        match node.op {
            Op::Unary(Unary::HardSigmoid { alpha, beta })
                if near(alpha, sixth) && near(beta, 0.5) =>
            {
                node.input(0)
            }
            _ => None,
        }
    };
    let product = |value: ValueId, factor: &dyn Fn(ValueId) -> Option<ValueId>| {
        find.factors(value).into_iter().find(|&(x, g)| factor(g) == Some(x)).map(|(x, _)| x)
    };
    let scaled_gate = |value: ValueId| find.scaled(value, sixth).and_then(gate);
    let whole = find.scaled(output, sixth).and_then(|v| product(v, &gate));
    let x = whole
        .or_else(|| product(output, &scaled_gate))
        .or_else(|| product(output, &hard_sigmoid))
        .or_else(|| {
            // (x / 6) · clip(x + 3, 0, 6)
            let scaled = |&(scaled, g): &(ValueId, ValueId)| {
                let x = find.scaled(scaled, sixth)?;
                (gate(g) == Some(x)).then_some(x)
            };
            find.factors(output).iter().find_map(scaled)
        })?;
    Some((x, Unary::HardSwish))
}

/// x · sigmoid(x).
fn silu(find: &Finder<'_>, index: usize) -> Option<(ValueId, Unary)> {
    let output = find.graph.nodes[index].output();
    let pair = find.factors(output).into_iter();
    let mut matching = pair.filter(|&(x, s)| find.unary(s, Unary::Sigmoid) == Some(x));
    matching.next().map(|(x, _)| (x, Unary::Silu))
}

/// The two ways to write ½·x·(1 + g): x·(1 + g)·½, and x·½ · (1 + g) or x · ((1 + g)·½).
fn half_gate(
    find: &Finder<'_>,
    output: ValueId,
    gate: &dyn Fn(ValueId) -> Option<ValueId>,
) -> Option<ValueId> {
    let one_plus = |value: ValueId| {
        find.with_constant(value, Binary::Add).filter(|a| near(a.1, 1.0)).and_then(|a| gate(a.0))
    };
    let outer = find.scaled(output, 0.5).and_then(|product| {
        let mut pairs = find.factors(product).into_iter();
        pairs.find(|&(x, g)| one_plus(g) == Some(x)).map(|(x, _)| x)
    });
    outer.or_else(|| {
        find.factors(output).into_iter().find_map(|(left, right)| {
            let on_x = find.scaled(left, 0.5).filter(|&x| one_plus(right) == Some(x));
            let halved = || find.scaled(right, 0.5).and_then(one_plus).filter(|&x| x == left);
            on_x.or_else(halved)
        })
    })
}

/// ½·x·(1 + erf(x / √2)).
fn gelu_erf(find: &Finder<'_>, index: usize) -> Option<(ValueId, Unary)> {
    let gate = |value: ValueId| {
        let inner = find.unary(value, Unary::Erf)?;
        find.scaled(inner, std::f32::consts::FRAC_1_SQRT_2)
    };
    half_gate(find, find.graph.nodes[index].output(), &gate).map(|x| (x, Unary::Gelu))
}

/// ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))).
fn gelu_tanh(find: &Finder<'_>, index: usize) -> Option<(ValueId, Unary)> {
    let cube = |value: ValueId| {
        let power = find.with_constant(value, Binary::Pow).filter(|p| near(p.1, 3.0)).map(|p| p.0);
        let product = || {
            let pairs = find.factors(value);
            let square =
                |&(x, xx): &(ValueId, ValueId)| find.binary(xx, Binary::Mul) == Some((x, x));
            pairs.iter().find(|pair| square(pair)).map(|&(x, _)| x)
        };
        power.or_else(product)
    };
    let gate = |value: ValueId| {
        let argument = find.unary(value, Unary::Tanh)?;
        let sum = find.scaled(argument, (2.0 / std::f32::consts::PI).sqrt())?;
        let (a, b) = find.binary(sum, Binary::Add)?;
        let matches = |x: ValueId, term: ValueId| {
            find.scaled(term, 0.044_715).and_then(cube).filter(|&base| base == x)
        };
        matches(a, b).or_else(|| matches(b, a))
    };
    half_gate(find, find.graph.nodes[index].output(), &gate).map(|x| (x, Unary::GeluTanh))
}

#[cfg(test)]
mod tests;
