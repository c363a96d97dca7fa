//! Elementwise choice.

use lowbit_tensor::Tensor;

use super::Inputs;
use super::dispatch::{Pooled, remake, same_type, share, with_values};
use super::strided::{Walk, broadcast};
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
        choose(&walk, (chosen, values, others), work.parallel, &mut out);
        remake(then.dtype(), shape, out)
    })
}

fn choose<T: Copy + Send + Sync>(
    walk: &Walk<3>,
    (condition, then, otherwise): (&[bool], &[T], &[T]),
    parallel: lowbit_kernels::Parallel,
    out: &mut [T],
) {
    let [s, t, u] = walk.inner_strides().map(isize::cast_unsigned);
    share(parallel, out, |first, part| {
        walk.rows(first, part, |row, [i, j, k]| {
            for (c, r) in row.iter_mut().enumerate() {
                *r = if condition[i + c * s] { then[j + c * t] } else { otherwise[k + c * u] };
            }
        });
    });
}

#[cfg(test)]
mod tests;
