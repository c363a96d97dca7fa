//! The same elements under another shape or order.

use lowbit_tensor::{Shape, Tensor};

use super::dispatch::{Pooled, copy_as, remake, with_values};
use super::inputs::{expect_rank, resolve_axis};
use super::shape::wanted_shape;
use super::strided::{Axis, Walk, broadcast, copy, row_major};
use super::{Back, Gradients, Inputs};
use crate::{OpError, Workspace};

/// How a requested dimension of 0 is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reshape {
    /// True: 0 means extent 0. False: 0 copies the input's dimension.
    pub allow_zero: bool,
}

/// Where the input is cut into two axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flatten {
    /// Axes before it form the first; negative counts from the end.
    pub axis: i64,
}

/// A permutation of axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transpose {
    /// Output axis i is input axis `perm[i]`; `None` reverses them.
    pub perm: Option<Vec<usize>>,
}

impl Reshape {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let data = inputs.required(0, "data")?;
        expect_rank(1, inputs.required(1, "shape")?, 1)?;
        let wanted = inputs.integers(1)?.unwrap_or_default();
        let shape = self.resolve(data.shape(), &wanted)?;
        if shape.checked_len() != Some(data.len()) {
            return Err(mismatch(data.shape(), &wanted));
        }
        copy_as(data, shape, work)
    }

    /// Replaces 0 by the input's extent and -1 by what is left.
    fn resolve(&self, input: &Shape, wanted: &[i64]) -> Result<Shape, OpError> {
        let refused = || mismatch(input, wanted);
        let mut open = None;
        let mut dims = Vec::with_capacity(wanted.len());
        for (axis, &extent) in wanted.iter().enumerate() {
            dims.push(match extent {
                -1 if open.is_none() => {
                    open = Some(axis);
                    1
                }
                0 if !self.allow_zero => *input.get(axis).ok_or_else(refused)?,
                _ => usize::try_from(extent).map_err(|_| refused())?,
            });
        }
        if let Some(axis) = open {
            let known = Shape::new(dims.clone()).checked_len();
            let known = known.filter(|&n| n > 0).ok_or_else(refused)?;
            dims[axis] = input.numel() / known;
        }
        Ok(Shape::new(dims))
    }
}

fn mismatch(input: &Shape, wanted: &[i64]) -> OpError {
    OpError::Input {
        index: 1,
        found: format!("shape {wanted:?}"),
        expected: format!("a shape with the elements of {input}"),
    }
}

impl Flatten {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let data = inputs.required(0, "input")?;
        // Unlike elsewhere, the rank itself is an axis here: everything before the cut.
        let axis = match usize::try_from(self.axis) {
            Ok(axis) if axis == data.rank() => axis,
            _ => resolve_axis(self.axis, data.rank())?,
        };
        let product = |dims: &[usize]| {
            Shape::from(dims).checked_len().ok_or_else(|| {
                OpError::Invalid(format!("the axes of {} overflow when merged", data.shape()))
            })
        };
        let dims = [product(&data.shape()[..axis])?, product(&data.shape()[axis..])?];
        copy_as(data, dims.into(), work)
    }
}

impl Transpose {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let data = inputs.required(0, "data")?;
        let perm = self.permutation(data.rank())?;
        let strides = row_major(data.shape());
        let axes: Vec<Axis<1>> = perm
            .iter()
            .map(|&axis| Axis { extent: data.shape()[axis], strides: [strides[axis]] })
            .collect();
        let shape: Shape = axes.iter().map(|axis| axis.extent).collect::<Vec<_>>().into();
        with_values!(data, values => {
            let mut out = Pooled::take(&mut work.pool, &shape)?;
            copy(&Walk::new([0], &axes), values, &mut out);
            remake(data.dtype(), shape, out)
        })
    }

    fn permutation(&self, rank: usize) -> Result<Vec<usize>, OpError> {
        let Some(perm) = &self.perm else {
            return Ok((0..rank).rev().collect());
        };
        let mut sorted = perm.clone();
        sorted.sort_unstable();
        if sorted.iter().copied().eq(0..rank) {
            return Ok(perm.clone());
        }
        Err(OpError::Invalid(format!(
            "perm {perm:?} is no permutation of the axes of a rank-{rank} tensor"
        )))
    }
}

pub(crate) fn squeeze(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let data = inputs.required(0, "data")?;
    let dims = data.shape();
    let dropped = match inputs.integers(1)? {
        Some(axes) => marked(&axes, data.rank())?,
        None => dims.iter().map(|&d| d == 1).collect(),
    };
    if let Some(axis) = (0..dims.len()).find(|&axis| dropped[axis] && dims[axis] != 1) {
        return Err(OpError::Input {
            index: 0,
            found: format!("shape {dims}"),
            expected: format!("extent 1 on axis {axis}"),
        });
    }
    let kept = (0..dims.len()).filter(|&axis| !dropped[axis]);
    let shape: Vec<usize> = kept.map(|axis| dims[axis]).collect();
    copy_as(data, shape.into(), work)
}

pub(crate) fn unsqueeze(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let data = inputs.required(0, "data")?;
    inputs.required(1, "axes")?;
    let axes = inputs.integers(1)?.unwrap_or_default();
    let inserted = marked(&axes, data.rank() + axes.len())?;
    let mut old = data.shape().iter();
    let shape: Vec<usize> =
        inserted.iter().map(|&new| if new { 1 } else { *old.next().unwrap_or(&1) }).collect();
    copy_as(data, shape.into(), work)
}

/// The way back of every operator that keeps the elements in order: the gradient in the input's shape.
pub(crate) fn reshape_backward(
    back: &Back<'_>,
    work: &mut Workspace,
) -> Result<Gradients, OpError> {
    let data = back.inputs.required(0, "data")?;
    back.first(|| copy_as(back.grad()?.0, data.shape().clone(), work))
}

/// Which of `rank` axes are named.
///
/// # Errors
/// `Invalid` when an axis is outside or named twice.
pub(crate) fn marked(axes: &[i64], rank: usize) -> Result<Vec<bool>, OpError> {
    let mut named = vec![false; rank];
    for &axis in axes {
        let at = resolve_axis(axis, rank)?;
        if std::mem::replace(&mut named[at], true) {
            return Err(OpError::Invalid(format!("axis {axis} is named twice in {axes:?}")));
        }
    }
    Ok(named)
}

pub(crate) fn identity(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let data = inputs.required(0, "input")?;
    copy_as(data, data.shape().clone(), work)
}

pub(crate) fn expand(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let data = inputs.required(0, "input")?;
    let shape = broadcast(1, &wanted_shape(1, inputs)?, data.shape())?;
    with_values!(data, values => {
        let mut out = Pooled::take(&mut work.pool, &shape)?;
        copy(&Walk::broadcast(&shape, [data.shape()]), values, &mut out);
        remake(data.dtype(), shape, out)
    })
}

#[cfg(test)]
mod tests;
