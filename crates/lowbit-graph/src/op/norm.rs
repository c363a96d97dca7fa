//! Normalization with known statistics, and over the last axes.

use lowbit_tensor::{Shape, Tensor};

use super::dispatch::share_rows;
use super::inputs::resolve_axis;
use super::reduce::{sum, sum_to};
use super::strided::{Walk, copy, expect_broadcast_to};
use super::{Back, Gradients, Inputs, pooled};
use crate::{OpError, Workspace};

/// Inference form: y = scale · (x - mean) / sqrt(variance + epsilon) + bias, per channel (axis 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub epsilon: f32,
}

/// y = scale · (x - mean(x)) / sqrt(var(x) + epsilon) + bias over the axes from `axis` on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// First normalized axis; negative counts from the end.
    pub axis: i64,
    /// Added to the variance.
    pub epsilon: f32,
}

impl BatchNorm {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let (tensor, x) = inputs.typed::<f32>(0, "X")?;
        let dims = tensor.shape();
        let Some(&channels) = dims.get(1) else {
            return Err(OpError::Input {
                index: 0,
                found: format!("shape {dims}"),
                expected: "rank 2 or more [n, c, ..]".into(),
            });
        };
        let statistics = Statistics::read(inputs, channels)?;
        let (slopes, offsets) = statistics.affine(self.epsilon);
        let mut out = work.pool.floats(dims)?;
        if !out.is_empty() {
            let plane: usize = dims[2..].iter().product();
            share_rows(work.parallel, &mut out, plane, |first, part| {
                let planes = part.chunks_exact_mut(plane).zip(x[first..].chunks_exact(plane));
                for (i, (y, x)) in planes.enumerate() {
                    let channel = (first / plane + i) % channels;
                    affine(x, slopes[channel], offsets[channel], y);
                }
            });
        }
        Ok(Tensor::new(dims.clone(), out))
    }
}

impl BatchNorm {
    /// With i = 1 / sqrt(variance + epsilon), per channel a = Σ g and b = Σ g · (x - mean): g · scale · i to x, b · i to scale, a to
    /// bias, -a · scale · i to mean, -b · scale · i³ / 2 to variance.
    pub(crate) fn backward(
        &self,
        back: &Back<'_>,
        work: &mut Workspace,
    ) -> Result<Gradients, OpError> {
        let (tensor, x) = back.inputs.typed::<f32>(0, "X")?;
        let dims = tensor.shape();
        let channels = dims.get(1).copied().unwrap_or(0);
        let statistics = Statistics::read(back.inputs, channels)?;
        let grad = back.grad()?.1;
        let plane = dims.iter().skip(2).product::<usize>().max(1);
        let (slopes, _) = statistics.affine(self.epsilon);
        let mut of_x = work.pool.floats(dims)?;
        let mut sums = vec![[0f64; 2]; channels];
        let planes = x.chunks_exact(plane).zip(grad.chunks_exact(plane));
        for (i, ((x, grad), to)) in planes.zip(of_x.chunks_exact_mut(plane)).enumerate() {
            let channel = i % channels;
            if (1..5).any(|input| back.wants(input)) {
                let mean = statistics.mean[channel];
                to.iter_mut().zip(x).zip(grad).for_each(|((to, x), g)| *to = g * (x - mean));
                sums[channel][0] += sum(grad);
                sums[channel][1] += sum(to);
            }
            affine(grad, slopes[channel], 0.0, to);
        }
        let shape = Shape::from([channels]);
        let mut per_channel = |index: usize, of: &dyn Fn(usize, f32, f32) -> f32| {
            let one = |(c, s): (usize, &[f64; 2])| of(c, s[0] as f32, s[1] as f32);
            let found = || pooled(&shape, sums.iter().enumerate().map(one), work);
            back.wants(index).then(found).transpose()
        };
        let inverse = |c: usize| 1.0 / (statistics.variance[c] + self.epsilon).sqrt();
        Ok(vec![
            back.wants(0).then(|| Tensor::new(dims.clone(), of_x)),
            per_channel(1, &|c, _, b| b * inverse(c))?,
            per_channel(2, &|_, a, _| a)?,
            per_channel(3, &|c, a, _| -a * slopes[c])?,
            per_channel(4, &|c, _, b| -0.5 * b * slopes[c] * inverse(c) * inverse(c))?,
        ])
    }
}

/// One value per channel each.
struct Statistics<'a> {
    scale: &'a [f32],
    bias: &'a [f32],
    mean: &'a [f32],
    variance: &'a [f32],
}

impl<'a> Statistics<'a> {
    fn read(inputs: &Inputs<'a>, channels: usize) -> Result<Self, OpError> {
        let vector = |index, name| {
            let (tensor, values) = inputs.float(index, name, 1)?;
            if values.len() == channels {
                return Ok(values);
            }
            Err(OpError::Input {
                index,
                found: format!("{name} of shape {}", tensor.shape()),
                expected: format!("[{channels}], one value per channel"),
            })
        };
        Ok(Statistics {
            scale: vector(1, "scale")?,
            bias: vector(2, "B")?,
            mean: vector(3, "input_mean")?,
            variance: vector(4, "input_var")?,
        })
    }

