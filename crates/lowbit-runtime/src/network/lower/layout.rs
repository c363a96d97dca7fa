//! Pools, joins, and elements that only move.

use lowbit_graph::{Inputs, Node, Op, Pad, PadMode, Pool2d, Workspace};
use lowbit_tensor::Tensor;

use super::elementwise::{coded, values};
use super::{Known, Lowering, Parameters, Refused, invalid};
use crate::network::{AveragePool, Form, GlobalAverage, Kind, Sample, ValueIndex, Window};

/// A pool's operand, the parameters of operand and result, and whether codes are signed.
type Pooled = (ValueIndex, [(f32, i32); 2], bool);

/// Where windows fall, the pads behind the image, and the result's dimensions.
type Placed = (Window, [usize; 2], Vec<usize>);

impl Lowering<'_> {
    #[expect(clippy::cast_precision_loss, reason = "the arithmetic that onnxruntime does")]
    pub(super) fn global_average(&mut self, node: &Node) -> Result<bool, Refused> {
        let Some((x, [from, to], signed)) = self.pooled(node)? else { return Ok(false) };
        let [_, channels, height, width] = self.dims(x)[..] else { return Ok(false) };
        let kind = Kind::GlobalAverage(GlobalAverage {
            zero_points: [from.1, to.1],
            multiplier: from.0 / (to.0 * (height * width) as f32),
        });
        let form = Form::Codes(single(to, signed).codes());
        self.push(node, kind, vec![x], (vec![1, channels, 1, 1], form));
        Ok(true)
    }

    pub(super) fn average_pool(&mut self, node: &Node, pool: &Pool2d) -> Result<bool, Refused> {
        let Some((x, [from, to], signed)) = self.pooled(node)? else { return Ok(false) };
        let Some((window, end_pads, dims)) = self.window(x, pool)? else { return Ok(false) };
        let kind = Kind::AveragePool(AveragePool {
            window,
            end_pads,
            count_include_pad: pool.count_include_pad,
            scales: [from.0, to.0],
            zero_points: [from.1, to.1],
        });
        let form = Form::Codes(single(to, signed).codes());
        self.push(node, kind, vec![x], (dims, form));
        Ok(true)
    }

    pub(super) fn max_pool(&mut self, node: &Node, pool: &Pool2d) -> Result<bool, Refused> {
        let x = self.input(node, 0)?;
        let Some(codes) = self.codes(x) else { return Ok(false) };
        let Some((window, _, dims)) = self.window(x, pool)? else { return Ok(false) };
        self.push(node, Kind::MaxPool(window), vec![x], (dims, Form::Codes(codes)));
        Ok(true)
    }

    /// Operand and parameters (inputs 1 and 3) of a pool on codes.
    fn pooled(&mut self, node: &Node) -> Result<Option<Pooled>, Refused> {
        let x = self.input(node, 0)?;
        let Some(codes) = self.codes(x) else { return Ok(None) };
        let at = |index| self.single(node, index, codes.signed);
        Ok(at(1).zip(at(3)).map(|(from, to)| (x, [from, to], codes.signed)))
    }

    fn window(&self, x: ValueIndex, pool: &Pool2d) -> Result<Option<Placed>, Refused> {
        let [_, channels, height, width] = self.dims(x)[..] else { return Ok(None) };
        let placed = pool.window([height, width]).map_err(|e| invalid(&e))?;
        let window = Window {
            kernel: pool.kernel,
            strides: pool.strides,
            dilations: pool.dilations,
            pads: [placed.pads[0], placed.pads[1]],
        };
        let [oh, ow] = placed.output;
        Ok(Some((window, [placed.pads[2], placed.pads[3]], vec![1, channels, oh, ow])))
    }

    pub(super) fn concat(&mut self, node: &Node, axis: i64) -> Result<bool, Refused> {
        let (mut inputs, mut tables) = (vec![], vec![]);
        let mut signed = false;
        for index in (2..node.inputs.len()).step_by(3) {
            if self.constant(node, index).is_some() {
                return Ok(false);
            }
            let x = self.input(node, index)?;
            let Some(codes) = self.codes(x) else { return Ok(false) };
            signed = codes.signed;
            let at = |index| self.single(node, index, signed);
            let (Some(from), Some(to)) = (at(index + 1), at(0)) else { return Ok(false) };
            let same = from.0.to_bits() == to.0.to_bits() && from.1 == to.1;
            let table = || Box::new(coded(&values(from, codes), to, signed));
            tables.push((!same).then(table));
            inputs.push(x);
        }
        let (Some(to), Some(&first)) = (self.single(node, 0, signed), inputs.first()) else {
            return Ok(false);
        };
        let mut dims = self.dims(first);
        let rank = dims.len();
        let alike = |&x: &ValueIndex| {
            let other = self.dims(x);
            other.len() == rank && rank >= 2 && other[2..] == dims[2..]
        };
        let channels = axis == 1 || usize::try_from(-axis).is_ok_and(|back| back + 1 == rank);
        if !channels || !inputs.iter().all(alike) {
            return Ok(false);
        }
        dims[1] = inputs.iter().map(|&x| self.dims(x)[1]).sum();
        let form = Form::Codes(single(to, signed).codes());
        self.push(node, Kind::Concat(tables), inputs, (dims, form));
        Ok(true)
    }

    /// Reshapes and the like: the same elements in the model's order.
    pub(super) fn movement(&mut self, node: &Node) -> Result<bool, Refused> {
        let x = self.input(node, 0)?;
        let form = self.network.values[x].form;
        let dims = self.dims(x);
        if let Op::Transpose(transpose) = &node.op {
            return Ok(transpose.perm.as_deref() == Some(&[0, 3, 1, 2]) && self.pixels(node, x));
        }
        if matches!(node.op, Op::Slice | Op::Pad(Pad { mode: PadMode::Constant })) {
            return Ok(self.sample(node, x));
        }
        let reshapes =
            matches!(node.op, Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze | Op::Unsqueeze);
        if !reshapes && node.op != Op::Identity {
            return Ok(false);
        }
        let Some(to) = self.reshaped(node, &dims) else { return Ok(false) };
        self.push(node, Kind::Reshape, vec![x], (to, form));
        Ok(true)
    }

    /// A Slice or Pad of an image of codes, found by running it on the numbers of the elements, from 1.
    fn sample(&mut self, node: &Node, x: ValueIndex) -> bool {
        let (Some(codes), dims) = (self.codes(x), self.dims(x)) else { return false };
        let [1, channels, height, width] = dims[..] else { return false };
        let count = i64::try_from(channels * height * width).unwrap_or(i64::MAX);
        let numbers = Tensor::new(dims.clone(), (1..=count).collect::<Vec<i64>>());
        let zero = Tensor::scalar(0i64);
        let fill = match (&node.op, node.input(2)) {
            (Op::Pad(_), Some(_)) => {
                self.constant(node, 2).and_then(|fill| fill.to_i64()?.first().copied())
            }
            _ => Some(0),
        };
        let fill = fill.and_then(|fill| u8::try_from(fill + i64::from(codes.offset())).ok());
        let mut inputs = vec![Some(&numbers)];
        inputs.extend((1..node.inputs.len()).map(|i| self.constant(node, i).map(AsRef::as_ref)));
        if matches!(node.op, Op::Pad(_)) && inputs.len() > 2 {
            inputs[2] = Some(&zero);
        }
        let Ok(made) = node.op.forward(&Inputs(&inputs), &mut Workspace::serial()) else {
            return false;
        };
        let (Some(fill), Some(to)) = (fill, made.first()) else { return false };
        let Some((start, step)) = to.to_i64().and_then(|found| affine(&found, to.shape(), &dims))
        else {
            return false;
        };
        let sample = Sample { start, step, fill };
        let dims = to.shape().to_vec();
        self.push(node, Kind::Sample(sample), vec![x], (dims, Form::Codes(codes)));
        true
    }

    /// The dimensions that a reshaping operator gives, found by running it.
    fn reshaped(&self, node: &Node, dims: &[usize]) -> Option<Vec<usize>> {
        let example = Tensor::full(dims.to_vec(), 0u8);
        let mut inputs = vec![Some(&example)];
        inputs.extend((1..node.inputs.len()).map(|i| self.constant(node, i).map(AsRef::as_ref)));
        let made = node.op.forward(&Inputs(&inputs), &mut Workspace::serial()).ok()?;
        made.first().map(|made| made.shape().to_vec())
    }

    /// Where the model's floats lie pixel by pixel and are quantized so: the codes need no transposition.
    fn pixels(&mut self, node: &Node, x: ValueIndex) -> bool {
        let readers = self.graph.nodes.iter().filter(|n| n.inputs.contains(&node.input(0))).count();
        let [_, height, width, channels] = self.dims(x)[..] else { return false };
        let Some(step) = self.network.steps.iter_mut().find(|step| step.outputs == [x]) else {
            return false;
        };
        let Kind::Quantize(quantize) = &mut step.kind else { return false };
        if readers != 1 || quantize.scales.len() != 1 {
            return false;
        }
        quantize.pixels = true;
        self.network.values[x].dims = vec![1, channels, height, width];
        self.known.insert(node.output(), Known::Value(x));
        true
    }
}

