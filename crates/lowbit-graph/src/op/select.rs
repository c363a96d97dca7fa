//! Elementwise choice.

use lowbit_tensor::Tensor;

use super::Inputs;
use super::dispatch::{Pooled, remake, same_type, with_values};
use super::strided::{Walk, broadcast, zip3};
use crate::{OpError, Workspace};

pub(crate) fn forward(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let (condition, chosen) = inputs.typed::<bool>(0, "condition")?;
    let then = inputs.required(1, "X")?;
    let otherwise = inputs.required(2, "Y")?;
    let shape = broadcast(2, otherwise.shape(), &broadcast(1, then.shape(), condition.shape())?)?;
    with_values!(then, values => {
        let others = same_type(2, otherwise, then)?;
        let mut out = Pooled::take(&mut work.pool, &shape)?;
        let walk = Walk::broadcast(&shape, [condition.shape(), then.shape(), otherwise.shape()]);
        zip3(&walk, (chosen, values, others), work.parallel, &mut out, |c, x, y| if c { x } else { y });
        remake(then.dtype(), shape, out)
    })
}

#[cfg(test)]
mod tests;
