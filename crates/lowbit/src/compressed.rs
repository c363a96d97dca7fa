//! `.lbz`: a quantized model whose codes are entropy-coded: the last stage of Deep Compression (Han et al. 2016,
//! arXiv:1510.00149), with an asymmetric numeral system in the place of Huffman's code.
//!
//! The ONNX file without its codes (each tensor of codes has 0 as its first extent) is deflated; behind it each tensor's
//! codes follow as a stream of [`lowbit_quant::encode_codes`]. Reading gives back the ONNX file to the byte. All numbers
//! are little-endian, 4 bytes unless said otherwise:
//!
//! ```text
//! 89 'L' 'B' 'Z' · version (1 byte) · CRC-32 of the ONNX file
//! length of the ONNX file without codes · length of it deflated · itself, deflated
//! number of streams · for each, ascending: index among the initializers · first extent · length · the stream
//! ```
//!
//! Reading trusts nothing: what is allocated is bounded by the input's length.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use lowbit_graph::{Graph, ValueId};
use lowbit_quant::{decode_codes, encode_codes};
use lowbit_tensor::{Buffer, DType, Tensor};

use crate::Error;
use crate::format::named;

const MAGIC: &[u8; 4] = b"\x89LBZ";
const VERSION: u8 = 1;

/// Codes that a byte of a stream may stand for. The encoder leaves tensors out of which it would make fewer bytes.
const CODES_PER_BYTE_MAX: usize = 1024;
/// Bytes that a deflated byte may stand for: deflate's own limit is 1032.
const INFLATED_PER_BYTE_MAX: usize = 1040;
/// Codes that are worth a stream of their own.
const CODES_MIN: usize = 64;

