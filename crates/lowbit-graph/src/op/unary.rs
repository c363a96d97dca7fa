//! One float in, one float out.

use lowbit_tensor::Tensor;

use super::arithmetic::{Number, with_numbers};
use super::binary::slopes;
use super::dispatch::{Pooled, one_of, same_type, share, wrong_type};
use super::strided::{Walk, expect_broadcast_to, zip};
use super::{Back, Gradients, Inputs, pooled};
use crate::{OpError, Workspace};

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// max(x, 0).
    Relu,
    /// x for x >= 0, else alpha · x.
    LeakyRelu {
        /// Slope of the negative side.
        alpha: f32,
    },
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// clamp(alpha · x + beta, 0, 1).
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// x · clamp(x / 6 + 0.5, 0, 1).
    HardSwish,
    /// x · sigmoid(x). ONNX has no such operator: written back as Sigmoid and Mul.
    Silu,
    /// x · Φ(x), exactly (erf).
    Gelu,
    /// x · Φ(x) by the tanh formula.
    GeluTanh,
    /// Error function.
    Erf,
    /// Square root.
    Sqrt,
    /// e to the x.
    Exp,
    /// -x.
    Neg,
    /// Absolute value.
    Abs,
    /// Largest integer not above.
    Floor,
    /// Smallest integer not below.
    Ceil,
    /// 1 above 0, -1 below, 0 at 0.
    Sign,
}

impl Unary {
    /// The operator's ONNX name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Unary::Relu => "Relu",
            Unary::LeakyRelu { .. } => "LeakyRelu",
            Unary::Sigmoid => "Sigmoid",
            Unary::Tanh => "Tanh",
            Unary::HardSigmoid { .. } => "HardSigmoid",
            Unary::HardSwish => "HardSwish",
            Unary::Silu => "Silu",
            Unary::Gelu | Unary::GeluTanh => "Gelu",
            Unary::Erf => "Erf",
            Unary::Sqrt => "Sqrt",
            Unary::Exp => "Exp",
            Unary::Neg => "Neg",
            Unary::Abs => "Abs",
            Unary::Floor => "Floor",
            Unary::Ceil => "Ceil",
            Unary::Sign => "Sign",
        }
    }

    pub(crate) fn forward(
        &self,
        inputs: &Inputs<'_>,
        work: &mut Workspace,
    ) -> Result<Tensor, OpError> {
        match self {
            Unary::Relu => relu(inputs, work),
            Unary::Neg => negate(inputs, work),
            Unary::Abs => absolute(inputs, work),
            _ => self.float(inputs, work),
        }
    }

    fn float(&self, inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
        let (tensor, x) = inputs.typed::<f32>(0, "X")?;
        match *self {
            Unary::Relu => map(tensor, x, Number::relu, work),
            Unary::LeakyRelu { alpha } => {
                map(tensor, x, |x| if x < 0.0 { alpha * x } else { x }, work)
            }
            Unary::Sigmoid => map(tensor, x, sigmoid, work),
            Unary::Tanh => map(tensor, x, f32::tanh, work),
            Unary::HardSigmoid { alpha, beta } => {
                map(tensor, x, |x| hard_sigmoid(x, alpha, beta), work)
            }
            Unary::HardSwish => map(tensor, x, hard_swish, work),
            Unary::Silu => map(tensor, x, |x| x * sigmoid(x), work),
            Unary::Gelu => map(tensor, x, gelu, work),
            Unary::GeluTanh => map(tensor, x, gelu_tanh, work),
            Unary::Erf => map(tensor, x, |x| erf(f64::from(x)) as f32, work),
            Unary::Sqrt => map(tensor, x, f32::sqrt, work),
            Unary::Exp => map(tensor, x, f32::exp, work),
            Unary::Neg => map(tensor, x, |x| -x, work),
            Unary::Abs => map(tensor, x, f32::abs, work),
            Unary::Floor => map(tensor, x, f32::floor, work),
            Unary::Ceil => map(tensor, x, f32::ceil, work),
            Unary::Sign => map(tensor, x, sign, work),
        }
    }
}

