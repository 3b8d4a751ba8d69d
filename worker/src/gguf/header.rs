//! The header of one GGUF file: metadata and tensor directory, parsed and validated. Layout: the GGUF specification of
//! ggml, versions 2 and 3, little endian.

use std::collections::{BTreeMap, HashSet};

use super::error::Problem;
use super::reader::Reader;
use super::{Array, BlockType, TensorInfo, Value};

/// Metadata and directory of the largest models stay under 50 MB (mostly vocabulary); more is damage or malice. What
/// is parsed of it takes at most about three times as much memory.
pub const HEADER_BYTES_MAX: u64 = 128 << 20;
/// Real files have under a hundred keys.
pub const KEYS_MAX: u64 = 65_536;
/// Real files have up to a few thousand tensors.
pub const TENSORS_MAX: u64 = 131_072;
/// The specification allows keys of 65,535 bytes.
pub const KEY_BYTES_MAX: u64 = 65_535;
/// ggml itself allows 63 bytes.
pub const TENSOR_NAME_BYTES_MAX: u64 = 1_024;
/// ggml's tensors have at most four dimensions.
pub const DIMENSIONS_MAX: u32 = 4;
/// No real file nests arrays; the specification allows it.
pub const ARRAY_DEPTH_MAX: u32 = 4;
/// Alignments in use are 32 and 64.
pub const ALIGNMENT_MAX: u64 = 65_536;
const ALIGNMENT_DEFAULT: u64 = 32;

/// A parsed header; the tensors' `start` are absolute positions in the file.
pub struct Header {
    pub metadata: BTreeMap<String, Value>,
    pub tensors: Vec<TensorInfo>,
}

/// Parses and checks the header of a file given whole.
pub(super) fn parse(file: &[u8]) -> Result<Header, Problem> {
    let head_len = file.len().min(HEADER_BYTES_MAX as usize);
    let mut reader = Reader::new(&file[..head_len]);
    let (tensor_count, key_count) = parse_counts(&mut reader)?;
    let metadata = parse_metadata(&mut reader, key_count)?;
    let alignment = alignment(&metadata)?;
    let raw = parse_directory(&mut reader, tensor_count)?;
    let data_start = (reader.position() as u64).next_multiple_of(alignment);
    let layout = Layout {
        alignment,
        data_start,
        file_len: file.len() as u64,
    };
    let tensors = raw
        .into_iter()
        .map(|tensor| layout.place(tensor))
        .collect::<Result<Vec<_>, _>>()?;
    check_overlap(&tensors)?;
    Ok(Header { metadata, tensors })
}

fn parse_counts(reader: &mut Reader<'_>) -> Result<(u64, u64), Problem> {
    // A file too short for the magic is "not GGUF" rather than "truncated GGUF".
    if reader.array::<4>().map_err(|_| Problem::Magic)? != *b"GGUF" {
        return Err(Problem::Magic);
    }
    match reader.u32()? {
        2 | 3 => {}
        version if version.swap_bytes() <= 0xffff && version > 0xffff => {
            return Err(Problem::BigEndian);
        }
        version => return Err(Problem::Version(version)),
    }
    let tensor_count = limited("number of tensors", reader.u64()?, TENSORS_MAX)?;
    let key_count = limited("number of metadata keys", reader.u64()?, KEYS_MAX)?;
    Ok((tensor_count, key_count))
}

fn limited(what: &'static str, value: u64, limit: u64) -> Result<u64, Problem> {
    if value > limit {
        Err(Problem::Limit { what, value, limit })
    } else {
        Ok(value)
    }
}

