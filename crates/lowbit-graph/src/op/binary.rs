//! Two operands, numpy broadcasting.

use std::borrow::Cow;

use lowbit_tensor::{Buffer, Shape, Tensor};

use super::arithmetic::{Number, with_numbers};
use super::dispatch::{Pooled, same_type, with_values, wrong_type};
use super::reduce::sum_to;
use super::strided::{Walk, broadcast, zip, zip3};
use super::{Back, Gradients, Inputs};
use crate::{OpError, Workspace};

/// Which function of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// a + b.
    Add,
    /// a - b.
    Sub,
    /// a · b.
    Mul,
    /// a / b.
    Div,
    /// a to the power b.
    Pow,
    /// The smaller (ONNX allows many operands: importers chain them).
    Min,
    /// The larger.
    Max,
    /// Whether a equals b.
    Equal,
    /// Whether a > b.
    Greater,
    /// Whether a >= b.
    GreaterOrEqual,
    /// Whether a < b.
    Less,
    /// Whether a <= b.
    LessOrEqual,
}

impl Binary {
    /// The operator's ONNX name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Binary::Add => "Add",
            Binary::Sub => "Sub",
            Binary::Mul => "Mul",
            Binary::Div => "Div",
            Binary::Pow => "Pow",
            Binary::Min => "Min",
            Binary::Max => "Max",
            Binary::Equal => "Equal",
            Binary::Greater => "Greater",
            Binary::GreaterOrEqual => "GreaterOrEqual",
            Binary::Less => "Less",
            Binary::LessOrEqual => "LessOrEqual",
        }
    }

    /// Whether the result is true or false.
    #[must_use]
    pub fn is_comparison(self) -> bool {
        matches!(self, Binary::Equal) || self.is_order()
    }

    fn is_order(self) -> bool {
        matches!(
            self,
            Binary::Greater | Binary::GreaterOrEqual | Binary::Less | Binary::LessOrEqual
        )
    }

    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let pair = Pair::new(inputs)?;
        match self {
            Binary::Equal => equal(&pair, work),
            Binary::Pow => pow(&pair, work),
            _ if self.is_order() => {
                with_numbers!(pair.a, a => self.order(&pair, a, work), else {
                    Err(wrong_type(0, pair.a, NUMBERS))
                })
            }
            _ => with_numbers!(pair.a, a => self.arithmetic(&pair, a, work), else {
                Err(wrong_type(0, pair.a, NUMBERS))
            }),
        }
    }

    fn arithmetic<T: Number>(
        self,
        pair: &Pair<'_>,
        a: &[T],
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let b = same_type::<T>(1, pair.b, pair.a)?;
        match self {
            Binary::Add => pair.map(a, b, T::add, work),
            Binary::Sub => pair.map(a, b, T::sub, work),
            Binary::Mul => pair.map(a, b, T::mul, work),
            Binary::Div if b.iter().any(|b| b.is_integer_zero()) => Err(OpError::Input {
                index: 1,
                found: "an integer 0".into(),
                expected: "divisors other than 0".into(),
            }),
            Binary::Div => pair.map(a, b, T::div, work),
            Binary::Min => pair.map(a, b, T::min, work),
            Binary::Max => pair.map(a, b, T::max, work),
            _ => self.not_on_one_type("arithmetic"),
        }
    }

    /// Comparisons with NaN are false.
    fn order<T: Number>(
        self,
        pair: &Pair<'_>,
        a: &[T],
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let b = same_type::<T>(1, pair.b, pair.a)?;
        match self {
            Binary::Greater => pair.map(a, b, |a, b| a > b, work),
            Binary::GreaterOrEqual => pair.map(a, b, |a, b| a >= b, work),
            Binary::Less => pair.map(a, b, |a, b| a < b, work),
            Binary::LessOrEqual => pair.map(a, b, |a, b| a <= b, work),
            _ => self.not_on_one_type("a comparison"),
        }
    }

    fn not_on_one_type(self, what: &str) -> Result<Tensor, OpError> {
        Err(OpError::Invalid(format!("{} is not {what} on one type", self.name())))
    }
}

const NUMBERS: &str = "float32 or an integer type of 8 bits or more";

