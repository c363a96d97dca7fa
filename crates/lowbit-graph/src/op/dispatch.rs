//! What every operator over many element types needs: one match over the types, result buffers from the pool, and a
//! way to share elementwise work among threads. Knows no operator.

use lowbit_kernels::Parallel;
use lowbit_tensor::{Buffer, DType, Element, Shape, Tensor};
use rayon::prelude::*;

use crate::{OpError, Pool, Workspace};

/// Evaluates `$body` with `$values` bound to the buffer's vector, whatever its type.
macro_rules! with_values {
    ($tensor:expr, $values:ident => $body:expr) => {
        match $tensor.buffer() {
            lowbit_tensor::Buffer::F32($values) => $body,
            lowbit_tensor::Buffer::I64($values) => $body,
            lowbit_tensor::Buffer::I32($values) => $body,
            lowbit_tensor::Buffer::I16($values) => $body,
            lowbit_tensor::Buffer::I8($values) => $body,
            lowbit_tensor::Buffer::U16($values) => $body,
            lowbit_tensor::Buffer::U8($values) => $body,
            lowbit_tensor::Buffer::Bool($values) => $body,
        }
    };
}
pub(crate) use with_values;

/// Elements from which sharing pays, and the share of one task.
const SHARE_FROM: usize = 1 << 16;
const TASK_LEN: usize = 1 << 14;

/// A type whose result buffers the pool may hand out.
pub(crate) trait Pooled: Element {
    /// A buffer for `shape`; its contents are arbitrary.
    ///
    /// # Errors
    /// `TooLarge` beyond the session's limit.
    fn take(pool: &mut Pool, shape: &Shape) -> Result<Vec<Self>, OpError> {
        let len = pool.check(shape)?;
        Ok(vec![Self::default(); len])
    }
}

impl Pooled for f32 {
    fn take(pool: &mut Pool, shape: &Shape) -> Result<Vec<Self>, OpError> {
        pool.floats(shape)
    }
}
impl Pooled for u8 {
    fn take(pool: &mut Pool, shape: &Shape) -> Result<Vec<Self>, OpError> {
        pool.codes(shape)
    }
}
impl Pooled for i32 {
    fn take(pool: &mut Pool, shape: &Shape) -> Result<Vec<Self>, OpError> {
        pool.sums(shape)
    }
}
impl Pooled for i64 {}
impl Pooled for i16 {}
impl Pooled for i8 {}
impl Pooled for u16 {}
impl Pooled for bool {}

/// The elements of `tensor` as the type of `like`, which chose the type.
///
/// # Errors
/// `Input` when operand `index` is of another element type than operand 0.
pub(crate) fn same_type<'a, T: Element>(
    index: usize,
    tensor: &'a Tensor,
    like: &Tensor,
) -> Result<&'a [T], OpError> {
    expect_dtype(index, tensor, like.dtype())?;
    Ok(tensor.as_slice::<T>()?)
}

/// Refuses a tensor of another element type.
///
/// # Errors
/// `Input` naming both types.
pub(crate) fn expect_dtype(index: usize, tensor: &Tensor, expected: DType) -> Result<(), OpError> {
    if tensor.dtype() == expected {
        return Ok(());
    }
    Err(OpError::Input { index, found: tensor.dtype().to_string(), expected: expected.to_string() })
}

/// A result of the element type that the operand had: a 4-bit operand gives a 4-bit result.
///
/// # Errors
/// `Tensor` when the values do not fit the shape or type.
pub(crate) fn remake<T: Element>(
    dtype: DType,
    shape: Shape,
    values: Vec<T>,
) -> Result<Tensor, OpError> {
    Ok(Tensor::try_new(dtype, shape, T::into_buffer(values))?)
}

/// The elements of `tensor` under another shape of as many elements.
///
/// # Errors
/// `Tensor` when the shape has another number of elements, `TooLarge` beyond the session's limit.
pub(crate) fn copy_as(
    tensor: &Tensor,
    shape: Shape,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    with_values!(tensor, values => {
        let mut out = Pooled::take(&mut work.pool, tensor.shape())?;
        out.copy_from_slice(values);
        remake(tensor.dtype(), shape, out)
    })
}

/// The one element of an optional operand.
///
/// # Errors
/// `Input` when it has another type than `like` or not one element.
pub(crate) fn one_of<T: Element>(
    index: usize,
    tensor: Option<&Tensor>,
    like: &Tensor,
) -> Result<Option<T>, OpError> {
    let Some(tensor) = tensor else {
        return Ok(None);
    };
    match same_type::<T>(index, tensor, like)? {
        [value] => Ok(Some(*value)),
        _ => Err(OpError::Input {
            index,
            found: format!("shape {}", tensor.shape()),
            expected: "one element".into(),
        }),
    }
}

/// Refuses an element type an operator is not defined for.
pub(crate) fn wrong_type(index: usize, tensor: &Tensor, expected: &str) -> OpError {
    OpError::Input { index, found: tensor.dtype().to_string(), expected: expected.into() }
}

/// True when the buffer's own type is the tensor's: false for the 4- and 2-bit types, whose range arithmetic would leave.
pub(crate) fn is_plain(tensor: &Tensor) -> bool {
    Buffer::dtype(tensor.buffer()) == tensor.dtype()
}

/// Calls `fill(first, part)` on parts of `out` that cover it, `first` being the part's first position in `out`.
pub(crate) fn share<T: Send>(
    parallel: Parallel,
    out: &mut [T],
    fill: impl Fn(usize, &mut [T]) + Sync,
) {
    share_rows(parallel, out, 1, fill);
}

/// As [`share`], with parts that are whole rows of `row` elements.
pub(crate) fn share_rows<T: Send>(
    parallel: Parallel,
    out: &mut [T],
    row: usize,
    fill: impl Fn(usize, &mut [T]) + Sync,
) {
    if out.is_empty() {
        return;
    }
    if parallel == Parallel::Serial || out.len() < SHARE_FROM {
        fill(0, out);
        return;
    }
    let part = TASK_LEN.div_ceil(row) * row;
    out.par_chunks_mut(part).enumerate().for_each(|(i, chunk)| fill(i * part, chunk));
}

#[cfg(test)]
pub(crate) mod testing;
