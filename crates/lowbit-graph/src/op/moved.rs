//! The way back through operators that move, repeat or leave out elements, whatever they are: the positions of the elements are
//! sent through the operator itself, and each part of the gradient goes to the position that arrives where it is.

use lowbit_tensor::Tensor;

use super::{Back, Gradients, Inputs, Op};
use crate::{OpError, Workspace};

/// A position that stands for none: what pads are made of.
const NOWHERE: i64 = -1;

/// The gradient of input 0 of `op`, which reads no element of it.
pub(crate) fn backward(
    op: &Op,
    back: &Back<'_>,
    work: &mut Workspace,
) -> Result<Gradients, OpError> {
    let data = back.inputs.required(0, "data")?;
    back.first(|| {
        let count = i64::try_from(data.len()).unwrap_or(i64::MAX);
        let positions = Tensor::new(data.shape().clone(), (0..count).collect::<Vec<i64>>());
        let nowhere = Tensor::scalar(NOWHERE);
        let mut inputs = back.inputs.0.to_vec();
        inputs[0] = Some(&positions);
        if let Op::Pad(_) = op {
            inputs.resize(inputs.len().max(3), None);
            inputs[2] = Some(&nowhere);
        }
        let arrived = op.forward(&Inputs(&inputs), work)?;
        let mut out = work.pool.floats(data.shape())?;
        out.fill(0.0);
        for (positions, grad) in arrived.iter().zip(back.grads) {
            let Some(grad) = grad else { continue };
            for (&at, &grad) in positions.as_slice::<i64>()?.iter().zip(grad.as_slice::<f32>()?) {
                if let Some(to) = usize::try_from(at).ok().and_then(|at| out.get_mut(at)) {
                    *to += grad;
                }
            }
        }
        Ok(Tensor::new(data.shape().clone(), out))
    })
}
