//! Packed weights: narrow codes in the file, and the standard operators that turn them into what a layer reads.
//!
//! Runtimes compute these operators once, when they load the file; what is left is the graph of [`QuantizedGraph`], to
//! the bit:
//!
//! ```text
//! integers on a grid       int4 codes → Cast(int8) → DequantizeLinear
//! integers from a table    uint4 indices → Cast(int32) → [Add first entries] → Gather(int8 table) → DequantizeLinear
//! floats on a grid         int4 codes → Cast(float) → Mul(scales)
//! floats from a table      uint4 indices → Cast(int32) → [Add first entries] → Gather(float table) → Mul(scales)
//! ```
//!
//! Vectors and groups are reshaped behind it, columns transposed. Codes of 3 bits take 4, as ONNX has no type between.
//! Knows neither how codes were found nor how files are written.

mod layout;

use lowbit_graph::{Binary, Cast, Gather, Graph, Node, Op, Reshape, Transpose, ValueId};
use lowbit_quant::{CodedWeight, Table};
use lowbit_tensor::{Buffer, DType, Tensor};

use crate::insert::Held;
use crate::{PtqError, QuantizedGraph, Weight};
use layout::Layout;

/// The graph with packed weights. A weight stays as it is where packing would not make it smaller.
///
/// # Errors
/// `Graph` when the result is not valid: a mistake of this module.
pub fn pack(quantized: &QuantizedGraph) -> Result<Graph, PtqError> {
    let mut graph = quantized.graph.clone();
    for weight in &quantized.weights {
        if let Some(packed) = Packed::of(weight) {
            packed.write(&mut graph, weight);
        }
    }
    graph.remove_dead();
    graph.sort()?;
    graph.verify()?;
    Ok(graph)
}

/// What is stored of a weight.
struct Packed {
    /// Codes, as [`Layout`] has them.
    codes: Tensor,
    /// The numbers by index; without it the codes are the numbers.
    table: Option<Lookup>,
    /// Scales of float weights; those of integer weights stay with their DequantizeLinear.
    scales: Option<Tensor>,
    layout: Layout,
}

struct Lookup {
    table: Tensor,
    /// Where each group's part of the table begins.
    first: Option<Tensor>,
}

impl Packed {
    /// `None` where nothing would be gained.
    fn of(weight: &Weight) -> Option<Packed> {
        let coded = &weight.coded;
        let on_integers = matches!(weight.held, Held::Integers { .. });
        let layout = Layout::of(coded)?;
        let index = index_type(coded.tables());
        let direct = direct(coded, on_integers).filter(|(dtype, _)| dtype.bits() <= index.bits());
        let (codes, table) = match direct {
            Some((dtype, numbers)) => {
                (narrow(dtype, &layout.dims, layout.lay(coded.codes(), |code| numbers[code])), None)
            }
            None => {
                let indices = layout.lay(coded.codes(), |code| code as i32);
                let table = lookup(coded, &layout, on_integers);
                (narrow(index, &layout.dims, indices), Some(table))
            }
        };
        let scales =
            (!on_integers).then(|| Tensor::new(layout.scale_dims(), coded.scales().to_vec()));
        let packed = Packed { codes, table, scales, layout };
        let plain = coded.elements() * if on_integers { 1 } else { size_of::<f32>() };
        (packed.size_bytes() < plain).then_some(packed)
    }

    fn size_bytes(&self) -> usize {
        let first = |lookup: &Lookup| lookup.first.as_ref().map_or(0, Tensor::size_bytes);
        let table = |lookup: &Lookup| lookup.table.size_bytes() + first(lookup);
        self.codes.size_bytes()
            + self.table.as_ref().map_or(0, table)
            + self.scales.as_ref().map_or(0, Tensor::size_bytes)
    }

    /// Puts the operators in the place of the constant that the graph holds.
    fn write(self, graph: &mut Graph, weight: &Weight) {
        let held = match weight.held {
            Held::Integers { codes, .. } => codes,
            Held::Floats { .. } => weight.result,
        };
        let number = if self.scales.is_some() { DType::F32 } else { DType::I8 };
        let mut chain = Chain::new(graph, &format!("{}_weight", weight.node), self.codes);
        match self.table {
            None => chain.cast(number),
            Some(Lookup { table, first }) => {
                chain.cast(DType::I32);
                if let Some(first) = first {
                    chain.with("first", Op::Binary(Binary::Add), first);
                }
                chain.look_up(table);
            }
        }
        if let Some(scales) = self.scales {
            chain.with("scales", Op::Binary(Binary::Mul), scales);
        }
        chain.shape_back(&self.layout, &weight.coded);
        if weight.turned() {
            chain.op("transposed", Op::Transpose(Transpose { perm: Some(vec![1, 0]) }), &[]);
        }
        let made = chain.at;
        graph.replace_uses(held, made);
    }
}

