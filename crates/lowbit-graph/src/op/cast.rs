//! Conversion between element types.

use lowbit_tensor::{Buffer, DType, Element, Shape, Tensor};

use super::Inputs;
use super::dispatch::{Pooled, copy_as, remake, share};
use crate::{OpError, Workspace};

/// Target of a conversion.
///
/// Float to integer truncates towards zero and, where ONNX leaves the result open, saturates (NaN gives 0). Integer to
/// narrower integer keeps the low bits, as ONNX says. To bool: whether it differs from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// The new element type.
    pub to: lowbit_tensor::DType,
}

impl Cast {
    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let data = inputs.required(0, "input")?;
        if data.dtype() == self.to {
            return copy_as(data, data.shape().clone(), work);
        }
        let shape = data.shape();
        match data.buffer() {
            Buffer::F32(v) => self.floats_to(v, shape, work),
            Buffer::I64(v) => self.integers_to(v, shape, |x| x, work),
            Buffer::I32(v) => self.integers_to(v, shape, i64::from, work),
            Buffer::I16(v) => self.integers_to(v, shape, i64::from, work),
            Buffer::I8(v) => self.integers_to(v, shape, i64::from, work),
            Buffer::U16(v) => self.integers_to(v, shape, i64::from, work),
            Buffer::U8(v) => self.integers_to(v, shape, i64::from, work),
            Buffer::Bool(v) => self.integers_to(v, shape, i64::from, work),
        }
    }

    fn floats_to(&self, x: &[f32], shape: &Shape, work: &mut Workspace) -> Result<Tensor, OpError> {
        let to = self.to;
        match to {
            DType::F32 => map(to, x, shape, |x| x, work),
            DType::I64 => map(to, x, shape, |x| x as i64, work),
            DType::I32 => map(to, x, shape, |x| x as i32, work),
            DType::I16 => map(to, x, shape, |x| x as i16, work),
            DType::I8 => map(to, x, shape, |x| x as i8, work),
            DType::I4 => map(to, x, shape, |x| (x as i8).clamp(-8, 7), work),
            DType::I2 => map(to, x, shape, |x| (x as i8).clamp(-2, 1), work),
            DType::U16 => map(to, x, shape, |x| x as u16, work),
            DType::U8 => map(to, x, shape, |x| x as u8, work),
            DType::U4 => map(to, x, shape, |x| (x as u8).min(15), work),
            DType::U2 => map(to, x, shape, |x| (x as u8).min(3), work),
            DType::Bool => map(to, x, shape, |x| x != 0.0, work),
        }
    }

    fn integers_to<T: Element>(
        &self,
        x: &[T],
        shape: &Shape,
        wide: fn(T) -> i64,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let to = self.to;
        match to {
            DType::F32 => map(to, x, shape, |x| wide(x) as f32, work),
            DType::I64 => map(to, x, shape, wide, work),
            DType::I32 => map(to, x, shape, |x| wide(x) as i32, work),
            DType::I16 => map(to, x, shape, |x| wide(x) as i16, work),
            DType::I8 => map(to, x, shape, |x| wide(x) as i8, work),
            DType::I4 => map(to, x, shape, |x| signed_bits(wide(x), 4), work),
            DType::I2 => map(to, x, shape, |x| signed_bits(wide(x), 2), work),
            DType::U16 => map(to, x, shape, |x| wide(x) as u16, work),
            DType::U8 => map(to, x, shape, |x| wide(x) as u8, work),
            DType::U4 => map(to, x, shape, |x| (wide(x) & 15) as u8, work),
            DType::U2 => map(to, x, shape, |x| (wide(x) & 3) as u8, work),
            DType::Bool => map(to, x, shape, |x| wide(x) != 0, work),
        }
    }
}

/// The low `bits` of `x` in two's complement.
fn signed_bits(x: i64, bits: u32) -> i8 {
    let shift = i64::BITS - bits;
    ((x << shift) >> shift) as i8
}

fn map<A: Element, R: Pooled>(
    to: DType,
    x: &[A],
    shape: &Shape,
    f: impl Fn(A) -> R + Sync,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let mut out = R::take(&mut work.pool, shape)?;
    share(work.parallel, &mut out, |first, part| {
        for (y, &x) in part.iter_mut().zip(&x[first..]) {
            *y = f(x);
        }
    });
    remake(to, shape.clone(), out)
}

#[cfg(test)]
mod tests;
