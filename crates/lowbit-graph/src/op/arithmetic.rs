//! Arithmetic as ONNX means it, one definition for floats and integers: integers wrap, NaN spreads.

use super::dispatch::Pooled;

/// A number type that arithmetic operators accept.
pub(crate) trait Number: Pooled {
    /// The smallest value, negative infinity for floats.
    const LOWEST: Self;
    /// a + b.
    fn add(a: Self, b: Self) -> Self;
    /// a - b.
    fn sub(a: Self, b: Self) -> Self;
    /// a · b.
    fn mul(a: Self, b: Self) -> Self;
    /// a / b; integers truncate, and the caller has refused divisors of 0.
    fn div(a: Self, b: Self) -> Self;
    /// True for an integer 0, by which nothing is divided.
    fn is_integer_zero(self) -> bool;

    /// The smaller; NaN if either is.
    #[expect(clippy::eq_op, reason = "only NaN differs from itself")]
    fn min(a: Self, b: Self) -> Self {
        if a < b || a != a { a } else { b }
    }

    /// The larger; NaN if either is.
    #[expect(clippy::eq_op, reason = "only NaN differs from itself")]
    fn max(a: Self, b: Self) -> Self {
        if a > b || a != a { a } else { b }
    }

    /// max(x, 0), keeping NaN and -0.
    fn relu(self) -> Self {
        if self < Self::default() { Self::default() } else { self }
    }
}

impl Number for f32 {
    const LOWEST: f32 = f32::NEG_INFINITY;
    fn add(a: f32, b: f32) -> f32 {
        a + b
    }
    fn sub(a: f32, b: f32) -> f32 {
        a - b
    }
    fn mul(a: f32, b: f32) -> f32 {
        a * b
    }
    fn div(a: f32, b: f32) -> f32 {
        a / b
    }
    fn is_integer_zero(self) -> bool {
        false
    }
}

macro_rules! integer {
    ($($type:ty),*) => {$(
        impl Number for $type {
            const LOWEST: $type = <$type>::MIN;
            fn add(a: $type, b: $type) -> $type {
                a.wrapping_add(b)
            }
            fn sub(a: $type, b: $type) -> $type {
                a.wrapping_sub(b)
            }
            fn mul(a: $type, b: $type) -> $type {
                a.wrapping_mul(b)
            }
            fn div(a: $type, b: $type) -> $type {
                a.wrapping_div(b)
            }
            fn is_integer_zero(self) -> bool {
                self == 0
            }
        }
    )*};
}

integer!(i64, i32, i16, i8, u16, u8);

/// Evaluates `$body` with `$values` bound to the buffer's vector of numbers; `$refused` for bool and for the 4- and
/// 2-bit types, whose range arithmetic would leave.
macro_rules! with_numbers {
    ($tensor:expr, $values:ident => $body:expr, else $refused:expr) => {
        match $tensor.buffer() {
            _ if !crate::op::dispatch::is_plain($tensor) => $refused,
            lowbit_tensor::Buffer::F32($values) => $body,
            lowbit_tensor::Buffer::I64($values) => $body,
            lowbit_tensor::Buffer::I32($values) => $body,
            lowbit_tensor::Buffer::I16($values) => $body,
            lowbit_tensor::Buffer::I8($values) => $body,
            lowbit_tensor::Buffer::U16($values) => $body,
            lowbit_tensor::Buffer::U8($values) => $body,
            lowbit_tensor::Buffer::Bool(_) => $refused,
        }
    };
}
pub(crate) use with_numbers;
