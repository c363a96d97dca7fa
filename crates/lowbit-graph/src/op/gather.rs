//! Selecting along an axis by index.

use lowbit_tensor::{Shape, Tensor};

use super::Inputs;
use super::dispatch::{Pooled, remake, with_values};
use super::inputs::resolve_axis;
use crate::{OpError, Workspace};

/// Which axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// The axis; negative counts from the end.
    pub axis: i64,
}

impl Gather {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let data = inputs.required(0, "data")?;
        let axis = resolve_axis(self.axis, data.rank())?;
        let wanted = inputs.required(1, "indices")?;
        let indices = resolve(&inputs.integers(1)?.unwrap_or_default(), data.shape()[axis])?;
        let (before, after) = (&data.shape()[..axis], &data.shape()[axis + 1..]);
        let shape = Shape::new([before, wanted.shape(), after].concat());
        with_values!(data, values => {
            let mut out = Pooled::take(&mut work.pool, &shape)?;
            if !out.is_empty() {
                let inner = after.iter().product();
                pick(values, data.shape()[axis] * inner, &indices, inner, &mut out);
            }
            remake(data.dtype(), shape, out)
        })
    }
}

/// Indices in 0..extent; negative ones count from the end.
fn resolve(indices: &[i64], extent: usize) -> Result<Vec<usize>, OpError> {
    let signed = i64::try_from(extent).unwrap_or(i64::MAX);
    let one = |&index: &i64| {
        let resolved = if index < 0 { index + signed } else { index };
        match usize::try_from(resolved) {
            Ok(i) if i < extent => Ok(i),
            _ => Err(OpError::Input {
                index: 1,
                found: format!("index {index}"),
                expected: format!("-{extent} to {extent} - 1"),
            }),
        }
    };
    indices.iter().map(one).collect()
}

/// From each `row` of the source, the runs of `inner` elements that `indices` name.
fn pick<T: Copy>(source: &[T], row: usize, indices: &[usize], inner: usize, out: &mut [T]) {
    let rows = out.chunks_exact_mut(indices.len() * inner);
    for (to, from) in rows.zip(source.chunks_exact(row)) {
        for (run, &i) in to.chunks_exact_mut(inner).zip(indices) {
            run.copy_from_slice(&from[i * inner..(i + 1) * inner]);
        }
    }
}

#[cfg(test)]
mod tests;
