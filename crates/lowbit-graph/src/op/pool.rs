//! Windows over the two spatial axes of [n, c, h, w].

use std::ops::Range;

use lowbit_kernels::{Body, Isa};
use lowbit_tensor::{Buffer, Shape, Tensor};

use super::arithmetic::Number;
use super::dispatch::{share, share_rows, wrong_type};
use super::inputs::expect_rank;
use super::reduce::mean;
use super::window::{Window, WindowSpec, resolve_window, span};
use super::{AutoPad, Back, Gradients, Inputs};
use crate::{OpError, Workspace};

/// A window and how it moves. One-dimensional pools are imported as [n, c, 1, w] between reshapes or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2d {
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Steps.
    pub strides: [usize; 2],
    /// Distance between window elements.
    pub dilations: [usize; 2],
    /// Top, left, bottom, right; used when `auto_pad` is `Explicit`.
    pub pads: [usize; 4],
    /// How pads are found.
    pub auto_pad: AutoPad,
    /// Whether a last partial window counts.
    pub ceil_mode: bool,
    /// Whether padding counts in the mean (average only).
    pub count_include_pad: bool,
}

impl Pool2d {
    /// Where the windows fall on an input of height and width `input`.
    ///
    /// # Errors
    /// `Invalid` when an attribute is 0 or absurd, or when no window fits.
    pub fn window(&self, input: [usize; 2]) -> Result<Window, OpError> {
        let spec = WindowSpec {
            kernel: self.kernel,
            strides: self.strides,
            dilations: self.dilations,
            pads: self.pads,
            auto_pad: self.auto_pad,
            ceil_mode: self.ceil_mode,
        };
        resolve_window(input, &spec)
    }

    pub(crate) fn max(&self, inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
        let tensor = inputs.required(0, "X")?;
        match tensor.buffer() {
            Buffer::F32(x) => self.max_of(tensor, x, work),
            Buffer::I8(x) if super::dispatch::is_plain(tensor) => self.max_of(tensor, x, work),
            Buffer::U8(x) if super::dispatch::is_plain(tensor) => self.max_of(tensor, x, work),
            Buffer::I8(_)
            | Buffer::U8(_)
            | Buffer::I64(_)
            | Buffer::I32(_)
            | Buffer::I16(_)
            | Buffer::U16(_)
            | Buffer::Bool(_) => Err(wrong_type(0, tensor, "float32, uint8 or int8")),
        }
    }

    pub(crate) fn average(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let (tensor, x) = inputs.typed::<f32>(0, "X")?;
        let sweep = self.sweep(tensor, work)?;
        let shape = sweep.shape(tensor);
        let mut out = work.pool.floats(&shape)?;
        if out.is_empty() {
            return Ok(Tensor::new(shape, out));
        }
        let counts = self.counts(&sweep);
        let mean = |total: f64, at: usize| {
            let count = counts[0][at / sweep.output[1]] * counts[1][at % sweep.output[1]];
            (total / count.max(1) as f64) as f32
        };
        let fold = Fold { empty: 0.0, widen: f64::from, join: |a, b| a + b, finish: mean };
        sweep.planes(x, work.parallel, &mut out, &fold);
        Ok(Tensor::new(shape, out))
    }

    fn max_of<T: Number>(
        &self,
        tensor: &Tensor,
        x: &[T],
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let sweep = self.sweep(tensor, work)?;
        let shape = sweep.shape(tensor);
        let mut out = T::take(&mut work.pool, &shape)?;
        let fold =
            Fold { empty: T::LOWEST, widen: |x| x, join: T::max, finish: |largest, _| largest };
        sweep.planes(x, work.parallel, &mut out, &fold);
        Ok(Tensor::new(shape, out))
    }

    /// Each window's gradient to its largest element, the first of several.
    pub(crate) fn max_backward(
        &self,
        back: &Back<'_>,
        work: &mut Workspace,
    ) -> Result<Gradients, OpError> {
        let tensor = back.inputs.required(0, "X")?;
        match tensor.buffer() {
            Buffer::F32(x) => self.back(back, largest_of(x), work),
            Buffer::I8(x) => self.back(back, largest_of(x), work),
            Buffer::U8(x) => self.back(back, largest_of(x), work),
            Buffer::I64(_) | Buffer::I32(_) | Buffer::I16(_) | Buffer::U16(_) | Buffer::Bool(_) => {
                Err(OpError::NoGradient)
            }
        }
    }

