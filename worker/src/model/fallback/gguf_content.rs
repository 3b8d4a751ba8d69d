//! A validated GGUF file in the form in which candle's loaders want it.
//!
//! candle's own reader of the format is not used: its loaders get a directory that is made from [`Gguf`], and a reader
//! over the tensors' bytes at addresses of our own. So split files load too, and a tensor can be shown to candle under
//! other names, in parts or joined.

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};

use candle_core::Shape;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value, VersionedMagic};

use crate::gguf::{self, BlockType, Gguf, Tensor};

/// Longest metadata array that is passed on: one number a layer.
const ARRAY_LEN_MAX: usize = 1024;

/// What candle will see of a file.
pub struct Showcase<'a> {
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, TensorInfo>,
    bytes: TensorBytes<'a>,
}

impl<'a> Showcase<'a> {
    /// All tensors, and the metadata under the architecture's prefix.
    pub fn new(gguf: &'a Gguf, architecture: &str) -> Showcase<'a> {
        let mut showcase = Showcase {
            metadata: HashMap::new(),
            tensors: HashMap::new(),
            bytes: TensorBytes::default(),
        };
        let prefix = format!("{architecture}.");
        for (key, value) in &gguf.metadata {
            if let Some(value) = key.starts_with(&prefix).then(|| converted(value)).flatten() {
                showcase.metadata.insert(key.clone(), value);
            }
        }
        showcase.set(
            "general.architecture",
            Value::String(architecture.to_owned()),
        );
        for tensor in gguf.tensors().filter_map(|info| gguf.tensor(&info.name)) {
            let rows = rows_first(&tensor.info.shape);
            showcase.add(&tensor.info.name, tensor.info.dtype, rows, &[tensor.data]);
        }
        showcase
    }

    /// Sets a metadata value.
    pub fn set(&mut self, key: &str, value: Value) {
        self.metadata.insert(key.to_owned(), value);
    }

    /// Adds a tensor; `shape` has the contiguous dimension last, `parts` follow each other.
    fn add(&mut self, name: &str, dtype: BlockType, shape: Vec<usize>, parts: &[&'a [u8]]) {
        let offset = self.bytes.end;
        for part in parts {
            self.bytes.push(part);
        }
        let info = TensorInfo {
            ggml_dtype: ggml_type(dtype),
            shape: Shape::from(shape),
            offset,
        };
        self.tensors.insert(name.to_owned(), info);
    }

    /// Shows the slices of a tensor's outermost dimension as tensors of their own. Without such a tensor nothing is
    /// added.
    ///
    /// # Errors
    /// A clause when it has no outermost dimension beside rows and columns.
    pub fn add_slices(
        &mut self,
        gguf: &'a Gguf,
        name: &str,
        slice_name: impl Fn(usize) -> String,
    ) -> Result<(), String> {
        let Some(Tensor { info, data }) = gguf.tensor(name) else {
            return Ok(());
        };
        let [columns, rows, slices] = info.shape[..] else {
            return Err(format!("its tensor {name} does not have three dimensions"));
        };
        for (number, slice) in data.chunks_exact(data.len() / slices).enumerate() {
            self.add(
                &slice_name(number),
                info.dtype,
                vec![rows, columns],
                &[slice],
            );
        }
        Ok(())
    }

    /// Shows several tensors of one type as one, their rows below each other. When one of them is missing nothing is
    /// added.
    ///
    /// # Errors
    /// A clause when they differ in type or columns.
    pub fn add_joined(
        &mut self,
        gguf: &'a Gguf,
        name: &str,
        parts: &[String],
    ) -> Result<(), String> {
        let Some(parts) = parts
            .iter()
            .map(|part| gguf.tensor(part))
            .collect::<Option<Vec<Tensor<'a>>>>()
        else {
            return Ok(());
        };
        let Some(first) = parts.first() else {
            return Ok(());
        };
        let outer = first.info.shape.len() - 1;
        let fits = |part: &Tensor<'_>| {
            part.info.dtype == first.info.dtype
                && part.info.shape.len() == first.info.shape.len()
                && part.info.shape[..outer] == first.info.shape[..outer]
        };
        if let Some(other) = parts.iter().find(|part| !fits(part)) {
            return Err(format!(
                "its tensors {} and {} differ in type or shape, and candle wants them as one",
                first.info.name, other.info.name
            ));
        }
        let mut shape = first.info.shape.clone();
        shape[outer] = parts.iter().map(|part| part.info.shape[outer]).sum();
        let data: Vec<&[u8]> = parts.iter().map(|part| part.data).collect();
        self.add(name, first.info.dtype, rows_first(&shape), &data);
        Ok(())
    }

    /// For candle.
    pub fn finish(self) -> (Content, TensorBytes<'a>) {
        let content = Content {
            magic: VersionedMagic::GgufV3,
            metadata: self.metadata,
            tensor_infos: self.tensors,
            tensor_data_offset: 0,
        };
        (content, self.bytes)
    }
}

fn rows_first(shape: &[usize]) -> Vec<usize> {
    shape.iter().rev().copied().collect()
}

/// candle asks for numbers of exactly one type, which writers of files do not keep to.
fn converted(value: &gguf::Value) -> Option<Value> {
    if let gguf::Value::Array(array) = value {
        if array.len() > ARRAY_LEN_MAX {
            return None;
        }
        let numbers = array.to_i64s()?.into_iter();
        let numbers: Option<Vec<Value>> = numbers
            .map(|number| u32::try_from(number).ok().map(Value::U32))
            .collect();
        return numbers.map(Value::Array);
    }
    if let Some(number) = value.as_u64() {
        return u32::try_from(number).ok().map(Value::U32);
    }
    if let Some(number) = value.as_f64() {
        return Some(Value::F32(number as f32));
    }
    if let Some(flag) = value.as_bool() {
        return Some(Value::Bool(flag));
    }
    value.as_str().map(|text| Value::String(text.to_owned()))
}

/// candle's name of a type.
pub fn ggml_type(dtype: BlockType) -> GgmlDType {
    match dtype {
        BlockType::F32 => GgmlDType::F32,
        BlockType::F16 => GgmlDType::F16,
        BlockType::BF16 => GgmlDType::BF16,
        BlockType::Q4_0 => GgmlDType::Q4_0,
        BlockType::Q4_1 => GgmlDType::Q4_1,
        BlockType::Q5_0 => GgmlDType::Q5_0,
        BlockType::Q5_1 => GgmlDType::Q5_1,
        BlockType::Q8_0 => GgmlDType::Q8_0,
        BlockType::Q2K => GgmlDType::Q2K,
        BlockType::Q3K => GgmlDType::Q3K,
        BlockType::Q4K => GgmlDType::Q4K,
        BlockType::Q5K => GgmlDType::Q5K,
        BlockType::Q6K => GgmlDType::Q6K,
        BlockType::Q8K => GgmlDType::Q8K,
    }
}

/// Byte slices that lie one behind the other in an address space of their own.
#[derive(Default)]
pub struct TensorBytes<'a> {
    /// Where each begins; ascending.
    pieces: Vec<(u64, &'a [u8])>,
    end: u64,
    position: u64,
}

impl<'a> TensorBytes<'a> {
    fn push(&mut self, piece: &'a [u8]) {
        self.pieces.push((self.end, piece));
        self.end += piece.len() as u64;
    }
}

impl Read for TensorBytes<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let next = self
            .pieces
            .partition_point(|(start, _)| *start <= self.position);
        let Some((start, piece)) = next.checked_sub(1).map(|index| self.pieces[index]) else {
            return Ok(0);
        };
        let rest = usize::try_from(self.position - start)
            .ok()
            .and_then(|within| piece.get(within..))
            .unwrap_or_default();
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for TensorBytes<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_across_pieces_from_any_position() {
        let mut bytes = TensorBytes::default();
        for piece in [&b"abc"[..], b"", b"de", b"fghi"] {
            bytes.push(piece);
        }
        for start in 0..=9 {
            bytes.seek(SeekFrom::Start(start)).unwrap();
            let mut rest = String::new();
            bytes.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "abcdefghi"[start as usize..]);
        }
        assert_eq!(bytes.seek(SeekFrom::End(-2)).unwrap(), 7);
        assert!(bytes.seek(SeekFrom::Current(-8)).is_err());
    }
}