/// Start and step along rows, columns and channels of a result whose elements are numbers of elements from 1, 0 where there was none.
fn affine(found: &[i64], to: &[usize], from: &[usize]) -> Option<([i64; 3], [i64; 3])> {
    let [_, _, height, width] = to[..] else { return None };
    let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let [rows, columns] = [from[2], from[3]].map(signed);
    let position =
        |number: i64| [number / columns % rows, number % columns, number / columns / rows];
    let place = |index: usize| [index / width % height, index % width, index / width / height];
    let first = found.iter().position(|&number| number > 0)?;
    let (own, at) = (place(first), position(found[first] - 1));
    let strides = [width, 1, height * width];
    let extents = [height, width, to[1]];
    let step: [i64; 3] = std::array::from_fn(|axis| {
        let next = (own[axis] + 1 < extents[axis]).then(|| found[first + strides[axis]]);
        next.filter(|&number| number > 0).map_or(1, |n| position(n - 1)[axis] - at[axis])
    });
    let start = std::array::from_fn(|axis| at[axis] - signed(own[axis]) * step[axis]);
    Some((start, step))
}

fn single((scale, zero_point): (f32, i32), signed: bool) -> Parameters {
    Parameters { scales: vec![scale], zero_points: vec![zero_point], signed }
}