    /// slope = scale · (1 / sqrt(variance + epsilon)), offset = bias - mean · slope, each operation rounded: bit for bit
    /// what onnxruntime 1.31 computes.
    fn affine(&self, epsilon: f32) -> (Vec<f32>, Vec<f32>) {
        let slope = |(scale, variance): (&f32, &f32)| scale * (1.0 / (variance + epsilon).sqrt());
        let slopes: Vec<f32> = self.scale.iter().zip(self.variance).map(slope).collect();
        let offsets = (0..slopes.len()).map(|c| self.bias[c] - self.mean[c] * slopes[c]).collect();
        (slopes, offsets)
    }
}

/// y = slope · x + offset.
fn affine(x: &[f32], slope: f32, offset: f32, y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = slope * x + offset;
    }
}

impl LayerNorm {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let (tensor, x) = inputs.typed::<f32>(0, "X")?;
        let dims = tensor.shape();
        let axis = resolve_axis(self.axis, dims.len())?;
        let mut out = work.pool.floats(dims)?;
        let normalized = Shape::from(&dims[axis..]);
        inputs.required(1, "Scale")?;
        let scale = spread(inputs, 1, &normalized, work)?.unwrap_or_default();
        let bias = spread(inputs, 2, &normalized, work)?.unwrap_or_else(|| vec![0.0; scale.len()]);
        if !out.is_empty() {
            let row = scale.len();
            share_rows(work.parallel, &mut out, row, |first, part| {
                for (y, x) in part.chunks_exact_mut(row).zip(x[first..].chunks_exact(row)) {
                    self.normalize(x, &scale, &bias, y);
                }
            });
        }
        Ok(Tensor::new(dims.clone(), out))
    }

    /// Two passes, so that a large mean does not cancel the variance; both sums are in f64. Returns 1 / sqrt(var + epsilon).
    fn normalize(&self, x: &[f32], scale: &[f32], bias: &[f32], y: &mut [f32]) -> f32 {
        let count = x.len() as f64;
        let mean = (sum(x) / count) as f32;
        for (y, x) in y.iter_mut().zip(x) {
            *y = (x - mean) * (x - mean);
        }
        let variance = (sum(y) / count) as f32;
        let inverse = 1.0 / (variance + self.epsilon).sqrt();
        for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
            *y = (x - mean) * inverse * scale[i] + bias[i];
        }
        inverse
    }
}

impl LayerNorm {
    /// Per row, with t = (x - mean) · i, i = 1 / sqrt(var + epsilon) and u = g · scale: i · (u - mean(u) - t · mean(u · t)) to x;
    /// over all rows, Σ g · t to scale and Σ g to bias.
    pub(crate) fn backward(
        &self,
        back: &Back<'_>,
        work: &mut Workspace,
    ) -> Result<Gradients, OpError> {
        let (tensor, x) = back.inputs.typed::<f32>(0, "X")?;
        let dims = tensor.shape();
        let normalized = Shape::from(&dims[resolve_axis(self.axis, dims.len())?..]);
        back.inputs.required(1, "Scale")?;
        let scale = spread(back.inputs, 1, &normalized, work)?.unwrap_or_default();
        let (zeros, ones) = (vec![0.0; scale.len()], vec![1.0; scale.len()]);
        let mut of_x = work.pool.floats(dims)?;
        let (mut of_scale, mut of_bias) = (zeros.clone(), zeros.clone());
        let (mut unit, mut weighted) = (zeros.clone(), zeros.clone());
        let row = scale.len().max(1);
        let rows = x.chunks_exact(row).zip(back.grad()?.1.chunks_exact(row));
        for ((x, grad), to) in rows.zip(of_x.chunks_exact_mut(row)) {
            let inverse = self.normalize(x, &ones, &zeros, &mut unit);
            for i in 0..row {
                of_bias[i] += grad[i];
                of_scale[i] += grad[i] * unit[i];
                weighted[i] = grad[i] * scale[i];
                to[i] = weighted[i] * unit[i];
            }
            let [level, slope] = [sum(&weighted), sum(to)].map(|s| (s / row as f64) as f32);
            for i in 0..row {
                to[i] = inverse * (weighted[i] - level - unit[i] * slope);
            }
        }
        let mut found = vec![back.wants(0).then(|| Tensor::new(dims.clone(), of_x)), None, None];
        for (index, sums) in [(1, of_scale), (2, of_bias)] {
            if let Some(operand) = back.inputs.optional(index).filter(|_| back.wants(index)) {
                found[index] = Some(sum_to(&sums, &normalized, operand.shape(), work)?);
            }
        }
        Ok(found)
    }
}

/// The float operand at `index` broadcast to `shape`, if given.
fn spread(
    inputs: &Inputs<'_>,
    index: usize,
    shape: &Shape,
    work: &mut Workspace,
) -> Result<Option<Vec<f32>>, OpError> {
    if inputs.optional(index).is_none() {
        return Ok(None);
    }
    let (tensor, values) = inputs.typed::<f32>(index, "Scale or B")?;
    expect_broadcast_to(index, tensor.shape(), shape)?;
    work.pool.check(shape)?;
    let mut out = vec![0.0; shape.numel()];
    copy(&Walk::broadcast(shape, [tensor.shape()]), values, &mut out);
    Ok(Some(out))
}

#[cfg(test)]
mod tests;
