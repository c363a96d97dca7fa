//! Tensors between protobuf and memory, every claimed size checked against the bytes that are there.

mod external;

use std::path::Path;

use lowbit_tensor::{Buffer, DType, Shape, Tensor};

use crate::OnnxError;
use crate::proto::TensorProto;
use crate::proto::tensor_proto::{DataLocation, DataType};
pub(crate) use external::External;

/// The element type behind ONNX's number for it; `None` for the types this project does not have.
pub(crate) fn dtype_of(code: i32) -> Option<DType> {
    Some(match DataType::try_from(code).ok()? {
        DataType::Float => DType::F32,
        DataType::Int64 => DType::I64,
        DataType::Int32 => DType::I32,
        DataType::Int16 => DType::I16,
        DataType::Int8 => DType::I8,
        DataType::Int4 => DType::I4,
        DataType::Int2 => DType::I2,
        DataType::Uint16 => DType::U16,
        DataType::Uint8 => DType::U8,
        DataType::Uint4 => DType::U4,
        DataType::Uint2 => DType::U2,
        DataType::Bool => DType::Bool,
        _ => return None,
    })
}

/// ONNX's number for an element type.
pub(crate) fn code_of(dtype: DType) -> DataType {
    match dtype {
        DType::F32 => DataType::Float,
        DType::I64 => DataType::Int64,
        DType::I32 => DataType::Int32,
        DType::I16 => DataType::Int16,
        DType::I8 => DataType::Int8,
        DType::I4 => DataType::Int4,
        DType::I2 => DataType::Int2,
        DType::U16 => DataType::Uint16,
        DType::U8 => DataType::Uint8,
        DType::U4 => DataType::Uint4,
        DType::U2 => DataType::Uint2,
        DType::Bool => DataType::Bool,
    }
}

/// ONNX's name for an element type, for messages.
pub(crate) fn type_name(code: i32) -> String {
    match DataType::try_from(code) {
        Ok(known) => known.as_str_name().to_ascii_lowercase(),
        Err(_) => format!("element type {code}"),
    }
}

/// The element types this project has, for messages.
pub(crate) const SUPPORTED_TYPES: &str =
    "float, int64, int32, int16, int8, int4, int2, uint16, uint8, uint4, uint2, bool";

/// Reads one serialized `TensorProto`, such as the `.pb` files of ONNX's own tests.
///
/// # Errors
/// `Decode` or `Tensor`.
pub fn tensor_from_bytes(bytes: &[u8]) -> Result<Tensor, OnnxError> {
    let proto = <TensorProto as prost::Message>::decode(bytes)?;
    tensor_from_proto(proto, None)
}

/// Turns a stored tensor into one in memory, taking its bytes. `folder` is where external data may lie.
///
/// # Errors
/// `Tensor` when the type is not supported, a dimension is negative, or the elements are not as many as the shape says.
pub fn tensor_from_proto(proto: TensorProto, folder: Option<&Path>) -> Result<Tensor, OnnxError> {
    read_tensor(proto, &mut External::new(folder))
}

/// As [`tensor_from_proto`], one of many tensors of a model.
pub(crate) fn read_tensor(
    proto: TensorProto,
    external: &mut External<'_>,
) -> Result<Tensor, OnnxError> {
    let name = proto.name.clone().unwrap_or_default();
    let fail = |what, found: String, expected: String| OnnxError::Tensor {
        name: name.clone(),
        what,
        found,
        expected,
    };
    if proto.segment.is_some() {
        return Err(fail("segment", "a part of a tensor".into(), "a whole tensor".into()));
    }
    let code = proto.data_type.unwrap_or_default();
    let dtype = dtype_of(code)
        .ok_or_else(|| fail("element type", type_name(code), SUPPORTED_TYPES.into()))?;
    let dims: Option<Vec<usize>> = proto.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let dims = dims
        .ok_or_else(|| fail("dimensions", format!("{:?}", proto.dims), "none negative".into()))?;
    let shape = Shape::new(dims);
    let bytes = shape.checked_len().and_then(|n| Some(n.checked_mul(dtype.bits())?.div_ceil(8)));
    let (Some(len), Some(bytes)) = (shape.checked_len(), bytes) else {
        return Err(fail("dimensions", shape.to_string(), "fewer than 2^61 elements".into()));
    };
    let stored = Stored { dtype, len, bytes };
    let buffer = stored.buffer(proto, external).map_err(|wrong| match wrong {
        Wrong::Data { what, found, expected } => fail(what, found, expected),
        Wrong::Io(error) => fail("external data", error.to_string(), "a readable file".into()),
    })?;
    Tensor::try_new(dtype, shape, buffer)
        .map_err(|error| fail("elements", error.to_string(), "as many as the shape says".into()))
}

