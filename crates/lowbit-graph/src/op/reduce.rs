//! Mean and sum over axes.

use lowbit_tensor::{Buffer, Shape, Tensor};

use super::arithmetic::Number;
use super::dispatch::{Pooled, copy_as, remake, share, wrong_type};
use super::layout::marked;
use super::strided::{Axis, Walk, copy, row_major};
use super::{Back, Gradients, Inputs};
use crate::{OpError, Workspace};

/// Which reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceKind {
    /// Arithmetic mean.
    Mean,
    /// Sum.
    Sum,
}

/// A reduction over the axes that input 1 names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduce {
    /// Which.
    pub kind: ReduceKind,
    /// Whether reduced axes stay with extent 1.
    pub keep_dims: bool,
    /// What an absent or empty list of axes means: false, all axes; true, none (the input unchanged).
    pub noop_with_empty_axes: bool,
}

impl Reduce {
    /// The operator's ONNX name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.kind {
            ReduceKind::Mean => "ReduceMean",
            ReduceKind::Sum => "ReduceSum",
        }
    }

    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let data = inputs.required(0, "data")?;
        let reduced = self.reduced(inputs, data.rank())?;
        if !reduced.contains(&true) {
            return copy_as(data, data.shape().clone(), work);
        }
        let plan = Plan::new(data.shape(), &reduced);
        let shape = self.shape(data.shape(), &reduced);
        match data.buffer() {
            Buffer::F32(values) => {
                let of_row = match self.kind {
                    ReduceKind::Mean => mean,
                    ReduceKind::Sum => |row: &[f32]| sum(row) as f32,
                };
                plan.run(values, shape, of_row, work)
            }
            Buffer::I64(values) => plan.run(values, shape, self.integers(&plan)?, work),
            Buffer::I32(values) => plan.run(values, shape, self.integers(&plan)?, work),
            Buffer::I16(_) | Buffer::I8(_) | Buffer::U16(_) | Buffer::U8(_) | Buffer::Bool(_) => {
                Err(wrong_type(0, data, "float32, int64 or int32"))
            }
        }
    }

    /// The gradient repeated along the reduced axes; of a mean, divided by how many elements there were.
    pub(crate) fn backward(
        &self,
        back: &Back<'_>,
        work: &mut Workspace,
    ) -> Result<Gradients, OpError> {
        let data = back.inputs.required(0, "data")?;
        let reduced = self.reduced(back.inputs, data.rank())?;
        let (of_result, grad) = back.grad()?;
        let kept = Reduce { keep_dims: true, ..*self }.shape(data.shape(), &reduced);
        let factor = match self.kind {
            ReduceKind::Mean => of_result.len() as f32 / data.len() as f32,
            ReduceKind::Sum => 1.0,
        };
        back.first(|| {
            let mut out = work.pool.floats(data.shape())?;
            copy(&Walk::broadcast(data.shape(), [&kept]), grad, &mut out);
            out.iter_mut().for_each(|x| *x *= factor);
            Ok(Tensor::new(data.shape().clone(), out))
        })
    }

    /// Which axes go.
    fn reduced(self, inputs: &Inputs<'_>, rank: usize) -> Result<Vec<bool>, OpError> {
        let axes = inputs.integers(1)?.unwrap_or_default();
        match axes.is_empty() {
            true => Ok(vec![!self.noop_with_empty_axes; rank]),
            false => marked(&axes, rank),
        }
    }

    /// The shape rule.
    fn shape(self, input: &Shape, reduced: &[bool]) -> Shape {
        let kept = (0..input.len()).filter(|&axis| self.keep_dims || !reduced[axis]);
        let extent = |axis: usize| if reduced[axis] { 1 } else { input[axis] };
        kept.map(extent).collect::<Vec<_>>().into()
    }

    /// Integer sums wrap, integer means truncate.
    fn integers<T>(self, plan: &Plan) -> Result<fn(&[T]) -> T, OpError>
    where
        i64: From<T>,
        T: Number + TryFrom<i64>,
    {
        match self.kind {
            ReduceKind::Sum => Ok(|row| row.iter().fold(T::default(), |sum, &x| T::add(sum, x))),
            ReduceKind::Mean if plan.row == 0 => {
                Err(OpError::Invalid("the mean of no integers is undefined".into()))
            }
            ReduceKind::Mean => Ok(|row| {
                let total: i128 = row.iter().map(|&x| i128::from(i64::from(x))).sum();
                // A mean lies between the smallest and the largest element.
                let mean = i64::try_from(total / row.len() as i128).unwrap_or_default();
                T::try_from(mean).unwrap_or_default()
            }),
        }
    }
}