    /// An equal part of each window's gradient to each of the elements that count.
    pub(crate) fn average_backward(
        &self,
        back: &Back<'_>,
        work: &mut Workspace,
    ) -> Result<Gradients, OpError> {
        let sweep = self.sweep(back.inputs.required(0, "X")?, work)?;
        let counts = self.counts(&sweep);
        let spread = |grad: f32, [row, column]: [usize; 2], window: &[usize], _, to: &mut [f32]| {
            let part = grad / (counts[0][row] * counts[1][column]).max(1) as f32;
            window.iter().for_each(|&at| to[at] += part);
        };
        self.back(back, spread, work)
    }

    /// Calls `spread(gradient, [row, column] of the result, window's positions in the plane, first element of the plane, gradient of
    /// the plane)` for every window.
    fn back(
        &self,
        back: &Back<'_>,
        spread: impl Fn(f32, [usize; 2], &[usize], usize, &mut [f32]),
        work: &mut Workspace,
    ) -> Result<Gradients, OpError> {
        let tensor = back.inputs.required(0, "X")?;
        let sweep = self.sweep(tensor, work)?;
        let grad = back.grad()?.1;
        back.first(|| {
            let mut out = work.pool.floats(tensor.shape())?;
            out.fill(0.0);
            let plane = (sweep.input[0] * sweep.input[1]).max(1);
            let mut window = vec![];
            let windows = sweep.output[0] * sweep.output[1];
            for at in 0..windows {
                let place = [at / sweep.output[1], at % sweep.output[1]];
                sweep.window(place, &mut window);
                for (i, to) in out.chunks_exact_mut(plane).enumerate() {
                    spread(grad[i * windows + at], place, &window, i * plane, to);
                }
            }
            Ok(Tensor::new(tensor.shape().clone(), out))
        })
    }

    /// The shape rule.
    fn sweep(&self, tensor: &Tensor, work: &Workspace) -> Result<Sweep, OpError> {
        if tensor.rank() != 4 {
            return Err(OpError::Unsupported {
                what: "pooled tensor",
                found: format!("shape {}", tensor.shape()),
                supported: "rank 4 [n, c, h, w]",
            });
        }
        let input = [tensor.shape()[2], tensor.shape()[3]];
        let window = self.window(input)?;
        let spans = [0, 1].map(|axis| span(self.kernel[axis], self.dilations[axis]));
        if (0..4).any(|side| window.pads[side] >= spans[side % 2]) {
            return Err(OpError::Invalid(format!(
                "pads {:?} reach past windows that span {spans:?}: some would hold no element",
                window.pads
            )));
        }
        let sweep = Sweep::new(self, input, window);
        work.pool.check(&[sweep.line].into())?;
        Ok(sweep)
    }

    /// How many elements count in the windows of each output row and column.
    fn counts(&self, sweep: &Sweep) -> [Vec<usize>; 2] {
        [0, 1].map(|axis| {
            let (before, extent) = (sweep.pads[axis], sweep.input[axis]);
            // Positions are counted from the first padding element; those past the last one never count.
            let counted = match self.count_include_pad {
                true => 0..before + extent + sweep.pads[axis + 2],
                false => before..before + extent,
            };
            (0..sweep.output[axis])
                .map(|o| {
                    let base = o * self.strides[axis];
                    taps(base, counted.clone(), self.kernel[axis], self.dilations[axis]).len()
                })
                .collect()
        })
    }
}

/// Which elements of a window that starts at `base` lie within `range`.
fn taps(base: usize, range: Range<usize>, kernel: usize, dilation: usize) -> Range<usize> {
    let reach = |to: usize| to.saturating_sub(base).div_ceil(dilation).min(kernel);
    reach(range.start)..reach(range.end)
}

/// Windows over planes, the same for every channel.
struct Sweep {
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [usize; 4],
    input: [usize; 2],
    output: [usize; 2],
    /// Elements of a row with all the padding that windows reach.
    line: usize,
}

