//! Elementwise choice.

use lowbit_tensor::Tensor;

use super::dispatch::{Pooled, remake, same_type, with_values};
use super::reduce::sum_to;
use super::strided::{Walk, broadcast, zip, zip3};
use super::{Back, Gradients, Inputs};
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

/// Each operand's gradient where it was chosen, summed over the axes it was repeated along.
pub(crate) fn backward(back: &Back<'_>, work: &mut Workspace) -> Result<Gradients, OpError> {
    let (condition, chosen) = back.inputs.typed::<bool>(0, "condition")?;
    let (tensor, grad) = back.grad()?;
    let shape = tensor.shape();
    let walk = Walk::broadcast(shape, [shape, condition.shape()]);
    let mut found = vec![None; 3];
    for (index, when) in [(1, true), (2, false)] {
        if back.wants(index) {
            let mut full = work.pool.floats(shape)?;
            let pick = |g: f32, c: bool| if c == when { g } else { 0.0 };
            zip(&walk, (grad, chosen), work.parallel, &mut full, pick);
            let operand = back.inputs.required(index, "X or Y")?;
            found[index] = Some(sum_to(&full, shape, operand.shape(), work)?);
            work.pool.give(Tensor::vector(full));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