/// The numbers by code and the narrowest type for them, where one table of integers serves all groups.
fn direct(coded: &CodedWeight, on_integers: bool) -> Option<(DType, Vec<i32>)> {
    let [Table::Scalar(levels)] = coded.tables() else { return None };
    let numbers: Vec<i32> = if on_integers {
        levels.integers()?.0.into_iter().map(i32::from).collect()
    } else {
        let values = levels.values();
        let whole = values.iter().all(|x| x.fract() == 0.0 && x.abs() <= 65535.0);
        whole.then(|| values.iter().map(|&x| x as i32).collect())?
    };
    let (least, most) = (*numbers.iter().min()?, *numbers.iter().max()?);
    let fits = |dtype: &DType| {
        dtype.range().is_some_and(|(low, high)| low <= least && most <= high)
            && (!on_integers || dtype.bits() < 8)
    };
    let types = [DType::I2, DType::U2, DType::I4, DType::U4, DType::I8, DType::I16];
    Some((types.into_iter().find(fits)?, numbers))
}

/// The narrowest type for indices into the longest table.
fn index_type(tables: &[Table]) -> DType {
    match tables.iter().map(Table::len).max().unwrap_or(1) {
        0..=4 => DType::U2,
        5..=16 => DType::U4,
        17..=256 => DType::U8,
        _ => DType::U16,
    }
}

/// All groups' tables, one after the other.
fn lookup(coded: &CodedWeight, layout: &Layout, on_integers: bool) -> Lookup {
    let dimension = coded.dimension();
    let mut first = vec![];
    let mut entries = 0;
    for table in coded.tables() {
        first.push(entries);
        entries += table.len() as i32;
    }
    let shape =
        if layout.vectors { vec![entries as usize, dimension] } else { vec![entries as usize] };
    let table = if on_integers {
        let numbers = coded.tables().iter().filter_map(Table::integers).flat_map(|(n, _)| n);
        Tensor::new(shape, numbers.collect::<Vec<i8>>())
    } else {
        Tensor::new(shape, coded.tables().iter().flat_map(Table::values).collect::<Vec<f32>>())
    };
    let first = (first.len() > 1).then(|| Tensor::new(layout.groups.clone(), first));
    Lookup { table, first }
}

/// Operators one behind the other, from a constant on.
struct Chain<'a> {
    graph: &'a mut Graph,
    name: String,
    at: ValueId,
}

impl<'a> Chain<'a> {
    fn new(graph: &'a mut Graph, name: &str, codes: Tensor) -> Self {
        let at = graph.add_constant(&format!("{name}_codes"), codes);
        Chain { graph, name: name.to_owned(), at }
    }

    fn op(&mut self, what: &str, op: Op, others: &[ValueId]) {
        let name = format!("{}_{what}", self.name);
        let output = self.graph.fresh(&name);
        let inputs = std::iter::once(self.at).chain(others.iter().copied()).map(Some).collect();
        let name = format!("{name}_{}", op.name());
        self.graph.nodes.push(Node { name, op, inputs, outputs: vec![Some(output)] });
        self.at = output;
    }

    fn cast(&mut self, to: DType) {
        self.op("numbers", Op::Cast(Cast { to }), &[]);
    }

    fn with(&mut self, what: &str, op: Op, operand: Tensor) {
        let operand = self.graph.add_constant(&format!("{}_{what}", self.name), operand);
        self.op(&format!("with_{what}"), op, &[operand]);
    }

    fn look_up(&mut self, table: Tensor) {
        let table = self.graph.add_constant(&format!("{}_table", self.name), table);
        let indices = std::mem::replace(&mut self.at, table);
        self.op("from_table", Op::Gather(Gather { axis: 0 }), &[indices]);
    }

    /// From the layout of the codes to the weight's shape.
    fn shape_back(&mut self, layout: &Layout, coded: &CodedWeight) {
        let (row, filled) = layout.row;
        let mut dims = layout.decoded_dims(coded.dimension());
        if filled > 0 {
            self.reshape(&[coded.shape()[0], row + filled]);
            let [start, end, axis] = [0, row, 1].map(|at| Tensor::vector(vec![at as i64]));
            let operands =
                [("start", start), ("end", end), ("axis", axis)].map(|(what, tensor)| {
                    self.graph.add_constant(&format!("{}_{what}", self.name), tensor)
                });
            self.op("row", Op::Slice, &operands);
            dims = vec![coded.shape()[0], row];
        }
        if dims != coded.shape() {
            self.reshape(coded.shape());
        }
    }

    fn reshape(&mut self, dims: &[usize]) {
        let dims = Tensor::vector(dims.iter().map(|&d| d as i64).collect());
        self.with("shape", Op::Reshape(Reshape { allow_zero: false }), dims);
    }
}

/// A tensor of narrow integers.
fn narrow(dtype: DType, dims: &[usize], numbers: Vec<i32>) -> Tensor {
    let buffer = match dtype {
        DType::I2 | DType::I4 | DType::I8 => Buffer::I8(numbers.iter().map(|&n| n as i8).collect()),
        DType::U2 | DType::U4 | DType::U8 => Buffer::U8(numbers.iter().map(|&n| n as u8).collect()),
        DType::I16 => Buffer::I16(numbers.iter().map(|&n| n as i16).collect()),
        _ => Buffer::U16(numbers.iter().map(|&n| n as u16).collect()),
    };
    Tensor::try_new(dtype, dims.to_vec(), buffer).expect("as many numbers as the dimensions say")
}

#[cfg(test)]
mod tests;