impl Binary {
    /// The gradient times the slope along each operand, summed over the axes that operand was repeated along. Where Min or Max
    /// has two equal operands, each has half; integers have no gradient.
    pub(crate) fn backward(
        &self,
        back: &Back<'_>,
        work: &mut Workspace,
    ) -> Result<Gradients, OpError> {
        match self {
            Binary::Add => slopes(back, |_, _| 1.0, |_, _| 1.0, work),
            Binary::Sub => slopes(back, |_, _| 1.0, |_, _| -1.0, work),
            Binary::Mul => slopes(back, |_, b| b, |a, _| a, work),
            Binary::Div => slopes(back, |_, b| 1.0 / b, |a, b| -a / (b * b), work),
            Binary::Min => slopes(back, |a, b| above(b, a), above, work),
            Binary::Max => slopes(back, above, |a, b| above(b, a), work),
            Binary::Pow => slopes(back, slope_of_base, slope_of_exponent, work),
            Binary::Equal
            | Binary::Greater
            | Binary::GreaterOrEqual
            | Binary::Less
            | Binary::LessOrEqual => Err(OpError::NoGradient),
        }
    }
}

/// 1 where x lies above y, 1/2 where they are equal, else 0.
fn above(x: f32, y: f32) -> f32 {
    f32::from(u8::from(x > y)) + 0.5 * f32::from(u8::from(x == y))
}

fn slope_of_base(base: f32, exponent: f32) -> f32 {
    if exponent == 0.0 { 0.0 } else { exponent * base.powf(exponent - 1.0) }
}

/// A power of a base that is not positive is defined at single exponents only: 0 there.
fn slope_of_exponent(base: f32, exponent: f32) -> f32 {
    if base > 0.0 { base.powf(exponent) * base.ln() } else { 0.0 }
}

/// The gradients of both operands, given the slopes along them.
pub(crate) fn slopes(
    back: &Back<'_>,
    of_a: impl Fn(f32, f32) -> f32 + Sync,
    of_b: impl Fn(f32, f32) -> f32 + Sync,
    work: &mut Workspace,
) -> Result<Gradients, OpError> {
    let pair = Pair::new(back.inputs)?;
    let (a, b) = (floats(0, pair.a)?, floats(1, pair.b)?);
    let given = (back.grad()?.1, &*a, &*b);
    let mut found = vec![None; 2];
    if back.wants(0) {
        let full = pair.slope(given, of_a, work)?;
        found[0] = Some(pair.folded(full, pair.a.shape(), work)?);
    }
    if back.wants(1) {
        let full = pair.slope(given, of_b, work)?;
        found[1] = Some(pair.folded(full, pair.b.shape(), work)?);
    }
    Ok(found)
}

/// The elements as floats; only the exponent of a power may be of another type.
fn floats(index: usize, tensor: &Tensor) -> Result<Cow<'_, [f32]>, OpError> {
    match (tensor.buffer(), index) {
        (Buffer::F32(values), _) => Ok(Cow::Borrowed(values)),
        (_, 1) => Ok(tensor.to_f64().into_iter().map(|x| x as f32).collect()),
        _ => Err(OpError::NoGradient),
    }
}

/// Two operands and the shape both broadcast to.
struct Pair<'a> {
    a: &'a Tensor,
    b: &'a Tensor,
    shape: Shape,
}

impl<'a> Pair<'a> {
    /// grad · slope(a, b), elementwise.
    fn slope(
        &self,
        (grad, a, b): (&[f32], &[f32], &[f32]),
        slope: impl Fn(f32, f32) -> f32 + Sync,
        work: &mut Workspace,
    ) -> Result<Vec<f32>, OpError> {
        let mut full = work.pool.floats(&self.shape)?;
        let walk = Walk::broadcast(&self.shape, [&self.shape, self.a.shape(), self.b.shape()]);
        zip3(&walk, (grad, a, b), work.parallel, &mut full, |g, a, b| g * slope(a, b));
        Ok(full)
    }

    /// Sums over the axes along which an operand of shape `own` was repeated.
    fn folded(&self, full: Vec<f32>, own: &Shape, work: &mut Workspace) -> Result<Tensor, OpError> {
        if *own == self.shape {
            return Ok(Tensor::new(own.clone(), full));
        }
        let sum = sum_to(&full, &self.shape, own, work)?;
        work.pool.give(Tensor::vector(full));
        Ok(sum)
    }