/// How a window becomes an element: `finish(join of widen(x), position in the plane)`.
struct Fold<W, A, J, F> {
    empty: A,
    widen: W,
    join: J,
    finish: F,
}

/// Spreads a window's gradient for [`Pool2d::back`]: all of it to the first of the largest elements of `x`.
fn largest_of<T: Number>(
    x: &[T],
) -> impl Fn(f32, [usize; 2], &[usize], usize, &mut [f32]) + use<'_, T> {
    |grad, _, window, first, to| {
        let larger =
            |best: usize, &at: &usize| if x[first + at] > x[first + best] { at } else { best };
        if let Some((&start, rest)) = window.split_first() {
            to[rest.iter().fold(start, larger)] += grad;
        }
    }
}

impl Sweep {
    /// The positions in the input's plane that the window of result element `place` covers.
    fn window(&self, place: [usize; 2], window: &mut Vec<usize>) {
        let [rows, columns] = [0, 1].map(|axis| {
            let base = place[axis] * self.strides[axis];
            let inside = self.pads[axis]..self.pads[axis] + self.input[axis];
            let (dilation, pad) = (self.dilations[axis], self.pads[axis]);
            taps(base, inside, self.kernel[axis], dilation).map(move |k| base + k * dilation - pad)
        });
        window.clear();
        for row in rows {
            window.extend(columns.clone().map(|column| row * self.input[1] + column));
        }
    }

    fn new(pool: &Pool2d, input: [usize; 2], window: Window) -> Self {
        let reach = window.output[1].saturating_sub(1) * pool.strides[1]
            + span(pool.kernel[1], pool.dilations[1]);
        Sweep {
            kernel: pool.kernel,
            strides: pool.strides,
            dilations: pool.dilations,
            pads: window.pads,
            input,
            output: window.output,
            line: reach.max(window.pads[1] + input[1]),
        }
    }

    fn shape(&self, tensor: &Tensor) -> Shape {
        let [n, c] = [tensor.shape()[0], tensor.shape()[1]];
        [n, c, self.output[0], self.output[1]].into()
    }

    /// Pools each plane of the input into one of the result.
    fn planes<T, A, W, J, F>(
        &self,
        x: &[T],
        parallel: lowbit_kernels::Parallel,
        out: &mut [T],
        fold: &Fold<W, A, J, F>,
    ) where
        T: Copy + Send + Sync,
        A: Copy + Default + Sync,
        W: Fn(T) -> A + Sync,
        J: Fn(A, A) -> A + Sync,
        F: Fn(A, usize) -> T + Sync,
    {
        let plane = self.output[0] * self.output[1];
        let source = self.input[0] * self.input[1];
        share_rows(parallel, out, plane, |first, part| {
            // One element more, so that steps of two are whole pairs; then the results of a row.
            let mut line = vec![A::default(); self.line + 1 + self.output[1]];
            for (i, y) in part.chunks_exact_mut(plane).enumerate() {
                let start = (first / plane + i) * source;
                let x = &x[start..start + source];
                Isa::current().vectorize(Slide { sweep: self, x, line: &mut line, y, fold });
            }
        });
    }
}

/// Windows are separable: join the rows under a window into one line, then slide along the line, all windows of a row at once.
struct Slide<'a, T, A, W, J, F> {
    sweep: &'a Sweep,
    x: &'a [T],
    line: &'a mut [A],
    y: &'a mut [T],
    fold: &'a Fold<W, A, J, F>,
}

