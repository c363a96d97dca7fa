//! Integer pooling, with the arithmetic of onnxruntime 1.31's CPU operators.

use lowbit_tensor::{Shape, Tensor};

use super::qparams::{Code, QParam, by_code_type, dims4};
use super::{Inputs, Pool2d};
use crate::{OpError, Workspace};

/// `rint(f32(sum - n·z_x) · f32(s_x / f32(s_y·n))) + z_y`.
pub(crate) fn global_average(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    by_code_type!(inputs, 0, global_average_of(inputs, work))
}

#[expect(clippy::cast_precision_loss, reason = "the arithmetic that onnxruntime does")]
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "planes are small")]
fn global_average_of<T: Code>(
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let (x, codes) = inputs.typed::<T>(0, "x")?;
    let (from, to) = (QParam::read::<T>(inputs, 1)?, QParam::read::<T>(inputs, 3)?);
    let [n, c, h, w] = dims4(0, x)?;
    let count = h * w;
    if count == 0 {
        return Err(OpError::Invalid(format!("mean over no elements: input {}", x.shape())));
    }
    let multiplier = from.scale / (to.scale * count as f32);
    let shape = Shape::from([n, c, 1, 1]);
    let mut out = T::buffer(work, &shape)?;
    for (y, plane) in out.iter_mut().zip(codes.chunks_exact(count)) {
        let sum: i32 = plane.iter().map(|&code| code.into()).sum();
        let centered = (sum - count as i32 * from.zero_point) as f32;
        *y = T::saturate((centered * multiplier).round_ties_even() + to.zero());
    }
    Ok(Tensor::new(shape, out))
}

/// The mean of the dequantized window, summed in f32 in row order, then `rint(mean / s_y + z_y)`.
pub(crate) fn average(
    pool: &Pool2d,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    by_code_type!(inputs, 0, average_of(pool, inputs, work))
}

#[expect(clippy::cast_precision_loss, reason = "the arithmetic that onnxruntime does")]
fn average_of<T: Code>(
    pool: &Pool2d,
    inputs: &Inputs<'_>,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let (x, codes) = inputs.typed::<T>(0, "x")?;
    let (from, to) = (QParam::read::<T>(inputs, 1)?, QParam::read::<T>(inputs, 3)?);
    let [n, c, h, w] = dims4(0, x)?;
    let window = pool.window([h, w])?;
    let [oh, ow] = window.output;
    let shape = Shape::from([n, c, oh, ow]);
    let mut out = T::buffer(work, &shape)?;
    // Rows (or columns) of one window that lie inside the input: first, one past the last by dilation, and the count of
    // those that count in the mean.
    let taps = |axis: usize, at: usize, extent: usize| {
        let inside = move |k: usize| {
            let position = at * pool.strides[axis] + k * pool.dilations[axis];
            position.checked_sub(window.pads[axis]).filter(|&p| p < extent)
        };
        let limit = extent + window.pads[axis] + window.pads[axis + 2];
        let padded = move |&k: &usize| at * pool.strides[axis] + k * pool.dilations[axis] < limit;
        let positions: Vec<usize> = (0..pool.kernel[axis]).filter_map(inside).collect();
        let counted = if pool.count_include_pad {
            (0..pool.kernel[axis]).filter(padded).count()
        } else {
            positions.len()
        };
        (positions, counted)
    };
    let rows: Vec<_> = (0..oh).map(|y| taps(0, y, h)).collect();
    let columns: Vec<_> = (0..ow).map(|x| taps(1, x, w)).collect();
    for (i, y) in out.iter_mut().enumerate() {
        let plane = &codes[i / (oh * ow) * h * w..];
        let (ys, count_y) = &rows[i / ow % oh];
        let (xs, count_x) = &columns[i % ow];
        let mut sum = 0.0f32;
        for row in ys {
            for column in xs {
                sum += from.value(plane[row * w + column].into());
            }
        }
        let mean = sum / (count_y * count_x) as f32;
        *y = T::saturate((mean / to.scale + to.zero()).round_ties_even());
    }
    Ok(Tensor::new(shape, out))
}

#[cfg(test)]
mod tests;
