//! Cutting along an axis.

use lowbit_tensor::{Shape, Tensor};

use super::Inputs;
use super::dispatch::{Pooled, remake, with_values};
use super::inputs::resolve_axis;
use crate::{OpError, Workspace};

/// Where to cut: input 1 gives sizes, else `outputs` equal parts (the last may be smaller).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// Number of parts.
    pub outputs: usize,
}

/// Parts a node may have: far beyond any real file.
const OUTPUTS_MAX: usize = 1 << 16;

impl Split {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Vec<Tensor>, OpError> {
        let data = inputs.required(0, "input")?;
        let axis = resolve_axis(self.axis, data.rank())?;
        let extent = data.shape()[axis];
        let sizes = match inputs.integers(1)? {
            Some(sizes) => self.given(&sizes, extent)?,
            None => self.equal(extent)?,
        };
        let mut parts = Vec::with_capacity(sizes.len());
        let mut start = 0;
        for size in sizes {
            parts.push(cut(data, axis, start..start + size, work)?);
            start += size;
        }
        Ok(parts)
    }

    /// Sizes from input 1, which must add up to the extent.
    fn given(&self, sizes: &[i64], extent: usize) -> Result<Vec<usize>, OpError> {
        let found = || OpError::Input {
            index: 1,
            found: format!("sizes {sizes:?}"),
            expected: format!("{} sizes that add up to {extent}", self.outputs),
        };
        let sizes: Vec<usize> = sizes
            .iter()
            .map(|&s| usize::try_from(s))
            .collect::<Result<_, _>>()
            .map_err(|_| found())?;
        let total = sizes.iter().try_fold(0usize, |sum, &s| sum.checked_add(s));
        if sizes.len() != self.outputs || total != Some(extent) {
            return Err(found());
        }
        Ok(sizes)
    }

    /// Parts of ceil(extent / outputs), the last one smaller.
    fn equal(&self, extent: usize) -> Result<Vec<usize>, OpError> {
        let impossible = || {
            OpError::Invalid(format!(
                "an extent of {extent} does not split into {} parts",
                self.outputs
            ))
        };
        if self.outputs == 0 || self.outputs > OUTPUTS_MAX {
            return Err(impossible());
        }
        let size = extent.div_ceil(self.outputs);
        let last = size
            .checked_mul(self.outputs - 1)
            .and_then(|before| extent.checked_sub(before))
            .ok_or_else(impossible)?;
        let mut sizes = vec![size; self.outputs];
        sizes[self.outputs - 1] = last;
        Ok(sizes)
    }
}

/// The part of `data` within `range` along an axis.
pub(crate) fn cut(
    data: &Tensor,
    axis: usize,
    range: std::ops::Range<usize>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let mut dims = data.shape().to_vec();
    dims[axis] = range.len();
    let shape = Shape::new(dims);
    with_values!(data, values => {
        let mut out = Pooled::take(&mut work.pool, &shape)?;
        if !out.is_empty() {
            let inner: usize = shape[axis + 1..].iter().product();
            let row = data.shape()[axis] * inner;
            for (to, from) in out.chunks_exact_mut(range.len() * inner).zip(values.chunks_exact(row)) {
                to.copy_from_slice(&from[range.start * inner..range.end * inner]);
            }
        }
        remake(data.dtype(), shape, out)
    })
}

#[cfg(test)]
mod tests;