impl Unary {
    /// g · f'(x); at a kink the slope of the left side, or of the right one where f is max(x, ..).
    pub(crate) fn backward(
        &self,
        back: &Back<'_>,
        work: &mut Workspace,
    ) -> Result<Gradients, OpError> {
        let step = |x: f32, slope: f32| if x > 0.0 { slope } else { 0.0 };
        match *self {
            Unary::Relu => along(back, |x, _| step(x, 1.0), work),
            Unary::LeakyRelu { alpha } => {
                along(back, |x, _| if x < 0.0 { alpha } else { 1.0 }, work)
            }
            Unary::Sigmoid => along(back, |_, y| y * (1.0 - y), work),
            Unary::Tanh => along(back, |_, y| 1.0 - y * y, work),
            Unary::HardSigmoid { alpha, .. } => {
                along(back, |_, y| if y > 0.0 && y < 1.0 { alpha } else { 0.0 }, work)
            }
            Unary::HardSwish => along(back, |x, _| hard_swish_slope(x), work),
            Unary::Silu => along(back, |x, y| sigmoid(x) + y * (1.0 - sigmoid(x)), work),
            Unary::Gelu => along(back, |x, _| gelu_slope(x), work),
            Unary::GeluTanh => along(back, |x, _| gelu_tanh_slope(x), work),
            Unary::Erf => {
                along(back, |x, _| std::f32::consts::FRAC_2_SQRT_PI * (-x * x).exp(), work)
            }
            Unary::Sqrt => along(back, |_, y| 0.5 / y, work),
            Unary::Exp => along(back, |_, y| y, work),
            Unary::Neg => along(back, |_, _| -1.0, work),
            Unary::Abs => along(back, |x, _| step(x, 1.0) - step(-x, 1.0), work),
            Unary::Floor | Unary::Ceil | Unary::Sign => along(back, |_, _| 0.0, work),
        }
    }
}

/// g · slope(x, y) for each element.
fn along(
    back: &Back<'_>,
    slope: impl Fn(f32, f32) -> f32 + Sync,
    work: &mut Workspace,
) -> Result<Gradients, OpError> {
    let (tensor, x) = back.inputs.typed::<f32>(0, "X")?;
    let (y, grad) = (back.output()?.1, back.grad()?.1);
    back.first(|| {
        let mut out = work.pool.floats(tensor.shape())?;
        share(work.parallel, &mut out, |first, part| {
            let given = x[first..].iter().zip(&y[first..]).zip(&grad[first..]);
            for (to, ((&x, &y), &grad)) in part.iter_mut().zip(given) {
                *to = grad * slope(x, y);
            }
        });
        Ok(Tensor::new(tensor.shape().clone(), out))
    })
}

/// 0 below -3, 1 above 3, between them x / 3 + 1/2.
fn hard_swish_slope(x: f32) -> f32 {
    match x {
        _ if x <= -3.0 => 0.0,
        _ if x >= 3.0 => 1.0,
        _ => x / 3.0 + 0.5,
    }
}

/// Φ(x) + x · φ(x).
fn gelu_slope(x: f32) -> f32 {
    let x = f64::from(x);
    let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    (0.5 * erfc(-x * std::f64::consts::FRAC_1_SQRT_2) + x * density) as f32
}

/// p + x · p · (1 - p) · 2u', where p = sigmoid(2u) as in [`gelu_tanh`].
fn gelu_tanh_slope(x: f32) -> f32 {
    let x = f64::from(x);
    let factor = (2.0 / std::f64::consts::PI).sqrt();
    let p = 1.0 / (1.0 + (-2.0 * factor * (x + 0.044_715 * x * x * x)).exp());
    (p + x * p * (1.0 - p) * 2.0 * factor * (1.0 + 3.0 * 0.044_715 * x * x)) as f32
}

/// y = f(x) for each element.
fn map<T: Pooled>(
    tensor: &Tensor,
    x: &[T],
    f: impl Fn(T) -> T + Sync,
    work: &mut Workspace,
) -> Result<Tensor, OpError> {
    let mut out = T::take(&mut work.pool, tensor.shape())?;
    share(work.parallel, &mut out, |first, part| {
        for (y, &x) in part.iter_mut().zip(&x[first..]) {
            *y = f(x);
        }
    });
    Ok(Tensor::new(tensor.shape().clone(), out))
}