/// Whether the file begins as a compressed model does.
pub(crate) fn is_compressed(path: &Path) -> bool {
    let mut head = [0; MAGIC.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head == *MAGIC
}

/// The compressed form of a graph; `path` names it in errors.
pub(crate) fn compress(graph: &Graph, path: &Path) -> Result<Vec<u8>, Error> {
    let onnx = |graph: &Graph| lowbit_onnx::export_bytes(graph).map_err(|e| named(path, e));
    let whole = onnx(graph)?;
    let mut rest = lowbit_onnx::import_bytes(&whole, None).map_err(|e| named(path, e))?;
    let mut streams: Vec<Vec<u8>> = vec![];
    for (index, value) in constants(&rest).into_iter().enumerate() {
        let Some(tensor) = rest.constant(value).cloned() else { continue };
        let Some(stream) = stream_of(&tensor) else { continue };
        let mut shape = tensor.shape().to_vec();
        let head = [index, shape[0], stream.len()].map(|number| length(number, path));
        let head: Vec<[u8; 4]> = head.into_iter().collect::<Result<_, _>>()?;
        streams.push([head.concat(), stream].concat());
        shape[0] = 0;
        let empty = codes_to_tensor(tensor.dtype(), shape, &[]);
        rest.set_constant(value, empty.expect("a tensor that has a stream is one of codes"));
    }
    let rest = onnx(&rest)?;
    let deflated = deflate(&rest).map_err(|e| named(path, e.into()))?;
    let mut out = MAGIC.to_vec();
    out.push(VERSION);
    out.extend(checksum(&whole));
    out.extend(length(rest.len(), path)?);
    out.extend(length(deflated.len(), path)?);
    out.extend(deflated);
    out.extend(length(streams.len(), path)?);
    out.extend(streams.concat());
    // Whoever writes a file proves that it can be read.
    expand(&out, path)?;
    Ok(out)
}

/// The graph in a compressed file's bytes; `path` names it in errors.
pub(crate) fn expand(bytes: &[u8], path: &Path) -> Result<Graph, Error> {
    let mut input = Input { bytes, path };
    if input.take(MAGIC.len(), "the magic number")? != MAGIC {
        return input.wrong("the first bytes", "others", "89 'L' 'B' 'Z'");
    }
    let version = input.take(1, "the version")?[0];
    if version != VERSION {
        return input.wrong("version", version, "1");
    }
    let sum = input.take(4, "the checksum")?;
    let rest = input.inflate()?;
    let mut graph = lowbit_onnx::import_bytes(&rest, None).map_err(|e| named(path, e))?;
    drop(rest);
    let values = constants(&graph);
    let mut from = 0;
    for _ in 0..input.number("the number of streams")? {
        let index = input.number("an index")?;
        let value = values.get(index).filter(|_| index >= from);
        let missing = value.and_then(|&value| Some((value, taken_out(&graph, value)?)));
        let Some((value, tensor)) = missing else {
            return input.wrong("index of an initializer", index, "ascending ones without codes");
        };
        from = index + 1;
        let full = input.codes(&tensor)?;
        graph.set_constant(value, full);
    }
    if !input.bytes.is_empty() {
        return input.wrong("the end", format!("{} bytes more", input.bytes.len()), "none");
    }
    let whole = lowbit_onnx::export_bytes(&graph).map_err(|e| named(path, e))?;
    if checksum(&whole) != sum {
        return input.wrong("checksum", "another", "that of the ONNX file inside");
    }
    Ok(graph)
}

fn constants(graph: &Graph) -> Vec<ValueId> {
    graph.constants().map(|(value, _)| value).collect()
}

/// A tensor of codes whose first extent is 0.
fn taken_out(graph: &Graph, value: ValueId) -> Option<Tensor> {
    let tensor = graph.constant(value)?;
    let is_code = tensor.dtype().bits() <= 16 && tensor.dtype() != DType::Bool;
    (is_code && tensor.shape().first() == Some(&0)).then(|| tensor.as_ref().clone())
}

/// The entropy-coded codes of a tensor, where that is shorter than the tensor itself.
fn stream_of(tensor: &Tensor) -> Option<Vec<u8>> {
    let dtype = tensor.dtype();
    if dtype.bits() > 16 || dtype == DType::Bool || tensor.len() < CODES_MIN || tensor.rank() == 0 {
        return None;
    }
    let (low, _) = dtype.range()?;
    let codes = tensor.to_i64()?.into_iter().map(|q| u16::try_from(q - i64::from(low)));
    let codes: Vec<u16> = codes.collect::<Result<_, _>>().ok()?;
    let stream = encode_codes(&codes).ok()?;
    let dense = codes.len() <= stream.len() * CODES_PER_BYTE_MAX;
    (dense && stream.len() < tensor.size_bytes()).then_some(stream)
}

/// Codes counted from the type's lowest as a tensor; `None` where one is beyond the type.
fn codes_to_tensor(dtype: DType, shape: Vec<usize>, codes: &[u16]) -> Option<Tensor> {
    let (low, high) = dtype.range()?;
    let values: Vec<i32> = codes.iter().map(|&code| i32::from(code) + low).collect();
    if values.iter().any(|&value| value > high) {
        return None;
    }
    let buffer = match dtype {
        DType::I2 | DType::I4 | DType::I8 => Buffer::I8(values.iter().map(|&v| v as i8).collect()),
        DType::U2 | DType::U4 | DType::U8 => Buffer::U8(values.iter().map(|&v| v as u8).collect()),
        DType::I16 => Buffer::I16(values.iter().map(|&v| v as i16).collect()),
        DType::U16 => Buffer::U16(values.iter().map(|&v| v as u16).collect()),
        DType::F32 | DType::I64 | DType::I32 | DType::Bool => return None,
    };
    Tensor::try_new(dtype, shape, buffer).ok()
}

fn deflate(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(vec![], Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

fn length(number: usize, path: &Path) -> Result<[u8; 4], Error> {
    let fits = u32::try_from(number).map_err(|_| Error::Format {
        path: path.to_owned(),
        what: "a length",
        found: number.to_string(),
        expected: "below 2^32",
    })?;
    Ok(fits.to_le_bytes())
}

/// Bytes that are yet to be read.
struct Input<'a> {
    bytes: &'a [u8],
    path: &'a Path,
}

impl<'a> Input<'a> {
    fn wrong<T>(
        &self,
        what: &'static str,
        found: impl ToString,
        expected: &'static str,
    ) -> Result<T, Error> {
        let (path, found) = (self.path.to_owned(), found.to_string());
        Err(Error::Format { path, what, found, expected })
    }

    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Error> {
        let Some((head, tail)) = self.bytes.split_at_checked(count) else {
            let found = format!("{} bytes left, {count} claimed", self.bytes.len());
            return self.wrong(what, found, "a whole file");
        };
        self.bytes = tail;
        Ok(head)
    }

    fn number(&mut self, what: &'static str) -> Result<usize, Error> {
        let bytes = self.take(4, what)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    }

    /// The ONNX file without codes.
    fn inflate(&mut self) -> Result<Vec<u8>, Error> {
        let claimed = self.number("the length of the ONNX file without codes")?;
        let deflated = self.number("its deflated length")?;
        let deflated = self.take(deflated, "the ONNX file without codes")?;
        if claimed > deflated.len().saturating_mul(INFLATED_PER_BYTE_MAX) {
            let found = format!("{claimed} bytes from {}", deflated.len());
            return self.wrong("the length of the ONNX file without codes", found, "less");
        }
        let mut rest = vec![];
        let read = DeflateDecoder::new(deflated).take(claimed as u64 + 1).read_to_end(&mut rest);
        match read {
            Ok(read) if read == claimed => Ok(rest),
            Ok(_) => self.wrong("the ONNX file without codes", "another length", "the one claimed"),
            Err(error) => self.wrong("the ONNX file without codes", error, "deflated bytes"),
        }
    }

    /// The tensor with its codes.
    fn codes(&mut self, tensor: &Tensor) -> Result<Tensor, Error> {
        let mut shape = tensor.shape().to_vec();
        shape[0] = self.number("a first extent")?;
        let stream = self.number("the length of a stream")?;
        let stream = self.take(stream, "a stream")?;
        let count = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
        let most = stream.len().saturating_mul(CODES_PER_BYTE_MAX);
        let Some(count) = count.filter(|&count| count <= most) else {
            let found = format!("{shape:?} from {} bytes", stream.len());
            return self.wrong("the shape of codes", found, "at most 1024 codes a byte");
        };
        let codes = match decode_codes(stream, count) {
            Ok(codes) if codes.len() == count => codes,
            Ok(codes) => {
                let found = format!("{} for shape {shape:?}", codes.len());
                return self.wrong("the number of codes", found, "as many as the shape says");
            }
            Err(error) => return self.wrong("a stream", error, "entropy-coded codes"),
        };
        match codes_to_tensor(tensor.dtype(), shape, &codes) {
            Some(tensor) => Ok(tensor),
            None => self.wrong("a code", "one beyond its type", "codes of the initializer's type"),
        }
    }
}

#[cfg(test)]
mod tests;