/// The input read with the reduced axes innermost: rows that become one element each.
struct Plan {
    /// `None` when the input's own order is that already.
    walk: Option<Walk<1>>,
    read: Shape,
    row: usize,
}

impl Plan {
    fn new(input: &Shape, reduced: &[bool]) -> Self {
        let strides = row_major(input);
        let (inside, outside): (Vec<usize>, Vec<usize>) =
            (0..input.len()).partition(|&axis| reduced[axis]);
        let order = [outside, inside.clone()].concat();
        let axes: Vec<Axis<1>> = order
            .iter()
            .map(|&axis| Axis { extent: input[axis], strides: [strides[axis]] })
            .collect();
        Plan {
            walk: (!order.is_sorted()).then(|| Walk::new([0], &axes)),
            read: axes.iter().map(|axis| axis.extent).collect::<Vec<_>>().into(),
            row: inside.iter().fold(1, |row, &axis| row.wrapping_mul(input[axis])),
        }
    }

    fn run<T: Pooled>(
        &self,
        values: &[T],
        shape: Shape,
        of_row: impl Fn(&[T]) -> T + Sync,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let mut out = T::take(&mut work.pool, &shape)?;
        let Some(walk) = &self.walk else {
            rows(values, self.row, work.parallel, &mut out, of_row);
            return remake(T::DTYPE, shape, out);
        };
        let mut ordered = T::take(&mut work.pool, &self.read)?;
        copy(walk, values, &mut ordered);
        rows(&ordered, self.row, work.parallel, &mut out, of_row);
        work.pool.give(remake(T::DTYPE, self.read.clone(), ordered)?);
        remake(T::DTYPE, shape, out)
    }
}

/// One element from each row.
fn rows<T: Copy + Send + Sync>(
    values: &[T],
    row: usize,
    parallel: lowbit_kernels::Parallel,
    out: &mut [T],
    of_row: impl Fn(&[T]) -> T + Sync,
) {
    share(parallel, out, |first, part| {
        for (i, y) in part.iter_mut().enumerate() {
            let start = (first + i) * row;
            *y = of_row(&values[start..start + row]);
        }
    });
}

/// The gradient of what was broadcast from shape `to` to shape `from`: summed over the axes it was repeated along.
///
/// # Errors
/// `TooLarge` beyond the session's limit.
pub(crate) fn sum_to(
    grad: &[f32],
    from: &Shape,
    to: &Shape,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    if from == to {
        let mut out = work.pool.floats(to)?;
        out.copy_from_slice(grad);
        return Ok(Tensor::new(to.clone(), out));
    }
    let extent = |axis: usize| (axis + to.len()).checked_sub(from.len()).map_or(1, |own| to[own]);
    let reduced: Vec<bool> = (0..from.len()).map(|axis| extent(axis) != from[axis]).collect();
    Plan::new(from, &reduced).run(grad, to.clone(), |row| sum(row) as f32, work)
}

/// Partial sums side by side: enough for the additions not to wait for one another.
const LANES: usize = 8;

/// Sum in f64 and in an order that depends on the length alone: exact to f32 for any row that fits in memory.
pub(crate) fn sum(row: &[f32]) -> f64 {
    let (blocks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0f64; LANES];
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane += f64::from(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(x);
    }
    lanes.iter().sum()
}

/// Arithmetic mean; NaN of no element.
pub(crate) fn mean(row: &[f32]) -> f32 {
    (sum(row) / row.len() as f64) as f32
}

#[cfg(test)]
mod tests;