const NUMBERS: &str = "float32 or an integer type of 8 bits or more";

fn relu(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let tensor = inputs.required(0, "X")?;
    with_numbers!(tensor, x => map(tensor, x, Number::relu, work), else {
        Err(wrong_type(0, tensor, NUMBERS))
    })
}

/// Integers wrap: -(-128) is -128 in int8.
fn negate(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let tensor = inputs.required(0, "X")?;
    if tensor.as_slice::<f32>().is_ok() {
        return Unary::Neg.float(inputs, work);
    }
    with_numbers!(tensor, x => map(tensor, x, |x| Number::sub(Default::default(), x), work), else {
        Err(wrong_type(0, tensor, NUMBERS))
    })
}

/// Integers wrap: |-128| is -128 in int8.
fn absolute(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let tensor = inputs.required(0, "X")?;
    if tensor.as_slice::<f32>().is_ok() {
        return Unary::Abs.float(inputs, work);
    }
    with_numbers!(tensor, x => map(tensor, x, integer_abs, work), else {
        Err(wrong_type(0, tensor, NUMBERS))
    })
}

fn integer_abs<T: Number>(x: T) -> T {
    if x < T::default() { T::sub(T::default(), x) } else { x }
}

/// NaN stays NaN, and -0 becomes 0.
fn sign(x: f32) -> f32 {
    match x {
        _ if x > 0.0 => 1.0,
        _ if x < 0.0 => -1.0,
        _ => x + 0.0,
    }
}

/// 1 / (1 + exp(-x)), written so that exp never overflows.
fn sigmoid(x: f32) -> f32 {
    let small = (-x.abs()).exp();
    let numerator = if x < 0.0 { small } else { 1.0 };
    numerator / (1.0 + small)
}

/// max(0, min(1, alpha·x + beta)), product and sum rounded separately: bit for bit what onnxruntime 1.31 computes.
fn hard_sigmoid(x: f32, alpha: f32, beta: f32) -> f32 {
    (alpha * x + beta).clamp(0.0, 1.0)
}

/// x · hard_sigmoid(x) with alpha = 1/6, beta = 1/2: bit for bit what onnxruntime 1.31 computes.
fn hard_swish(x: f32) -> f32 {
    x * hard_sigmoid(x, 1.0 / 6.0, 0.5)
}

/// x · Φ(x), Φ(x) = erfc(-x / √2) / 2.
fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    (0.5 * x * erfc(-x * std::f64::consts::FRAC_1_SQRT_2)) as f32
}

/// x · (1 + tanh(u)) / 2 with u = √(2/π) · (x + 0.044715·x³); (1 + tanh(u)) / 2 is sigmoid(2u), which does not cancel.
fn gelu_tanh(x: f32) -> f32 {
    let x = f64::from(x);
    let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
    (x / (1.0 + (-2.0 * u).exp())) as f32
}

/// Where the series of erf takes over from the fit of erfc.
const SERIES_BELOW: f64 = 1.0;

fn erf(x: f64) -> f64 {
    if x.abs() < SERIES_BELOW {
        return erf_series(x);
    }
    (1.0 - erfc_fit(x.abs())).copysign(x)
}

fn erfc(x: f64) -> f64 {
    if x.abs() < SERIES_BELOW {
        return 1.0 - erf_series(x);
    }
    if x < 0.0 { 2.0 - erfc_fit(-x) } else { erfc_fit(x) }
}

