//! Sums, products and functions of single codes.

use std::collections::HashMap;

use lowbit_graph::{Inputs, Node, Op, Unary, ValueId, Workspace};
use lowbit_kernels::{dequantize, quantize};
use lowbit_tensor::Tensor;

use super::{Lowering, Parameters, Refused, invalid};
use crate::network::{Add, Codes, Form, Kind, Mul, ValueIndex};

/// Scale and zero point of the two operands and the result.
type Three = [(f32, i32); 3];

impl Lowering<'_> {
    pub(super) fn add(&mut self, node: &Node) -> Result<bool, Refused> {
        let Some(([a, b], [first, second, to], codes)) = self.pair(node)? else {
            return Ok(false);
        };
        if self.dims(a) != self.dims(b) {
            return Ok(false);
        }
        let ratios = [first.0 / to.0, second.0 / to.0];
        let fixed = float(to.1) - ratios[0].mul_add(float(first.1), ratios[1] * float(second.1));
        self.like_first(node, Kind::Add(Add { ratios, fixed }), vec![a, b], (to, codes.signed));
        Ok(true)
    }

    pub(super) fn mul(&mut self, node: &Node) -> Result<bool, Refused> {
        let Some(([a, b], [first, second, to], codes)) = self.pair(node)? else {
            return Ok(false);
        };
        let (left, right) = (self.dims(a), self.dims(b));
        let gates = |image: &[usize], gate: &[usize]| matches!((image, gate), ([n, c, _, _], [m, d, 1, 1]) if n == m && c == d);
        let mut mul = Mul {
            zero_points: [first.1, second.1],
            ratio: first.0 * second.0 / to.0,
            zero_point: to.1,
        };
        let inputs = if left == right || gates(&left, &right) {
            vec![a, b]
        } else if gates(&right, &left) {
            mul.zero_points.reverse();
            vec![b, a]
        } else {
            return Ok(false);
        };
        self.like_first(node, Kind::Mul(mul), inputs, (to, codes.signed));
        Ok(true)
    }

    /// The operands of a sum or product (inputs 0 and 3) with their parameters; `None` where one is constant or float.
    fn pair(&mut self, node: &Node) -> Result<Option<([ValueIndex; 2], Three, Codes)>, Refused> {
        if self.constant(node, 0).is_some() || self.constant(node, 3).is_some() {
            return Ok(None);
        }
        let (a, b) = (self.input(node, 0)?, self.input(node, 3)?);
        let (Some(codes), Some(_)) = (self.codes(a), self.codes(b)) else { return Ok(None) };
        let at = |index| self.single(node, index, codes.signed);
        let (Some(first), Some(second), Some(to)) = (at(1), at(4), at(6)) else {
            return Ok(None);
        };
        Ok(Some(([a, b], [first, second, to], codes)))
    }

    /// A result of the first input's size.
    fn like_first(
        &mut self,
        node: &Node,
        kind: Kind,
        inputs: Vec<ValueIndex>,
        ((scale, zero_point), signed): ((f32, i32), bool),
    ) {
        let to = Parameters { scales: vec![scale], zero_points: vec![zero_point], signed };
        let dims = self.dims(inputs[0]);
        self.push(node, kind, inputs, (dims, Form::Codes(to.codes())));
    }

    pub(super) fn unary(&mut self, node: &Node, unary: Unary) -> Result<bool, Refused> {
        let x = self.input(node, 0)?;
        let Some(from) = self.codes(x) else { return Ok(false) };
        let at = |index| self.single(node, index, from.signed);
        let (Some(own), Some(to)) = (at(1), at(3)) else { return Ok(false) };
        let values = Tensor::vector(values(own, from));
        let results = Op::Unary(unary).forward(&Inputs(&[Some(&values)]), &mut Workspace::serial());
        let table = coded(results.map_err(|e| invalid(&e))?[0].f32s(), to, from.signed);
        self.like_first(node, Kind::Table(vec![table]), vec![x], (to, from.signed));
        Ok(true)
    }

    /// A Clip on codes.
    pub(super) fn clip(&mut self, node: &Node) -> Result<bool, Refused> {
        let x = self.input(node, 0)?;
        let Some(from) = self.codes(x) else { return Ok(false) };
        let offset = i64::from(from.offset());
        let limit = |index: usize, open: i64| match node.input(index) {
            None => Some(open),
            Some(_) => Some(*self.constant(node, index)?.to_i64()?.first()? + offset),
        };
        let (Some(low), Some(high)) = (limit(1, 0), limit(2, 255)) else { return Ok(false) };
        let clipped = |code: u8| u8::try_from(i64::from(code).max(low).min(high)).ok();
        let table: Option<Vec<u8>> = (0..=255).map(clipped).collect();
        let Some(table) = table.and_then(|table| <[u8; 256]>::try_from(table).ok()) else {
            return Ok(false);
        };
        let dims = self.dims(x);
        self.push(node, Kind::Table(vec![table]), vec![x], (dims, Form::Codes(from)));
        Ok(true)
    }

    /// What a QuantizeLinear to `to` makes of `value`, a function of each code that DequantizeLinear and elementwise operators
    /// compute: one table, or one for each channel; `None` where another axis matters.
    pub(super) fn tables(
        &mut self,
        (codes, nodes, value): (ValueIndex, &[usize], ValueId),
        to: &Parameters,
    ) -> Result<Option<Vec<[u8; 256]>>, Refused> {
        let Some(held) = self.codes(codes) else { return Ok(None) };
        let [.., channels] = self.network.values[codes].image();
        let fits = |count: usize| count == 1 || count == channels;
        let Some(floats) = self.functions((codes, held), nodes, value)? else { return Ok(None) };
        let shape = floats.shape();
        let own = shape.get(1).copied().unwrap_or(1);
        let along = shape.len() == self.dims(codes).len() && floats.len() == 256 * own;
        if !along || !fits(own) || !fits(to.scales.len()) {
            return Ok(None);
        }
        let floats = floats.f32s();
        let mut tables = Vec::new();
        for c in 0..own.max(to.scales.len()) {
            let of = |count: usize| if count == 1 { 0 } else { c };
            let values: Vec<f32> = (0..256).map(|code| floats[code * own + of(own)]).collect();
            let at = of(to.scales.len());
            tables.push(coded(&values, (to.scales[at], to.zero_points[at]), to.signed));
        }
        if tables.iter().all(|table| table == &tables[0]) {
            tables.truncate(1);
        }
        Ok(Some(tables))
    }

    /// The floats that `nodes` make of all codes, along the first axis; along the second one, those of the channels, or of one that
    /// stands for all.
    fn functions(
        &self,
        (codes, held): (ValueIndex, Codes),
        nodes: &[usize],
        value: ValueId,
    ) -> Result<Option<Tensor>, Refused> {
        let dims = self.dims(codes);
        let rank = dims.len();
        // A PRelu does not widen its operand, so all channels are there from the start where a constant differs among them.
        let several = |&id: &ValueId| self.graph.constant(id).is_some_and(|c| c.len() > 1);
        let per_channel =
            nodes.iter().any(|&i| self.graph.nodes[i].inputs.iter().flatten().any(several));
        let own = if per_channel { dims.get(1).copied().unwrap_or(1) } else { 1 };
        let mut made: HashMap<ValueId, Tensor> = HashMap::new();
        for &index in nodes {
            let node = &self.graph.nodes[index];
            let floats = if let Op::DequantizeLinear(dequantize) = &node.op {
                let Some(from) = self.parameters(node, 1, held.signed) else { return Ok(None) };
                let (along, count) = (dequantize.blocking, from.scales.len());
                let fits = count == 1 || (count == own && along.axis == 1);
                if rank < 2 || along.block_size > 0 || !fits {
                    return Ok(None);
                }
                let each = from.scales.iter().zip(&from.zero_points);
                let each: Vec<Vec<f32>> = each.map(|(&s, &z)| values((s, z), held)).collect();
                let of = |c: usize| if count == 1 { 0 } else { c };
                let floats = (0..256 * own).map(|i| each[of(i % own)][i / own]);
                let mut shape = vec![1; rank];
                shape[..2].copy_from_slice(&[256, own]);
                Tensor::new(shape, floats.collect::<Vec<f32>>())
            } else {
                let operand = |id: &Option<ValueId>| -> Option<&Tensor> {
                    let id = (*id)?;
                    made.get(&id).or_else(|| self.graph.constant(id).map(AsRef::as_ref))
                };
                let inputs: Vec<Option<&Tensor>> = node.inputs.iter().map(operand).collect();
                let results = node.op.forward(&Inputs(&inputs), &mut Workspace::serial());
                results.map_err(|e| invalid(&e))?.swap_remove(0)
            };
            made.insert(node.output(), floats);
        }
        Ok(made.remove(&value).filter(|floats| floats.as_slice::<f32>().is_ok()))
    }
}

/// The values of all codes.
pub(super) fn values((scale, zero_point): (f32, i32), codes: Codes) -> Vec<f32> {
    let all: Vec<u8> = (0..=255).collect();
    let mut values = vec![0.0; 256];
    dequantize(&all, scale, zero_point + i32::from(codes.offset()), &mut values);
    values
}

/// The codes of 256 values.
pub(super) fn coded(values: &[f32], (scale, zero_point): (f32, i32), signed: bool) -> [u8; 256] {
    let mut codes = [0; 256];
    let offset = if signed { 128 } else { 0 };
    quantize(values, scale, zero_point + offset, &mut codes);
    codes
}

#[expect(clippy::cast_precision_loss, reason = "zero points of 8 bits are exact")]
fn float(zero_point: i32) -> f32 {
    zero_point as f32
}