    fn new(inputs: &Inputs<'a>) -> Result<Self, OpError> {
        let a = inputs.required(0, "A")?;
        let b = inputs.required(1, "B")?;
        let shape = broadcast(1, b.shape(), a.shape())?;
        Ok(Pair { a, b, shape })
    }

    fn map<A: Pooled, B: Pooled, R: Pooled>(
        &self,
        a: &[A],
        b: &[B],
        f: impl Fn(A, B) -> R + Sync,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        let mut out = R::take(&mut work.pool, &self.shape)?;
        let walk = Walk::broadcast(&self.shape, [self.a.shape(), self.b.shape()]);
        zip(&walk, (a, b), work.parallel, &mut out, f);
        Ok(Tensor::new(self.shape.clone(), out))
    }
}

fn equal(pair: &Pair<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    with_values!(pair.a, a => {
        let b = same_type(1, pair.b, pair.a)?;
        pair.map(a, b, |x, y| x == y, work)
    })
}

/// The result has the base's type. Exponents 2 and 3, by far the most common, are products and so exactly rounded.
fn pow(pair: &Pair<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    match pair.a.buffer() {
        Buffer::F32(base) => pow_float(pair, base, work),
        Buffer::I64(base) => pow_integer(pair, base, work),
        Buffer::I32(base) => pow_integer(pair, base, work),
        Buffer::I16(_) | Buffer::I8(_) | Buffer::U16(_) | Buffer::U8(_) | Buffer::Bool(_) => {
            Err(wrong_type(0, pair.a, "float32, int64 or int32"))
        }
    }
}

fn pow_float(pair: &Pair<'_>, base: &[f32], work: &mut Workspace) -> Result<Tensor, OpError> {
    let Buffer::F32(exponent) = pair.b.buffer() else {
        // f64 holds every int32, so that odd exponents stay odd.
        let power = |x: f32, e: i64| f64::from(x).powf(e as f64) as f32;
        return pair.map(base, &integers(pair)?, power, work);
    };
    match exponent.as_slice() {
        [2.0] => pair.map(base, exponent, |x, _| x * x, work),
        [3.0] => pair.map(base, exponent, |x, _| x * x * x, work),
        _ => pair.map(base, exponent, f32::powf, work),
    }
}

fn integers(pair: &Pair<'_>) -> Result<Vec<i64>, OpError> {
    pair.b
        .to_i64()
        .filter(|_| pair.b.dtype() != lowbit_tensor::DType::Bool)
        .ok_or_else(|| wrong_type(1, pair.b, "a number type"))
}

/// An integer base: through f64 for a float exponent, exactly (wrapping) for an integer one.
fn pow_integer<T: Whole>(
    pair: &Pair<'_>,
    base: &[T],
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    if let Buffer::F32(exponent) = pair.b.buffer() {
        return pair.map(base, exponent, T::powf, work);
    }
    let exponent = integers(pair)?;
    let exponent: Vec<i64> = match exponent.iter().find(|&&e| e < 0) {
        None => exponent,
        Some(e) => {
            return Err(OpError::Input {
                index: 1,
                found: format!("exponent {e} of an integer"),
                expected: "exponents from 0 on".into(),
            });
        }
    };
    pair.map(base, &exponent, T::pow, work)
}

/// An integer that is raised to powers.
trait Whole: Number {
    fn powf(self, exponent: f32) -> Self;
    fn one() -> Self;

    /// By squaring.
    fn pow(self, mut exponent: i64) -> Self {
        let (mut square, mut product) = (self, Self::one());
        while exponent > 0 {
            if exponent & 1 == 1 {
                product = Self::mul(product, square);
            }
            square = Self::mul(square, square);
            exponent >>= 1;
        }
        product
    }
}

impl Whole for i64 {
    fn powf(self, exponent: f32) -> i64 {
        (self as f64).powf(f64::from(exponent)) as i64
    }
    fn one() -> i64 {
        1
    }
}

impl Whole for i32 {
    fn powf(self, exponent: f32) -> i32 {
        f64::from(self).powf(f64::from(exponent)) as i32
    }
    fn one() -> i32 {
        1
    }
}

#[cfg(test)]
mod tests;
