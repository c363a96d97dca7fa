//! Growing (or, with negative pads, shrinking) a tensor at its edges.

use lowbit_tensor::{Shape, Tensor};

use super::Inputs;
use super::dispatch::{Pooled, one_of, remake, with_values};
use super::inputs::resolve_axis;
use super::strided::row_major;
use crate::{OpError, Workspace};

/// What the new elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadMode {
    /// A constant.
    Constant,
    /// The nearest element.
    Edge,
    /// The mirror image without the edge element.
    Reflect,
    /// The opposite side.
    Wrap,
}

/// How to pad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pad {
    /// What the new elements are.
    pub mode: PadMode,
}

/// Elements added at each end of each axis; negative ones are taken away.
type Pads = Vec<[i64; 2]>;

impl Pad {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let data = inputs.required(0, "data")?;
        let pads = pads(inputs, data.rank())?;
        let shape = padded(data.shape(), &pads)?;
        with_values!(data, values => {
            let value = one_of(2, inputs.optional(2), data)?.unwrap_or_default();
            let mut out = Pooled::take(&mut work.pool, &shape)?;
            if !out.is_empty() {
                let source = self.source(data.shape(), &pads, &shape)?;
                source.fill(values, value, &mut out);
            }
            remake(data.dtype(), shape, out)
        })
    }

    /// Where each element of the result comes from. The result is not empty, so its extents are within the limit.
    fn source(&self, input: &Shape, pads: &Pads, output: &Shape) -> Result<Source, OpError> {
        // Axes without pads at the end are copied as one block.
        let outer = pads.iter().rposition(|&p| p != [0, 0]).map_or(0, |axis| axis + 1);
        let mut maps = Vec::with_capacity(outer);
        for axis in 0..outer {
            let found = |i: usize| self.origin(i as i128 - i128::from(pads[axis][0]), input[axis]);
            let map: Vec<Option<usize>> = (0..output[axis]).map(found).collect();
            if self.mode != PadMode::Constant && map.contains(&None) {
                return Err(OpError::Input {
                    index: 0,
                    found: format!("shape {input}"),
                    expected: format!("elements on axis {axis} to pad with"),
                });
            }
            maps.push(map);
        }
        Ok(Source {
            maps,
            strides: row_major(input)[..outer].iter().map(|s| s.cast_unsigned()).collect(),
            block: input[outer..].iter().product(),
        })
    }

    /// The input position behind position `at`, counted from the input's first element.
    fn origin(self, at: i128, extent: usize) -> Option<usize> {
        let n = extent as i128;
        let inside = |at: i128| usize::try_from(at).ok().filter(|&i| i < extent);
        if n == 0 {
            return None;
        }
        match self.mode {
            PadMode::Constant => inside(at),
            PadMode::Edge => inside(at.clamp(0, n - 1)),
            PadMode::Wrap => inside(at.rem_euclid(n)),
            PadMode::Reflect => {
                let period = (2 * (n - 1)).max(1);
                let phase = at.rem_euclid(period);
                inside(phase.min(period - phase))
            }
        }
    }
}

fn pads(inputs: &Inputs<'_>, rank: usize) -> Result<Pads, OpError> {
    inputs.required(1, "pads")?;
    let given = inputs.integers(1)?.unwrap_or_default();
    let axes = match inputs.integers(3)? {
        Some(axes) => axes.iter().map(|&a| resolve_axis(a, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).collect::<Vec<_>>(),
    };
    if given.len() != 2 * axes.len() {
        return Err(OpError::Input {
            index: 1,
            found: format!("{} values", given.len()),
            expected: format!("{} values, two for each padded axis", 2 * axes.len()),
        });
    }
    let mut pads = vec![[0, 0]; rank];
    for (i, &axis) in axes.iter().enumerate() {
        pads[axis] = [given[i], given[i + axes.len()]];
    }
    Ok(pads)
}

/// The shape rule: each extent grows by its two pads.
fn padded(input: &Shape, pads: &Pads) -> Result<Shape, OpError> {
    let one = |(&extent, &[before, after]): (&usize, &[i64; 2])| {
        let sum = extent as i128 + i128::from(before) + i128::from(after);
        usize::try_from(sum).map_err(|_| {
            OpError::Invalid(format!("pads {before} and {after} on an axis of extent {extent}"))
        })
    };
    let dims = input.iter().zip(pads).map(one).collect::<Result<Vec<_>, _>>()?;
    Ok(Shape::new(dims))
}

/// Per padded axis, the input position behind each output position; then blocks that are copied whole.
struct Source {
    maps: Vec<Vec<Option<usize>>>,
    strides: Vec<usize>,
    block: usize,
}

impl Source {
    fn fill<T: Copy>(&self, values: &[T], value: T, out: &mut [T]) {
        self.fill_axis(0, values, value, out);
    }

    fn fill_axis<T: Copy>(&self, axis: usize, values: &[T], value: T, out: &mut [T]) {
        let Some(map) = self.maps.get(axis) else {
            return out.copy_from_slice(&values[..out.len()]);
        };
        if axis + 1 == self.maps.len() {
            return fill_row(map, self.block, (values, value), out);
        }
        let part = out.len() / map.len();
        for (to, from) in out.chunks_exact_mut(part).zip(map) {
            match from {
                Some(i) => self.fill_axis(axis + 1, &values[i * self.strides[axis]..], value, to),
                None => to.fill(value),
            }
        }
    }
}

/// The innermost padded axis: the longest run of neighbours is one copy.
fn fill_row<T: Copy>(
    map: &[Option<usize>],
    block: usize,
    (values, value): (&[T], T),
    out: &mut [T],
) {
    let mut at = 0;
    while at < map.len() {
        let follows = |i: usize| match (map[at], map[i]) {
            (Some(first), Some(next)) => next == first + (i - at),
            (None, None) => true,
            _ => false,
        };
        let end = (at + 1..map.len()).find(|&i| !follows(i)).unwrap_or(map.len());
        let to = &mut out[at * block..end * block];
        match map[at] {
            Some(i) => to.copy_from_slice(&values[i * block..(i + end - at) * block]),
            None => to.fill(value),
        }
        at = end;
    }
}

#[cfg(test)]
mod tests;
