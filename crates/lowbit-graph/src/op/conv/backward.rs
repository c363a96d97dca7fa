//! The way back through a convolution: to the image, the weight and the bias.

use std::borrow::Cow;

use lowbit_kernels::ConvGradient;
use lowbit_tensor::Tensor;

use crate::op::reduce::sum;
use crate::op::{Activation, Back, Conv, Gradients, pooled};
use crate::{OpError, Workspace};

impl Activation {
    /// The gradient before the activation: that behind it where the activation's result `y` is not one of its limits, else 0.
    pub(crate) fn backward<'g>(
        self,
        y: &[f32],
        grad: &'g [f32],
        work: &mut Workspace,
    ) -> Result<Cow<'g, [f32]>, OpError> {
        let (min, max) = match self {
            Activation::None => return Ok(Cow::Borrowed(grad)),
            Activation::Relu => (0.0, f32::INFINITY),
            Activation::Clip { min, max } => (min, max),
        };
        let mut out = work.pool.floats(&[grad.len()].into())?;
        for ((to, &grad), &y) in out.iter_mut().zip(grad).zip(y) {
            *to = if y > min && y < max { grad } else { 0.0 };
        }
        Ok(Cow::Owned(out))
    }
}

/// Takes back what [`Activation::backward`] made.
pub(crate) fn give(grad: Cow<'_, [f32]>, work: &mut Workspace) {
    if let Cow::Owned(grad) = grad {
        work.pool.give(Tensor::vector(grad));
    }
}

impl Conv {
    pub(crate) fn backward(
        &self,
        back: &Back<'_>,
        work: &mut Workspace,
    ) -> Result<Gradients, OpError> {
        let (x, values) = back.inputs.float(0, "X", 4)?;
        let (weight, weights) = back.inputs.float(1, "W", 4)?;
        let (geometry, _) = self.geometry(x, self.weight_shape(1, weight)?)?;
        let grad = self.activation.backward(back.output()?.1, back.grad()?.1, work)?;
        let gradient =
            ConvGradient { parallel: work.parallel, ..ConvGradient::new(x.shape()[0], &geometry) };
        let mut found = vec![None; 3];
        if back.wants(0) {
            let mut out = work.pool.floats(x.shape())?;
            gradient.input(&grad, weights, &mut out, &mut work.scratch);
            found[0] = Some(Tensor::new(x.shape().clone(), out));
        }
        if back.wants(1) {
            let mut out = work.pool.floats(weight.shape())?;
            gradient.weight(values, &grad, &mut out, &mut work.scratch);
            found[1] = Some(Tensor::new(weight.shape().clone(), out));
        }
        if back.wants(2) {
            let plane = geometry.output().iter().product();
            found[2] = Some(channel_sums(&grad, geometry.channels_out, plane, work)?);
        }
        give(grad, work);
        Ok(found)
    }
}

/// Per channel, the sum over all images and positions of [n, c, plane].
fn channel_sums(
    values: &[f32],
    channels: usize,
    plane: usize,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let mut sums = vec![0f64; channels];
    for (i, plane) in values.chunks_exact(plane.max(1)).enumerate() {
        sums[i % channels] += sum(plane);
    }
    pooled(&[channels].into(), sums.into_iter().map(|sum| sum as f32), work)
}
