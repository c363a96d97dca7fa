//! Reading operands with any strides in the order of a dense result: broadcasting, slicing and transposing are all this.
//!
//! ```text
//! walk = axes of the result, each with its extent and one stride per operand (0: repeated, negative: reversed)
//! drop axes of extent 1; merge neighbours that every operand steps through evenly
//! for each row (innermost axis) of the result: leaf(row, where the row starts in each operand)
//! ```
//! After merging, equal shapes are one row, a scalar is one row with stride 0, and [1, c, 1, 1] against [n, c, h, w] is
//! n·c rows of h·w elements with stride 0: no case needs its own code.

use lowbit_kernels::Parallel;
use lowbit_tensor::Shape;

use super::dispatch::share;
use crate::OpError;

/// One axis of the result, and the operands' strides along it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Axis<const K: usize> {
    /// Steps along it.
    pub(crate) extent: usize,
    /// Elements between neighbours, per operand.
    pub(crate) strides: [isize; K],
}

/// How K operands are read in the order of a dense result that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Walk<const K: usize> {
    start: [usize; K],
    outer: Vec<Axis<K>>,
    inner: Axis<K>,
}

/// Elements between neighbours along each axis. Wraps where a shape without elements overflows: such strides are not used.
pub(crate) fn row_major(dims: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis].wrapping_mul(dims[axis].cast_signed());
    }
    strides
}

/// The shape that `shape` and operand `index` broadcast to.
///
/// # Errors
/// `Input` when they do not.
pub(crate) fn broadcast(index: usize, operand: &Shape, shape: &Shape) -> Result<Shape, OpError> {
    shape.broadcast(operand).ok_or_else(|| OpError::Input {
        index,
        found: format!("shape {operand}"),
        expected: format!("a shape that broadcasts with {shape}"),
    })
}

/// Refuses an operand that does not broadcast to exactly `shape`.
///
/// # Errors
/// `Input` naming both shapes.
pub(crate) fn expect_broadcast_to(
    index: usize,
    operand: &Shape,
    shape: &Shape,
) -> Result<(), OpError> {
    if shape.broadcast(operand).as_ref() == Some(shape) {
        return Ok(());
    }
    Err(OpError::Input {
        index,
        found: format!("shape {operand}"),
        expected: format!("a shape that broadcasts to {shape}"),
    })
}

fn merge<const K: usize>(axes: &[Axis<K>]) -> Vec<Axis<K>> {
    let mut merged: Vec<Axis<K>> = Vec::with_capacity(axes.len());
    for &axis in axes.iter().filter(|axis| axis.extent != 1) {
        let even = |before: &&mut Axis<K>| {
            (0..K).all(|k| {
                before.strides[k] == axis.strides[k].wrapping_mul(axis.extent.cast_signed())
            })
        };
        match merged.last_mut().filter(even) {
            Some(before) => {
                // Wraps only where another extent is 0.
                before.extent = before.extent.wrapping_mul(axis.extent);
                before.strides = axis.strides;
            }
            None => merged.push(axis),
        }
    }
    merged
}

fn step<const K: usize>(mut at: [usize; K], strides: [isize; K], times: usize) -> [usize; K] {
    for (position, stride) in at.iter_mut().zip(strides) {
        *position = position.wrapping_add_signed(stride.wrapping_mul(times.cast_signed()));
    }
    at
}

impl<const K: usize> Walk<K> {
    /// A walk over `axes`, outermost first, from `start`. The product of the extents must not overflow.
    pub(crate) fn new(start: [usize; K], axes: &[Axis<K>]) -> Self {
        let mut outer = merge(axes);
        let inner = outer.pop().unwrap_or(Axis { extent: 1, strides: [1; K] });
        Walk { start, outer, inner }
    }

    /// Operands that broadcast to `output`, as the caller has checked.
    pub(crate) fn broadcast(output: &Shape, operands: [&Shape; K]) -> Self {
        let strides = operands.map(|shape| row_major(shape));
        let stride =
            |k: usize, axis: usize| match (axis + operands[k].len()).checked_sub(output.len()) {
                Some(own) if operands[k][own] != 1 => strides[k][own],
                _ => 0,
            };
        let axes: Vec<Axis<K>> = (0..output.len())
            .map(|axis| Axis {
                extent: output[axis],
                strides: std::array::from_fn(|k| stride(k, axis)),
            })
            .collect();
        Walk::new([0; K], &axes)
    }

    /// The operands' strides within a row.
    pub(crate) fn inner_strides(&self) -> [isize; K] {
        self.inner.strides
    }

    /// Calls `leaf` on each row of `out`, which is the part of the result from element `first` on; rows at the ends may
    /// be partial.
    pub(crate) fn rows<R>(
        &self,
        first: usize,
        mut out: &mut [R],
        mut leaf: impl FnMut(&mut [R], [usize; K]),
    ) {
        let mut column = first % self.inner.extent;
        let (mut index, mut at) = self.locate(first / self.inner.extent);
        while !out.is_empty() {
            let (row, rest) = out.split_at_mut((self.inner.extent - column).min(out.len()));
            leaf(row, step(at, self.inner.strides, column));
            out = rest;
            column = 0;
            for (i, axis) in index.iter_mut().zip(&self.outer).rev() {
                *i += 1;
                at = step(at, axis.strides, 1);
                if *i < axis.extent {
                    break;
                }
                at = step(at, axis.strides.map(isize::wrapping_neg), axis.extent);
                *i = 0;
            }
        }
    }