impl<T, A, W, J, F> Body for Slide<'_, T, A, W, J, F>
where
    T: Copy,
    A: Copy,
    W: Fn(T) -> A,
    J: Fn(A, A) -> A,
    F: Fn(A, usize) -> T,
{
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Slide { sweep, x, line, y, fold } = self;
        let (width, columns) = (sweep.input[1], sweep.output[1]);
        let (line, sums) = line.split_at_mut(sweep.line + 1);
        line.fill(fold.empty);
        for (o, row) in y.chunks_exact_mut(columns).enumerate() {
            let joined = &mut line[sweep.pads[1]..sweep.pads[1] + width];
            joined.fill(fold.empty);
            let base = o * sweep.strides[0];
            let inside = sweep.pads[0]..sweep.pads[0] + sweep.input[0];
            for k in taps(base, inside, sweep.kernel[0], sweep.dilations[0]) {
                let h = base + k * sweep.dilations[0] - sweep.pads[0];
                for (sum, &x) in joined.iter_mut().zip(&x[h * width..(h + 1) * width]) {
                    *sum = (fold.join)(*sum, (fold.widen)(x));
                }
            }
            sums.fill(fold.empty);
            for k in 0..sweep.kernel[1] {
                let taps = &line[k * sweep.dilations[1]..];
                let join = |sum: &mut A, tap: A| *sum = (fold.join)(*sum, tap);
                // Steps that the compiler knows become vectors.
                match sweep.strides[1] {
                    1 => sums.iter_mut().zip(taps).for_each(|(sum, &tap)| join(sum, tap)),
                    2 => sums
                        .iter_mut()
                        .zip(taps.as_chunks::<2>().0)
                        .for_each(|(sum, pair)| join(sum, pair[0])),
                    step => sums
                        .iter_mut()
                        .zip(taps.iter().step_by(step))
                        .for_each(|(sum, &tap)| join(sum, tap)),
                }
            }
            for (c, (y, &sum)) in row.iter_mut().zip(&*sums).enumerate() {
                *y = (fold.finish)(sum, o * columns + c);
            }
        }
    }
}

pub(crate) fn global_average(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    global(inputs, mean, work)
}

/// Every position of a channel has an equal part of its gradient.
pub(crate) fn global_average_backward(
    back: &Back<'_>,
    work: &mut Workspace,
) -> Result<Gradients, OpError> {
    let (tensor, x) = back.inputs.typed::<f32>(0, "X")?;
    let grad = back.grad()?.1;
    let plane = x.len().checked_div(grad.len()).unwrap_or(0);
    back.first(|| {
        let mut out = work.pool.floats(tensor.shape())?;
        for (to, &grad) in out.chunks_exact_mut(plane.max(1)).zip(grad) {
            to.fill(grad / plane as f32);
        }
        Ok(Tensor::new(tensor.shape().clone(), out))
    })
}

pub(crate) fn global_max(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let largest = |plane: &[f32]| plane.iter().copied().fold(f32::LOWEST, Number::max);
    global(inputs, largest, work)
}

/// Each channel's gradient to its largest element, the first of several.
pub(crate) fn global_max_backward(
    back: &Back<'_>,
    work: &mut Workspace,
) -> Result<Gradients, OpError> {
    let (tensor, x) = back.inputs.typed::<f32>(0, "X")?;
    let grad = back.grad()?.1;
    let plane = x.len().checked_div(grad.len()).unwrap_or(0).max(1);
    let window: Vec<usize> = (0..plane).collect();
    back.first(|| {
        let mut out = work.pool.floats(tensor.shape())?;
        out.fill(0.0);
        for (i, (to, &grad)) in out.chunks_exact_mut(plane).zip(grad).enumerate() {
            largest_of(x)(grad, [0; 2], &window, i * plane, to);
        }
        Ok(Tensor::new(tensor.shape().clone(), out))
    })
}

/// One element from all positions of each channel.
fn global(
    inputs: &Inputs<'_>,
    of_plane: impl Fn(&[f32]) -> f32 + Sync,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let (tensor, x) = inputs.typed::<f32>(0, "X")?;
    if tensor.rank() < 3 {
        expect_rank(0, tensor, 4)?;
    }
    let mut dims = tensor.shape().to_vec();
    dims[2..].fill(1);
    let shape = Shape::new(dims);
    let mut out = work.pool.floats(&shape)?;
    let plane: usize = x.len().checked_div(out.len()).unwrap_or(0);
    share(work.parallel, &mut out, |first, part| {
        for (i, y) in part.iter_mut().enumerate() {
            let start = (first + i) * plane;
            *y = of_plane(&x[start..start + plane]);
        }
    });
    Ok(Tensor::new(shape, out))
}

#[cfg(test)]
mod tests;