fn parse_metadata(reader: &mut Reader<'_>, count: u64) -> Result<BTreeMap<String, Value>, Problem> {
    reader.what = "metadata";
    let mut metadata = BTreeMap::new();
    for _ in 0..count {
        let key = reader.name("metadata key", KEY_BYTES_MAX)?;
        let kind = reader.u32()?;
        let value = parse_value(reader, kind, &key)?;
        if metadata.contains_key(&key) {
            return Err(Problem::DuplicateKey { key });
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn parse_value(reader: &mut Reader<'_>, kind: u32, key: &str) -> Result<Value, Problem> {
    Ok(match kind {
        0 => Value::U8(reader.array::<1>()?[0]),
        1 => Value::I8(i8::from_le_bytes(reader.array()?)),
        2 => Value::U16(u16::from_le_bytes(reader.array()?)),
        3 => Value::I16(i16::from_le_bytes(reader.array()?)),
        4 => Value::U32(reader.u32()?),
        5 => Value::I32(i32::from_le_bytes(reader.array()?)),
        6 => Value::F32(f32::from_le_bytes(reader.array()?)),
        7 => Value::Bool(parse_bool(reader.array::<1>()?[0], key)?),
        8 => Value::String(String::from_utf8_lossy(reader.string_bytes()?).into_owned()),
        9 => Value::Array(parse_array(reader, key, ARRAY_DEPTH_MAX)?),
        10 => Value::U64(reader.u64()?),
        11 => Value::I64(i64::from_le_bytes(reader.array()?)),
        12 => Value::F64(f64::from_le_bytes(reader.array()?)),
        kind => {
            return Err(Problem::ValueType {
                key: key.to_owned(),
                kind,
            });
        }
    })
}

fn parse_bool(byte: u8, key: &str) -> Result<bool, Problem> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Problem::Bool {
            key: key.to_owned(),
        }),
    }
}

fn parse_array(reader: &mut Reader<'_>, key: &str, depth_left: u32) -> Result<Array, Problem> {
    let kind = reader.u32()?;
    let count = reader.u64()?;
    Ok(match kind {
        0 => Array::U8(reader.take(count)?.to_vec()),
        1 => Array::I8(fixed(reader, count, i8::from_le_bytes)?),
        2 => Array::U16(fixed(reader, count, u16::from_le_bytes)?),
        3 => Array::I16(fixed(reader, count, i16::from_le_bytes)?),
        4 => Array::U32(fixed(reader, count, u32::from_le_bytes)?),
        5 => Array::I32(fixed(reader, count, i32::from_le_bytes)?),
        6 => Array::F32(fixed(reader, count, f32::from_le_bytes)?),
        7 => Array::Bool(
            reader
                .take(count)?
                .iter()
                .map(|byte| parse_bool(*byte, key))
                .collect::<Result<_, _>>()?,
        ),
        8 => {
            let count = reader.check_count(count, 8)?;
            let mut strings = Vec::with_capacity(count);
            for _ in 0..count {
                strings.push(String::from_utf8_lossy(reader.string_bytes()?).into_owned());
            }
            Array::String(strings)
        }
        9 => {
            let Some(depth_left) = depth_left.checked_sub(1) else {
                let limit = ARRAY_DEPTH_MAX.into();
                return Err(Problem::Limit {
                    what: "depth of nested arrays",
                    value: limit + 1,
                    limit,
                });
            };
            let count = reader.check_count(count, 12)?;
            let mut arrays = Vec::with_capacity(count);
            for _ in 0..count {
                arrays.push(parse_array(reader, key, depth_left)?);
            }
            Array::Array(arrays)
        }
        10 => Array::U64(fixed(reader, count, u64::from_le_bytes)?),
        11 => Array::I64(fixed(reader, count, i64::from_le_bytes)?),
        12 => Array::F64(fixed(reader, count, f64::from_le_bytes)?),
        kind => {
            return Err(Problem::ValueType {
                key: key.to_owned(),
                kind,
            });
        }
    })
}

