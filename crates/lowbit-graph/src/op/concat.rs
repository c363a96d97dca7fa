//! Joining along an axis.

use lowbit_tensor::{Shape, Tensor};

use super::dispatch::{Pooled, remake, same_type, with_values};
use super::inputs::resolve_axis;
use super::{Back, Gradients, Inputs, split};
use crate::{OpError, Workspace};

/// Which axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat {
    /// The axis; negative counts from the end.
    pub axis: i64,
}

impl Concat {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let first = inputs.required(0, "inputs")?;
        let axis = resolve_axis(self.axis, first.rank())?;
        let parts = (0..inputs.count())
            .map(|i| inputs.required(i, "inputs"))
            .collect::<Result<Vec<_>, _>>()?;
        let shape = joined(&parts, axis)?;
        with_values!(first, values => {
            let mut out = Pooled::take(&mut work.pool, &shape)?;
            let mut sources = vec![values.as_slice()];
            for (i, part) in parts.iter().enumerate().skip(1) {
                sources.push(same_type(i, part, first)?);
            }
            interleave(&sources, &shape[..axis], &mut out);
            remake(first.dtype(), shape, out)
        })
    }
}

impl Concat {
    /// Each input's own part.
    pub(crate) fn backward(
        &self,
        back: &Back<'_>,
        work: &mut Workspace,
    ) -> Result<Gradients, OpError> {
        let grad = back.grad()?.0;
        let axis = resolve_axis(self.axis, grad.rank())?;
        let mut start = 0;
        let mut found = Vec::with_capacity(back.inputs.count());
        for i in 0..back.inputs.count() {
            let end = start + back.inputs.required(i, "inputs")?.shape()[axis];
            let part = back.wants(i).then(|| split::cut(grad, axis, start..end, work));
            found.push(part.transpose()?);
            start = end;
        }
        Ok(found)
    }
}

/// The shape rule: equal extents on every other axis.
fn joined(parts: &[&Tensor], axis: usize) -> Result<Shape, OpError> {
    let mut dims = parts[0].shape().to_vec();
    for (index, part) in parts.iter().enumerate().skip(1) {
        let fits = part.rank() == dims.len()
            && (0..dims.len()).all(|i| i == axis || part.shape()[i] == dims[i]);
        if !fits {
            return Err(OpError::Input {
                index,
                found: format!("shape {}", part.shape()),
                expected: format!("shape {} except on axis {axis}", parts[0].shape()),
            });
        }
        dims[axis] = dims[axis]
            .checked_add(part.shape()[axis])
            .ok_or_else(|| OpError::Invalid(format!("extents along axis {axis} overflow")))?;
    }
    Ok(dims.into())
}

/// Row by row, each source's part in turn.
fn interleave<T: Copy>(sources: &[&[T]], outer: &[usize], out: &mut [T]) {
    if out.is_empty() {
        return;
    }
    let rows: usize = outer.iter().product();
    let mut to = out;
    for row in 0..rows {
        for source in sources {
            let run = source.len() / rows;
            let (head, rest) = to.split_at_mut(run);
            head.copy_from_slice(&source[row * run..(row + 1) * run]);
            to = rest;
        }
    }
}

#[cfg(test)]
mod tests;
