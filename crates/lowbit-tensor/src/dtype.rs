//! Element types and the buffers that hold them.

use std::fmt;

/// The type of a tensor's elements, as ONNX names them.
///
/// The 4- and 2-bit types hold one code per byte in memory ([`Buffer::I8`] or [`Buffer::U8`]); packing is a matter of
/// files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// 32-bit IEEE float.
    F32,
    /// 64-bit signed integer: shapes and indices.
    I64,
    /// 32-bit signed integer: accumulators and biases.
    I32,
    /// 16-bit signed integer.
    I16,
    /// 8-bit signed integer.
    I8,
    /// 4-bit signed integer, -8 to 7.
    I4,
    /// 2-bit signed integer, -2 to 1.
    I2,
    /// 16-bit unsigned integer.
    U16,
    /// 8-bit unsigned integer.
    U8,
    /// 4-bit unsigned integer, 0 to 15.
    U4,
    /// 2-bit unsigned integer, 0 to 3.
    U2,
    /// Truth value.
    Bool,
}

impl DType {
    /// The name used in messages, tables and dumps.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "float32",
            DType::I64 => "int64",
            DType::I32 => "int32",
            DType::I16 => "int16",
            DType::I8 => "int8",
            DType::I4 => "int4",
            DType::I2 => "int2",
            DType::U16 => "uint16",
            DType::U8 => "uint8",
            DType::U4 => "uint4",
            DType::U2 => "uint2",
            DType::Bool => "bool",
        }
    }

    /// Bits one element takes in a file.
    #[must_use]
    pub fn bits(self) -> usize {
        match self {
            DType::I64 => 64,
            DType::F32 | DType::I32 => 32,
            DType::I16 | DType::U16 => 16,
            DType::I8 | DType::U8 | DType::Bool => 8,
            DType::I4 | DType::U4 => 4,
            DType::I2 | DType::U2 => 2,
        }
    }

    /// Smallest and largest value of an integer type; `None` for float32, int64 and bool.
    #[must_use]
    pub fn range(self) -> Option<(i32, i32)> {
        match self {
            DType::I32 => Some((i32::MIN, i32::MAX)),
            DType::I16 => Some((-32768, 32767)),
            DType::I8 => Some((-128, 127)),
            DType::I4 => Some((-8, 7)),
            DType::I2 => Some((-2, 1)),
            DType::U16 => Some((0, 65535)),
            DType::U8 => Some((0, 255)),
            DType::U4 => Some((0, 15)),
            DType::U2 => Some((0, 3)),
            DType::F32 | DType::I64 | DType::Bool => None,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The elements of a tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Buffer {
    /// [`DType::F32`].
    F32(Vec<f32>),
    /// [`DType::I64`].
    I64(Vec<i64>),
    /// [`DType::I32`].
    I32(Vec<i32>),
    /// [`DType::I16`].
    I16(Vec<i16>),
    /// [`DType::I8`], [`DType::I4`] and [`DType::I2`].
    I8(Vec<i8>),
    /// [`DType::U16`].
    U16(Vec<u16>),
    /// [`DType::U8`], [`DType::U4`] and [`DType::U2`].
    U8(Vec<u8>),
    /// [`DType::Bool`].
    Bool(Vec<bool>),
}

impl Buffer {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Buffer::F32(v) => v.len(),
            Buffer::I64(v) => v.len(),
            Buffer::I32(v) => v.len(),
            Buffer::I16(v) => v.len(),
            Buffer::I8(v) => v.len(),
            Buffer::U16(v) => v.len(),
            Buffer::U8(v) => v.len(),
            Buffer::Bool(v) => v.len(),
        }
    }

    /// True when there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The widest type this buffer holds (int8 for the narrow signed types).
    #[must_use]
    pub fn dtype(&self) -> DType {
        match self {
            Buffer::F32(_) => DType::F32,
            Buffer::I64(_) => DType::I64,
            Buffer::I32(_) => DType::I32,
            Buffer::I16(_) => DType::I16,
            Buffer::I8(_) => DType::I8,
            Buffer::U16(_) => DType::U16,
            Buffer::U8(_) => DType::U8,
            Buffer::Bool(_) => DType::Bool,
        }
    }

    pub(crate) fn holds(&self, dtype: DType) -> bool {
        match dtype {
            DType::I4 | DType::I2 => matches!(self, Buffer::I8(_)),
            DType::U4 | DType::U2 => matches!(self, Buffer::U8(_)),
            _ => self.dtype() == dtype,
        }
    }
}

/// A Rust type that a [`Buffer`] can hold.
pub trait Element:
    Copy + PartialEq + PartialOrd + Send + Sync + fmt::Debug + Default + 'static
{
    /// The element type a new tensor of these has.
    const DTYPE: DType;
    /// Wraps a vector.
    fn into_buffer(values: Vec<Self>) -> Buffer;
    /// The elements, when the buffer holds this type.
    fn of(buffer: &Buffer) -> Option<&[Self]>;
    /// The elements for writing, when the buffer holds this type.
    fn of_mut(buffer: &mut Buffer) -> Option<&mut Vec<Self>>;
}

macro_rules! element {
    ($type:ty, $variant:ident) => {
        impl Element for $type {
            const DTYPE: DType = DType::$variant;
            fn into_buffer(values: Vec<Self>) -> Buffer {
                Buffer::$variant(values)
            }
            fn of(buffer: &Buffer) -> Option<&[Self]> {
                match buffer {
                    Buffer::$variant(v) => Some(v),
                    _ => None,
                }
            }
            fn of_mut(buffer: &mut Buffer) -> Option<&mut Vec<Self>> {
                match buffer {
                    Buffer::$variant(v) => Some(v),
                    _ => None,
                }
            }
        }
    };
}

element!(f32, F32);
element!(i64, I64);
element!(i32, I32);
element!(i16, I16);
element!(i8, I8);
element!(u16, U16);
element!(u8, U8);
element!(bool, Bool);
