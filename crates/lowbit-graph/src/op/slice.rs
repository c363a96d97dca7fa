//! A strided part of a tensor.

use lowbit_tensor::{Shape, Tensor};

use super::Inputs;
use super::dispatch::{Pooled, remake, with_values};
use super::inputs::resolve_axis;
use super::strided::{Axis, Walk, copy, row_major};
use crate::{OpError, Workspace};

pub(crate) fn forward(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let data = inputs.required(0, "data")?;
    let cuts = cuts(inputs, data.shape())?;
    let shape: Shape = cuts.iter().map(|cut| cut.extent).collect::<Vec<_>>().into();
    with_values!(data, values => {
        let mut out = Pooled::take(&mut work.pool, &shape)?;
        if !out.is_empty() {
            copy(&walk(&cuts, data.shape()), values, &mut out);
        }
        remake(data.dtype(), shape, out)
    })
}

/// What is taken along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    start: usize,
    step: isize,
    extent: usize,
}

/// The shape rule: one cut per axis of the data.
fn cuts(inputs: &Inputs<'_>, dims: &[usize]) -> Result<Vec<Cut>, OpError> {
    inputs.required(1, "starts")?;
    inputs.required(2, "ends")?;
    let starts = inputs.integers(1)?.unwrap_or_default();
    let ends = listed(inputs, 2, &starts)?.unwrap_or_default();
    let axes = listed(inputs, 3, &starts)?;
    let steps = listed(inputs, 4, &starts)?.unwrap_or_else(|| vec![1; starts.len()]);
    let mut cuts: Vec<Option<Cut>> = vec![None; dims.len()];
    for i in 0..starts.len() {
        let axis = match &axes {
            Some(axes) => resolve_axis(axes[i], dims.len())?,
            None => resolve_axis(i64::try_from(i).unwrap_or(i64::MAX), dims.len())?,
        };
        if cuts[axis].is_some() {
            return Err(OpError::Invalid(format!("axis {axis} is sliced twice")));
        }
        cuts[axis] = Some(cut(dims[axis], starts[i], ends[i], steps[i])?);
    }
    let whole =
        |(cut, &extent): (&Option<Cut>, &usize)| cut.unwrap_or(Cut { start: 0, step: 1, extent });
    Ok(cuts.iter().zip(dims).map(whole).collect())
}

/// The integer vector at `index`, which must be as long as `starts`.
fn listed(inputs: &Inputs<'_>, index: usize, starts: &[i64]) -> Result<Option<Vec<i64>>, OpError> {
    match inputs.integers(index)? {
        Some(list) if list.len() != starts.len() => Err(OpError::Input {
            index,
            found: format!("{} values", list.len()),
            expected: format!("{} values, as many as starts", starts.len()),
        }),
        other => Ok(other),
    }
}

/// Bounds count from the end when negative and are clamped to the axis, as numpy does.
fn cut(extent: usize, start: i64, end: i64, step: i64) -> Result<Cut, OpError> {
    if step == 0 {
        return Err(OpError::Input {
            index: 4,
            found: "step 0".into(),
            expected: "steps other than 0".into(),
        });
    }
    let limit = extent as i128;
    let from_start = |at: i64| {
        if at < 0 { i128::from(at) + limit } else { i128::from(at) }
    };
    // A backward slice starts on an element and ends before the first.
    let (low, high) = if step > 0 { (0, limit) } else { (-1, limit - 1) };
    let (start, end) = (from_start(start).clamp(low, high), from_start(end).clamp(low, high));
    let step = i128::from(step);
    let distance = if step > 0 { end - start } else { start - end };
    let count = (distance.max(0) + step.abs() - 1) / step.abs();
    // With no element on the axis, or none taken, there is no position to start from.
    Ok(Cut {
        start: usize::try_from(start).unwrap_or(0),
        step: isize::try_from(step).unwrap_or(isize::MAX),
        extent: usize::try_from(count).unwrap_or(0),
    })
}

fn walk(cuts: &[Cut], dims: &[usize]) -> Walk<1> {
    let strides = row_major(dims);
    let axes: Vec<Axis<1>> = cuts
        .iter()
        .zip(&strides)
        .map(|(cut, stride)| Axis { extent: cut.extent, strides: [stride.wrapping_mul(cut.step)] })
        .collect();
    let start =
        cuts.iter().zip(&strides).map(|(cut, stride)| cut.start * stride.cast_unsigned()).sum();
    Walk::new([start], &axes)
}

#[cfg(test)]
mod tests;
