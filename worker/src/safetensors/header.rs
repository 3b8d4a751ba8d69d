//! The header of one safetensors file: 8 bytes of length, JSON that maps names to type, shape and byte range, then the
//! data. Parsed with the `safetensors` crate's types and checked here: that crate adds untrusted offsets unchecked.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo as RawTensor;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::error::Problem;
use crate::gguf::{BlockType, TensorInfo};

/// The largest real headers are under 10 MB; the format allows 100 MB.
const HEADER_BYTES_MAX: u64 = 32 << 20;
/// Real files have up to a few thousand tensors.
const TENSORS_MAX: usize = 131_072;
/// As for GGUF.
const DIMENSIONS_MAX: usize = 4;
const TENSOR_NAME_BYTES_MAX: usize = 1_024;
const LENGTH_BYTES: usize = 8;

/// Parses and checks the header of a file given whole; the tensors' `start` are absolute positions in the file.
pub(super) fn parse(file: &[u8]) -> Result<Vec<TensorInfo>, Problem> {
    let bad = |reason: &str| Problem::Header(reason.to_owned());
    let (length, rest) = file
        .split_first_chunk::<LENGTH_BYTES>()
        .ok_or_else(|| bad("it is shorter than 8 bytes"))?;
    let length = u64::from_le_bytes(*length);
    if length > HEADER_BYTES_MAX {
        return Err(bad("its header is longer than any real one"));
    }
    let header = rest
        .get(..length as usize)
        .ok_or_else(|| bad("it ends inside its header; it is truncated"))?;
    let data_start = LENGTH_BYTES + header.len();
    let data_len = file.len() - data_start;
    let mut deserializer = serde_json::Deserializer::from_slice(header);
    let raw = deserializer
        .deserialize_map(HeaderVisitor)
        .and_then(|raw| deserializer.end().map(|()| raw))
        .map_err(|e| Problem::Header(format!("its header is not as it should be ({e})")))?;
    let mut tensors = Vec::with_capacity(raw.len());
    for (name, tensor) in raw {
        if let Some(mut info) = check(name, &tensor, data_len)? {
            info.start += data_start;
            tensors.push(info);
        }
    }
    check_overlap(&mut tensors)?;
    Ok(tensors)
}

/// Reads the header's entries, refusing a name that comes twice: with two entries it would be open which one counts.
struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = BTreeMap<String, RawTensor>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensor names to types, shapes and offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        use serde::de::Error as _;
        let mut tensors = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if tensors.len() >= TENSORS_MAX {
                return Err(A::Error::custom(format!("more than {TENSORS_MAX} tensors")));
            }
            if name.len() > TENSOR_NAME_BYTES_MAX {
                return Err(A::Error::custom("a tensor name longer than any real one"));
            }
            if tensors.contains_key(&name) {
                return Err(A::Error::custom(format!("the tensor {name:?} twice")));
            }
            let tensor = map.next_value()?;
            tensors.insert(name, tensor);
        }
        Ok(tensors)
    }
}

/// `None` for a tensor that is no weight.
fn check(name: String, raw: &RawTensor, data_len: usize) -> Result<Option<TensorInfo>, Problem> {
    let dtype = match raw.dtype {
        Dtype::F32 => BlockType::F32,
        Dtype::F16 => BlockType::F16,
        Dtype::BF16 => BlockType::BF16,
        // Buffers such as position ids; no weight that rbee computes with is an integer.
        Dtype::BOOL
        | Dtype::U8
        | Dtype::I8
        | Dtype::I16
        | Dtype::U16
        | Dtype::I32
        | Dtype::U32
        | Dtype::I64
        | Dtype::U64 => {
            return Ok(None);
        }
        other => {
            return Err(Problem::TensorType {
                name,
                dtype: format!("{other:?}"),
            });
        }
    };
    let (start, end) = raw.data_offsets;
    let mut shape: Vec<usize> = raw.shape.iter().rev().copied().collect();
    if shape.is_empty() {
        shape.push(1);
    }
    let elements = shape
        .iter()
        .try_fold(1usize, |product, dimension| product.checked_mul(*dimension));
    let Some(elements) = elements.filter(|count| *count > 0 && shape.len() <= DIMENSIONS_MAX)
    else {
        return Err(Problem::Shape {
            name,
            shape: raw.shape.clone(),
        });
    };
    let fits = dtype
        .bytes_of(elements)
        .is_some_and(|bytes| end.checked_sub(start) == Some(bytes))
        && end <= data_len;
    if !fits {
        return Err(Problem::Offsets { name, start, end });
    }
    Ok(Some(TensorInfo {
        name,
        dtype,
        shape,
        part: 0,
        start,
        bytes: end - start,
    }))
}

/// Also puts the tensors into file order.
fn check_overlap(tensors: &mut [TensorInfo]) -> Result<(), Problem> {
    tensors.sort_by_key(|info| info.start);
    for pair in tensors.windows(2) {
        if pair[0].start + pair[0].bytes > pair[1].start {
            return Err(Problem::Overlap {
                first: pair[0].name.clone(),
                second: pair[1].name.clone(),
            });
        }
    }
    Ok(())
}
