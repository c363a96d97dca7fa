//! Exponentials that sum to one.

use lowbit_tensor::Tensor;

use super::dispatch::share_rows;
use super::inputs::resolve_axis;
use super::reduce::sum;
use super::{Back, Gradients, Inputs};
use crate::{OpError, Workspace};

/// Softmax or LogSoftmax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// Whether the logarithm is wanted.
    pub log: bool,
    /// Opset 1 to 12: all axes from `axis` on are one.
    pub flatten: bool,
}

impl Softmax {
    /// The operator's ONNX name.
    #[must_use]
    pub fn name(self) -> &'static str {
        if self.log { "LogSoftmax" } else { "Softmax" }
    }

    /// Computes one row of neighbours, whatever the axis.
    ///
    /// # Panics
    /// When `y` is shorter than `x`.
    pub fn of_row(self, x: &[f32], y: &mut [f32]) {
        let y = &mut y[..x.len()];
        if self.log { log_softmax(x, y) } else { softmax(x, y) }
    }

    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let (tensor, x) = inputs.typed::<f32>(0, "input")?;
        let dims = tensor.shape();
        let axis = resolve_axis(self.axis, dims.len())?;
        let mut out = work.pool.floats(dims)?;
        if !out.is_empty() {
            let last = if self.flatten { dims.len() } else { axis + 1 };
            let row: usize = dims[axis..last].iter().product();
            let inner: usize = dims[last..].iter().product();
            let of_row = if self.log { log_softmax } else { softmax };
            share_rows(work.parallel, &mut out, row * inner, |first, part| {
                let blocks = part.chunks_exact_mut(row * inner);
                for (y, x) in blocks.zip(x[first..].chunks_exact(row * inner)) {
                    columns(x, inner, y, of_row);
                }
            });
        }
        Ok(Tensor::new(dims.clone(), out))
    }
}

impl Softmax {
    /// Along each row, y · (g - Σ g · y), of the logarithm g - exp(y) · Σ g.
    pub(crate) fn backward(
        &self,
        back: &Back<'_>,
        work: &mut Workspace,
    ) -> Result<Gradients, OpError> {
        let (tensor, y) = back.output()?;
        let dims = tensor.shape();
        let axis = resolve_axis(self.axis, dims.len())?;
        let last = if self.flatten { dims.len() } else { axis + 1 };
        let inner = dims[last..].iter().product::<usize>().max(1);
        let block = inner * dims[axis..last].iter().product::<usize>().max(1);
        let grad = back.grad()?.1;
        back.first(|| {
            let mut out = work.pool.floats(dims)?;
            let blocks = y.chunks_exact(block).zip(grad.chunks_exact(block));
            for ((y, grad), to) in blocks.zip(out.chunks_exact_mut(block)) {
                for c in 0..inner {
                    self.row_back([y, grad].map(|row| &row[c..]), inner, &mut to[c..]);
                }
            }
            Ok(Tensor::new(dims.clone(), out))
        })
    }

    /// One row, whose elements lie `step` apart.
    fn row_back(self, [y, grad]: [&[f32]; 2], step: usize, to: &mut [f32]) {
        let both = || y.iter().step_by(step).zip(grad.iter().step_by(step));
        let weight = |y: f32| f64::from(if self.log { 1.0 } else { y });
        let total = both().map(|(&y, &g)| f64::from(g) * weight(y)).sum::<f64>() as f32;
        for (to, (&y, &g)) in to.iter_mut().step_by(step).zip(both()) {
            *to = if self.log { g - y.exp() * total } else { y * (g - total) };
        }
    }
}

/// Applies `of_row` to each of the `inner` columns of a block of [row, inner].
fn columns(x: &[f32], inner: usize, y: &mut [f32], of_row: fn(&[f32], &mut [f32])) {
    if inner == 1 {
        return of_row(x, y);
    }
    let row = x.len() / inner;
    let mut column = vec![0.0; row];
    let mut result = vec![0.0; row];
    for c in 0..inner {
        for (to, from) in column.iter_mut().zip(x[c..].iter().step_by(inner)) {
            *to = *from;
        }
        of_row(&column, &mut result);
        for (to, from) in y[c..].iter_mut().step_by(inner).zip(&result) {
            *to = *from;
        }
    }
}

/// exp(x - max(x)) / sum, so that no exponential overflows.
fn softmax(x: &[f32], y: &mut [f32]) {
    let largest = largest(x);
    for (y, x) in y.iter_mut().zip(x) {
        *y = (x - largest).exp();
    }
    let total = sum(y) as f32;
    y.iter_mut().for_each(|y| *y /= total);
}

/// x - max(x) - ln(sum of exp(x - max(x))).
fn log_softmax(x: &[f32], y: &mut [f32]) {
    let largest = largest(x);
    for (y, x) in y.iter_mut().zip(x) {
        *y = (x - largest).exp();
    }
    let log_total = sum(y).ln() as f32;
    for (y, x) in y.iter_mut().zip(x) {
        *y = x - largest - log_total;
    }
}

/// NaN is passed over: it reaches the result through its own exponential.
fn largest(x: &[f32]) -> f32 {
    x.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests;