    fn locate(&self, mut row: usize) -> (Vec<usize>, [usize; K]) {
        let mut index = vec![0; self.outer.len()];
        let mut at = self.start;
        for (i, axis) in index.iter_mut().zip(&self.outer).rev() {
            *i = row % axis.extent;
            row /= axis.extent;
            at = step(at, axis.strides, *i);
        }
        (index, at)
    }
}

/// out = f(a, b) along the walk.
pub(crate) fn zip<A: Copy + Sync, B: Copy + Sync, R: Send>(
    walk: &Walk<2>,
    (a, b): (&[A], &[B]),
    parallel: Parallel,
    out: &mut [R],
    f: impl Fn(A, B) -> R + Sync,
) {
    let strides = walk.inner_strides();
    let leaf = |row: &mut [R], [i, j]: [usize; 2]| match strides {
        [1, 1] => {
            for ((r, &x), &y) in row.iter_mut().zip(&a[i..]).zip(&b[j..]) {
                *r = f(x, y);
            }
        }
        [1, 0] => {
            let y = b[j];
            row.iter_mut().zip(&a[i..]).for_each(|(r, &x)| *r = f(x, y));
        }
        [0, 1] => {
            let x = a[i];
            row.iter_mut().zip(&b[j..]).for_each(|(r, &y)| *r = f(x, y));
        }
        _ => {
            for (c, r) in row.iter_mut().enumerate() {
                let [i, j] = step([i, j], strides, c);
                *r = f(a[i], b[j]);
            }
        }
    };
    share(parallel, out, |first, part| walk.rows(first, part, leaf));
}

/// out = f(a, b, c) along the walk.
pub(crate) fn zip3<A: Copy + Sync, B: Copy + Sync, C: Copy + Sync, R: Send>(
    walk: &Walk<3>,
    (a, b, c): (&[A], &[B], &[C]),
    parallel: Parallel,
    out: &mut [R],
    f: impl Fn(A, B, C) -> R + Sync,
) {
    let [s, t, u] = walk.inner_strides().map(isize::cast_unsigned);
    let leaf = |row: &mut [R], [i, j, k]: [usize; 3]| match [s, t, u] {
        [1, 1, 1] => {
            let given = a[i..].iter().zip(&b[j..]).zip(&c[k..]);
            row.iter_mut().zip(given).for_each(|(r, ((&x, &y), &z))| *r = f(x, y, z));
        }
        _ => {
            for (at, r) in row.iter_mut().enumerate() {
                *r = f(a[i + at * s], b[j + at * t], c[k + at * u]);
            }
        }
    };
    share(parallel, out, |first, part| walk.rows(first, part, leaf));
}

/// Copies the elements along the walk.
pub(crate) fn copy<T: Copy>(walk: &Walk<1>, source: &[T], out: &mut [T]) {
    if out.is_empty() {
        return;
    }
    let [stride] = walk.inner_strides();
    let along = walk.outer.iter().rposition(|axis| axis.strides == [1]);
    match (stride, along) {
        (1, _) => walk.rows(0, out, |row, [i]| row.copy_from_slice(&source[i..i + row.len()])),
        (0, _) => walk.rows(0, out, |row, [i]| row.fill(source[i])),
        (_, Some(axis)) => copy_tiles(walk, axis, source, out),
        (_, None) => walk.rows(0, out, |row, [i]| {
            for (c, r) in row.iter_mut().enumerate() {
                *r = source[step([i], [stride], c)[0]];
            }
        }),
    }
}

/// Side of the squares that a transposition is cut into: 16 rows of 64 bytes stay in the first cache.
const TILE: usize = 16;

/// Copies where the source is contiguous along outer axis `along` and the result along the innermost axis.
fn copy_tiles<T: Copy>(walk: &Walk<1>, along: usize, source: &[T], out: &mut [T]) {
    let extents: Vec<usize> = walk.outer.iter().map(|axis| axis.extent).collect();
    let result = row_major(&[extents, vec![walk.inner.extent]].concat());
    let rest: Vec<Axis<2>> = (0..walk.outer.len())
        .filter(|&axis| axis != along)
        .map(|axis| Axis {
            extent: walk.outer[axis].extent,
            strides: [walk.outer[axis].strides[0], result[axis]],
        })
        .collect();
    let planes = rest.iter().map(|axis| axis.extent).product();
    let plane = Plane {
        rows: walk.outer[along].extent,
        columns: walk.inner.extent,
        source_stride: walk.inner.strides[0],
        row_stride: result[along].cast_unsigned(),
    };
    let mut starts = vec![[0usize; 2]; planes];
    let walk = Walk::new([walk.start[0], 0], &rest);
    let strides = walk.inner_strides();
    walk.rows(0, &mut starts, |row, at| {
        for (c, start) in row.iter_mut().enumerate() {
            *start = step(at, strides, c);
        }
    });
    for [from, to] in starts {
        plane.transpose(source, from, &mut out[to..]);
    }
}

/// A matrix that is contiguous along its rows' axis in the source and along its columns' axis in the result.
struct Plane {
    rows: usize,
    columns: usize,
    source_stride: isize,
    row_stride: usize,
}

impl Plane {
    fn transpose<T: Copy>(&self, source: &[T], from: usize, out: &mut [T]) {
        for top in (0..self.rows).step_by(TILE) {
            let rows = TILE.min(self.rows - top);
            for left in (0..self.columns).step_by(TILE) {
                for column in left..self.columns.min(left + TILE) {
                    let [start] = step([from + top], [self.source_stride], column);
                    for (r, &value) in source[start..start + rows].iter().enumerate() {
                        out[(top + r) * self.row_stride + column] = value;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