/// What is wrong with a tensor's data, before it is known which tensor it is.
#[derive(Debug)]
pub(crate) enum Wrong {
    Data { what: &'static str, found: String, expected: String },
    Io(std::io::Error),
}

pub(crate) fn wrong(what: &'static str, found: impl ToString, expected: impl ToString) -> Wrong {
    Wrong::Data { what, found: found.to_string(), expected: expected.to_string() }
}

/// What the header of a tensor says about its data.
struct Stored {
    dtype: DType,
    len: usize,
    /// Of the packed elements.
    bytes: usize,
}

impl Stored {
    fn buffer(&self, mut proto: TensorProto, external: &mut External<'_>) -> Result<Buffer, Wrong> {
        if proto.data_location == Some(DataLocation::External as i32) {
            let raw = external.read(&proto.external_data, self.bytes)?;
            return self.unpack(&raw);
        }
        if !proto.external_data.is_empty() {
            return Err(wrong("external data", "entries in a tensor stored inside", "none"));
        }
        let typed = proto.float_data.len()
            + proto.int32_data.len()
            + proto.int64_data.len()
            + proto.string_data.len()
            + proto.double_data.len()
            + proto.uint64_data.len();
        match proto.raw_data.take() {
            Some(raw) if typed == 0 => self.unpack(&raw),
            Some(_) => Err(wrong("data", "both raw_data and typed data", "one of them")),
            None => self.typed(proto, typed),
        }
    }

    /// Elements of `raw_data`: little-endian, narrow types packed from the lowest bits up.
    fn unpack(&self, raw: &[u8]) -> Result<Buffer, Wrong> {
        if raw.len() != self.bytes {
            let expected =
                format!("{} bytes for {} elements of {}", self.bytes, self.len, self.dtype);
            return Err(wrong("data", format!("{} bytes", raw.len()), expected));
        }
        Ok(match self.dtype {
            DType::F32 => Buffer::F32(words(raw, f32::from_le_bytes)),
            DType::I64 => Buffer::I64(words(raw, i64::from_le_bytes)),
            DType::I32 => Buffer::I32(words(raw, i32::from_le_bytes)),
            DType::I16 => Buffer::I16(words(raw, i16::from_le_bytes)),
            DType::U16 => Buffer::U16(words(raw, u16::from_le_bytes)),
            DType::I8 => Buffer::I8(words(raw, i8::from_le_bytes)),
            DType::U8 => Buffer::U8(raw.to_vec()),
            DType::Bool => Buffer::Bool(raw.iter().map(|&b| b != 0).collect()),
            DType::U4 | DType::U2 => Buffer::U8(self.codes(raw).collect()),
            DType::I4 | DType::I2 => {
                let shift = 8 - self.dtype.bits();
                // Shifting the code to the top and back spreads its sign.
                Buffer::I8(self.codes(raw).map(|c| (c << shift).cast_signed() >> shift).collect())
            }
        })
    }