fn fixed<T, const N: usize>(
    reader: &mut Reader<'_>,
    count: u64,
    decode: fn([u8; N]) -> T,
) -> Result<Vec<T>, Problem> {
    let bytes = count
        .checked_mul(N as u64)
        .ok_or(Problem::Truncated { what: reader.what })?;
    let (chunks, _) = reader.take(bytes)?.as_chunks::<N>();
    Ok(chunks.iter().map(|chunk| decode(*chunk)).collect())
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, Problem> {
    let alignment = match metadata.get("general.alignment") {
        None => ALIGNMENT_DEFAULT,
        Some(value) => value.as_u64().ok_or(Problem::Alignment(0))?,
    };
    if !alignment.is_power_of_two() || alignment > ALIGNMENT_MAX {
        return Err(Problem::Alignment(alignment));
    }
    Ok(alignment)
}

/// A directory entry as the file has it, not yet checked against the file's size.
struct RawTensor {
    name: String,
    dimensions: Vec<u64>,
    kind: u32,
    offset: u64,
}

fn parse_directory(reader: &mut Reader<'_>, count: u64) -> Result<Vec<RawTensor>, Problem> {
    reader.what = "tensor directory";
    let mut names = HashSet::new();
    let mut tensors = Vec::new();
    for _ in 0..count {
        let name = reader.name("tensor name", TENSOR_NAME_BYTES_MAX)?;
        let dimension_count = reader.u32()?;
        limited(
            "number of dimensions of a tensor",
            dimension_count.into(),
            DIMENSIONS_MAX.into(),
        )?;
        let mut dimensions = Vec::with_capacity(dimension_count as usize);
        for _ in 0..dimension_count {
            dimensions.push(reader.u64()?);
        }
        let kind = reader.u32()?;
        let offset = reader.u64()?;
        if !names.insert(name.clone()) {
            return Err(Problem::DuplicateTensor { name });
        }
        tensors.push(RawTensor {
            name,
            dimensions,
            kind,
            offset,
        });
    }
    Ok(tensors)
}

/// Where the data section lies.
struct Layout {
    alignment: u64,
    data_start: u64,
    file_len: u64,
}

impl Layout {
    fn place(&self, raw: RawTensor) -> Result<TensorInfo, Problem> {
        let dtype = BlockType::from_id(raw.kind).map_err(|kind| Problem::TensorType {
            name: raw.name.clone(),
            kind,
        })?;
        let Some((shape, bytes)) = sizes(&raw.dimensions, dtype) else {
            return Err(Problem::Shape {
                name: raw.name,
                shape: raw.dimensions,
                dtype: dtype.name(),
            });
        };
        if !raw.offset.is_multiple_of(self.alignment) {
            return Err(Problem::Misaligned {
                name: raw.name,
                offset: raw.offset,
                alignment: self.alignment,
            });
        }
        let start = self.data_start.checked_add(raw.offset);
        let end = start
            .and_then(|start| start.checked_add(bytes as u64))
            .unwrap_or(u64::MAX);
        if end > self.file_len {
            return Err(Problem::OutOfFile {
                name: raw.name,
                end,
                len: self.file_len,
            });
        }
        let start = start.expect("the end was computed from it") as usize;
        Ok(TensorInfo {
            name: raw.name,
            dtype,
            shape,
            part: 0,
            start,
            bytes,
        })
    }
}

/// Shape and byte count, or `None` when a dimension is zero, rows are no whole blocks, or the product overflows.
fn sizes(dimensions: &[u64], dtype: BlockType) -> Option<(Vec<usize>, usize)> {
    let shape = dimensions
        .iter()
        .map(|d| usize::try_from(*d).ok())
        .collect::<Option<Vec<_>>>()?;
    let first = *shape.first()?;
    if shape.contains(&0) || !first.is_multiple_of(dtype.block_len()) {
        return None;
    }
    let elements = shape
        .iter()
        .try_fold(1usize, |product, d| product.checked_mul(*d))?;
    // Kept below the signed range, so that sums of two sizes cannot overflow in any user of the shape.
    let bytes = dtype
        .bytes_of(elements)
        .filter(|bytes| isize::try_from(*bytes).is_ok())?;
    Some((shape, bytes))
}

fn check_overlap(tensors: &[TensorInfo]) -> Result<(), Problem> {
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|info| info.start);
    for pair in order.windows(2) {
        if pair[0].start + pair[0].bytes > pair[1].start {
            return Err(Problem::Overlap {
                first: pair[0].name.clone(),
                second: pair[1].name.clone(),
            });
        }
    }
    Ok(())
}
