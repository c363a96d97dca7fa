//! Shapes as data.

use lowbit_tensor::{Shape, Tensor};

use super::Inputs;
use super::dispatch::{Pooled, remake, with_values};
use super::inputs::expect_rank;
use crate::{OpError, Workspace};

/// A slice of the input's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapeOf {
    /// First dimension; negative counts from the end, out of range is clamped.
    pub start: i64,
    /// One past the last; `None` is all.
    pub end: Option<i64>,
}

/// The value to fill with: a tensor of one element.
#[derive(Clone, Debug, PartialEq)]
pub struct ConstantOfShape {
    /// One element of any type.
    pub value: Tensor,
}

impl ShapeOf {
    pub(crate) fn forward(&self, inputs: &Inputs<'_>) -> Result<Tensor, OpError> {
        let dims = inputs.required(0, "data")?.shape();
        let rank = dims.len().cast_signed() as i64;
        let clamp = |at: i64| {
            let from_start = if at < 0 { at.saturating_add(rank) } else { at };
            usize::try_from(from_start.clamp(0, rank)).unwrap_or(0)
        };
        let (start, end) = (clamp(self.start), clamp(self.end.unwrap_or(rank)));
        let kept = &dims[start..end.max(start)];
        let one = |&d: &usize| {
            i64::try_from(d).map_err(|_| OpError::Invalid(format!("an extent of {d} is no int64")))
        };
        Ok(Tensor::vector(kept.iter().map(one).collect::<Result<Vec<i64>, _>>()?))
    }
}

impl ConstantOfShape {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let shape = wanted_shape(0, inputs)?;
        with_values!(self.value, values => {
            let &[value] = values.as_slice() else {
                return Err(OpError::Invalid(format!(
                    "value has shape {}, expected one element",
                    self.value.shape()
                )));
            };
            let mut out = Pooled::take(&mut work.pool, &shape)?;
            out.fill(value);
            remake(self.value.dtype(), shape, out)
        })
    }
}

/// The extents that the integer vector at input `index` names.
///
/// # Errors
/// `Missing`, or `Input` when it is not a vector of extents.
pub(crate) fn wanted_shape(index: usize, inputs: &Inputs<'_>) -> Result<Shape, OpError> {
    expect_rank(index, inputs.required(index, "shape")?, 1)?;
    let dims = inputs.integers(index)?.unwrap_or_default();
    let one = |&d: &i64| {
        usize::try_from(d).map_err(|_| OpError::Input {
            index,
            found: format!("extent {d}"),
            expected: "extents from 0 on".into(),
        })
    };
    Ok(Shape::new(dims.iter().map(one).collect::<Result<Vec<_>, _>>()?))
}

#[cfg(test)]
mod tests;
