//! A dense tensor: shape, element type, row-major elements.

use crate::{Buffer, DType, Element, Shape};

/// A dense tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    buffer: Buffer,
}

/// What can be wrong with a tensor.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The number of elements does not fit the shape.
    #[error("tensor of shape {shape} has {found} elements, expected {expected}")]
    Length {
        /// The shape asked for.
        shape: Shape,
        /// Elements given.
        found: usize,
        /// Elements the shape needs.
        expected: String,
    },
    /// The elements are of another type.
    #[error("tensor holds {found}, expected {expected}")]
    Type {
        /// The type it holds.
        found: DType,
        /// The type asked for.
        expected: DType,
    },
}

impl Tensor {
    /// A tensor of `values`.
    ///
    /// # Panics
    /// When the number of values is not the shape's: a mistake of the caller, not of input. Values from files go
    /// through [`Tensor::try_new`].
    #[must_use]
    pub fn new<T: Element>(shape: impl Into<Shape>, values: Vec<T>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.numel(), values.len(), "elements of a tensor of shape {shape}");
        Tensor { dtype: T::DTYPE, shape, buffer: T::into_buffer(values) }
    }

    /// A tensor of `dtype` over `buffer`, both of which may come from a file.
    ///
    /// # Errors
    /// `Length` when the element count is not the shape's, `Type` when the buffer cannot hold `dtype`.
    pub fn try_new(
        dtype: DType,
        shape: impl Into<Shape>,
        buffer: Buffer,
    ) -> Result<Self, TensorError> {
        let shape = shape.into();
        let length = |expected: String| TensorError::Length {
            shape: shape.clone(),
            found: buffer.len(),
            expected,
        };
        match shape.checked_len() {
            None => return Err(length("a number that fits 64 bits".into())),
            Some(n) if n != buffer.len() => return Err(length(n.to_string())),
            Some(_) => {}
        }
        if !buffer.holds(dtype) {
            return Err(TensorError::Type { found: buffer.dtype(), expected: dtype });
        }
        Ok(Tensor { dtype, shape, buffer })
    }

    /// A tensor without axes.
    #[must_use]
    pub fn scalar<T: Element>(value: T) -> Self {
        Tensor::new([], vec![value])
    }

    /// A vector.
    #[must_use]
    pub fn vector<T: Element>(values: Vec<T>) -> Self {
        Tensor::new([values.len()], values)
    }

    /// A tensor of `shape` filled with `value`.
    #[must_use]
    pub fn full<T: Element>(shape: impl Into<Shape>, value: T) -> Self {
        let shape = shape.into();
        let values = vec![value; shape.numel()];
        Tensor::new(shape, values)
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Number of axes.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// True when there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Bytes the elements take in a file, narrow types packed.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        (self.len() * self.dtype.bits()).div_ceil(8)
    }

    /// The elements.
    #[must_use]
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// Gives the elements up.
    #[must_use]
    pub fn into_buffer(self) -> Buffer {
        self.buffer
    }

    /// The elements as `T`.
    ///
    /// # Errors
    /// `Type` when they are of another type.
    pub fn as_slice<T: Element>(&self) -> Result<&[T], TensorError> {
        T::of(&self.buffer).ok_or(TensorError::Type { found: self.dtype, expected: T::DTYPE })
    }

    /// The elements as `T`, for writing.
    ///
    /// # Errors
    /// `Type` when they are of another type.
    pub fn as_mut_slice<T: Element>(&mut self) -> Result<&mut [T], TensorError> {
        let found = self.dtype;
        T::of_mut(&mut self.buffer)
            .map(Vec::as_mut_slice)
            .ok_or(TensorError::Type { found, expected: T::DTYPE })
    }

    /// The float elements.
    ///
    /// # Panics
    /// When the tensor is not float32: for values whose type was checked.
    #[must_use]
    pub fn f32s(&self) -> &[f32] {
        self.as_slice().expect("the caller checked that this is float32")
    }

    /// Every element as f64, whatever the type.
    #[must_use]
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.buffer {
            Buffer::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            #[expect(clippy::cast_precision_loss, reason = "asked for as f64")]
            Buffer::I64(v) => v.iter().map(|&x| x as f64).collect(),
            Buffer::I32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Buffer::I16(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Buffer::I8(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Buffer::U16(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Buffer::U8(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Buffer::Bool(v) => v.iter().map(|&x| f64::from(u8::from(x))).collect(),
        }
    }

    /// Every element of an integer or bool tensor as i64; `None` for float32.
    #[must_use]
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        Some(match &self.buffer {
            Buffer::F32(_) => return None,
            Buffer::I64(v) => v.clone(),
            Buffer::I32(v) => v.iter().map(|&x| i64::from(x)).collect(),
            Buffer::I16(v) => v.iter().map(|&x| i64::from(x)).collect(),
            Buffer::I8(v) => v.iter().map(|&x| i64::from(x)).collect(),
            Buffer::U16(v) => v.iter().map(|&x| i64::from(x)).collect(),
            Buffer::U8(v) => v.iter().map(|&x| i64::from(x)).collect(),
            Buffer::Bool(v) => v.iter().map(|&x| i64::from(x)).collect(),
        })
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// `Length` when the new shape has another number of elements.
    pub fn reshape(self, shape: impl Into<Shape>) -> Result<Self, TensorError> {
        Tensor::try_new(self.dtype, shape, self.buffer)
    }
}