    /// The unsigned codes of a narrow type.
    fn codes<'a>(&self, raw: &'a [u8]) -> impl Iterator<Item = u8> + use<'a> {
        let bits = self.dtype.bits();
        let per_byte = 8 / bits;
        let mask = (1u16 << bits) - 1;
        let code = move |i: usize| (u16::from(raw[i / per_byte]) >> (i % per_byte * bits)) & mask;
        #[expect(clippy::cast_possible_truncation, reason = "masked to at most 4 bits")]
        (0..self.len).map(move |i| code(i) as u8)
    }

    /// Elements of the typed fields; `given` counts those of all fields, only one of which may be used.
    fn typed(&self, proto: TensorProto, given: usize) -> Result<Buffer, Wrong> {
        let (field, found) = match self.dtype {
            DType::F32 => ("float_data", proto.float_data.len()),
            DType::I64 => ("int64_data", proto.int64_data.len()),
            _ => ("int32_data", proto.int32_data.len()),
        };
        // One packed byte per element of int32_data for the narrow types.
        let expected = if self.dtype.bits() < 8 { self.bytes } else { self.len };
        if found != expected || given != found {
            let found = format!("{found} in {field}, {} elsewhere", given - found);
            return Err(wrong("data", found, format!("{expected} elements in {field}")));
        }
        let ints = &proto.int32_data;
        Ok(match self.dtype {
            DType::F32 => Buffer::F32(proto.float_data),
            DType::I64 => Buffer::I64(proto.int64_data),
            DType::I32 => Buffer::I32(proto.int32_data),
            DType::I16 => Buffer::I16(narrowed(ints)?),
            DType::U16 => Buffer::U16(narrowed(ints)?),
            DType::I8 => Buffer::I8(narrowed(ints)?),
            DType::U8 => Buffer::U8(narrowed(ints)?),
            DType::Bool => Buffer::Bool(ints.iter().map(|&b| b != 0).collect()),
            DType::I4 | DType::I2 | DType::U4 | DType::U2 => {
                // Writers differ on whether the byte's sign is spread into the field.
                let byte = |&v: &i32| (-128..256).contains(&v).then_some((v & 0xff) as u8);
                let bytes: Option<Vec<u8>> = ints.iter().map(byte).collect();
                let bytes = bytes
                    .ok_or_else(|| wrong("int32_data", "a value beyond a byte", "packed bytes"))?;
                return self.unpack(&bytes);
            }
        })
    }
}

fn words<const N: usize, T>(raw: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|&word| read(word)).collect()
}

fn narrowed<T: TryFrom<i32>>(ints: &[i32]) -> Result<Vec<T>, Wrong> {
    let all: Result<Vec<T>, _> = ints.iter().map(|&v| T::try_from(v)).collect();
    all.map_err(|_| {
        wrong("int32_data", "a value beyond the element type's range", "values in range")
    })
}

/// Stores a tensor in `raw_data`, narrow types packed.
#[must_use]
pub fn tensor_to_proto(name: &str, tensor: &Tensor) -> TensorProto {
    let extent = |&d: &usize| i64::try_from(d).unwrap_or(i64::MAX);
    TensorProto {
        dims: tensor.shape().iter().map(extent).collect(),
        data_type: Some(code_of(tensor.dtype()) as i32),
        name: (!name.is_empty()).then(|| name.to_owned()),
        raw_data: Some(packed(tensor)),
        ..TensorProto::default()
    }
}

fn packed(tensor: &Tensor) -> Vec<u8> {
    let bits = tensor.dtype().bits();
    match tensor.buffer() {
        Buffer::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Buffer::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Buffer::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Buffer::I16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Buffer::U16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Buffer::Bool(v) => v.iter().map(|&x| u8::from(x)).collect(),
        Buffer::U8(v) if bits < 8 => pack(v.iter().copied(), bits),
        Buffer::U8(v) => v.clone(),
        Buffer::I8(v) => pack(v.iter().map(|x| x.cast_unsigned()), bits),
    }
}

fn pack(codes: impl Iterator<Item = u8>, bits: usize) -> Vec<u8> {
    let per_byte = 8 / bits;
    let mask = 0xff >> (8 - bits);
    let mut bytes = Vec::new();
    for (i, code) in codes.enumerate() {
        if i % per_byte == 0 {
            bytes.push(0);
        }
        let last = bytes.len() - 1;
        bytes[last] |= (code & mask) << (i % per_byte * bits);
    }
    bytes
}

#[cfg(test)]
mod tests;