/// erf(x) = 2/√π · Σ (-1)^k x^(2k+1) / (k! (2k+1)); 18 terms leave less than 1e-17 for |x| < 1.
fn erf_series(x: f64) -> f64 {
    let (mut power, mut sum) = (x, x);
    for k in 1..18 {
        let k = f64::from(k);
        power *= -x * x / k;
        sum += power / (2.0 * k + 1.0);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

/// erfc for x >= 0, relative error below 1.2e-7 everywhere (Press et al., Numerical Recipes in C, 2nd ed., section 6.2).
fn erfc_fit(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let t = 1.0 / (1.0 + 0.5 * x);
    let polynomial = COEFFICIENTS.iter().rev().fold(0.0, |sum, c| sum * t + c);
    t * (polynomial - x * x).exp()
}

/// min(max(x, low), high): an empty range gives its upper end, as ONNX says.
pub(crate) fn clip(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let tensor = inputs.required(0, "input")?;
    with_numbers!(tensor, x => {
        let low = one_of(1, inputs.optional(1), tensor)?;
        let high = one_of(2, inputs.optional(2), tensor)?;
        match (low, high) {
            (None, None) => map(tensor, x, |x| x, work),
            (Some(low), None) => map(tensor, x, |x| at_least(x, low), work),
            (None, Some(high)) => map(tensor, x, |x| at_most(x, high), work),
            (Some(low), Some(high)) => map(tensor, x, |x| at_most(at_least(x, low), high), work),
        }
    }, else {
        Err(wrong_type(0, tensor, NUMBERS))
    })
}

/// To the input where the clip left it as it was, also at a limit; to the limit that took its place elsewhere. The same for floats
/// and for codes, so that QuantizeLinear, Clip, DequantizeLinear is the clipped straight-through estimator of fewer bits.
pub(crate) fn clip_backward(back: &Back<'_>, work: &mut Workspace) -> Result<Gradients, OpError> {
    let tensor = back.inputs.required(0, "input")?;
    let output = back.outputs.first().copied().flatten().unwrap_or(tensor);
    let grad = back.grad()?.1;
    with_numbers!(tensor, x => {
        let y = same_type(0, output, tensor)?;
        clip_gradients(back, (x, y), grad, work)
    }, else {
        Err(wrong_type(0, tensor, NUMBERS))
    })
}

fn clip_gradients<T: Number>(
    back: &Back<'_>,
    (x, y): (&[T], &[T]),
    grad: &[f32],
    work: &mut Workspace,
) -> Result<Gradients, OpError> {
    let mut found = vec![None; 3];
    if back.wants(0) {
        let shape = back.grad()?.0.shape();
        let mut out = work.pool.floats(shape)?;
        for ((to, &grad), (x, y)) in out.iter_mut().zip(grad).zip(x.iter().zip(y)) {
            *to = if x == y { grad } else { 0.0 };
        }
        found[0] = Some(Tensor::new(shape.clone(), out));
    }
    for (limit, raised) in [(1, true), (2, false)] {
        if let Some(tensor) = back.inputs.optional(limit).filter(|_| back.wants(limit)) {
            let took = |&((x, y), _): &((&T, &T), &f32)| x != y && (x < y) == raised;
            let sum: f64 =
                x.iter().zip(y).zip(grad).filter(took).map(|(_, &grad)| f64::from(grad)).sum();
            found[limit] = Some(pooled(tensor.shape(), [sum as f32], work)?);
        }
    }
    Ok(found)
}

fn at_least<T: Number>(x: T, low: T) -> T {
    if x < low { low } else { x }
}

fn at_most<T: Number>(x: T, high: T) -> T {
    if x > high { high } else { x }
}

pub(crate) fn prelu(inputs: &Inputs<'_>, work: &mut Workspace) -> Result<Tensor, OpError> {
    let x = inputs.required(0, "X")?;
    let slope = inputs.required(1, "slope")?;
    expect_broadcast_to(1, slope.shape(), x.shape())?;
    with_numbers!(x, values => {
        let slopes = same_type(1, slope, x)?;
        let mut out = Pooled::take(&mut work.pool, x.shape())?;
        let walk = Walk::broadcast(x.shape(), [x.shape(), slope.shape()]);
        zip(&walk, (values, slopes), work.parallel, &mut out, leak);
        Ok(Tensor::new(x.shape().clone(), out))
    }, else {
        Err(wrong_type(0, x, NUMBERS))
    })
}

/// g to x, or g · slope where x < 0; Σ g · x over those to the slope.
pub(crate) fn prelu_backward(back: &Back<'_>, work: &mut Workspace) -> Result<Gradients, OpError> {
    let of_x = |x: f32, slope: f32| if x < 0.0 { slope } else { 1.0 };
    slopes(back, of_x, |x, _| if x < 0.0 { x } else { 0.0 }, work)
}

fn leak<T: Number>(x: T, slope: T) -> T {
    if x < T::default() { T::mul(slope, x) } else { x }
}

#[cfg(test)]
mod tests;
