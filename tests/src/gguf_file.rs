//! Writing GGUF files, version 3: the tests' own writer, so that reader and writer share no code.

use std::io::{self, Write};
use std::path::Path;

use candle_core::quantized::{GgmlDType, QTensor};

/// A metadata value of the kinds that models carry.
#[derive(Clone, Debug)]
pub enum Value {
    U32(u32),
    U16(u16),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Strings(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
}

const ALIGNMENT: usize = 32;
const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;
const TYPE_I32: u32 = 5;
const TYPE_F32: u32 = 6;

/// A tensor's name, its shape with the contiguous dimension first as GGUF has it, its type and bytes.
#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub dtype: GgmlDType,
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// From candle's quantised tensor, whose shape has the contiguous dimension last.
    pub fn new(name: &str, tensor: &QTensor) -> Tensor {
        Tensor {
            name: name.to_string(),
            shape: tensor.shape().dims().iter().rev().copied().collect(),
            dtype: tensor.dtype(),
            bytes: tensor
                .data()
                .expect("a CPU tensor has its bytes")
                .into_owned(),
        }
    }
}

/// A whole file.
#[derive(Clone, Default)]
pub struct GgufFile {
    pub metadata: Vec<(String, Value)>,
    pub tensors: Vec<Tensor>,
}

impl GgufFile {
    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(b"GGUF");
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_string(&mut out, key);
            put_value(&mut out, value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            put_string(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            for length in &tensor.shape {
                out.extend((*length as u64).to_le_bytes());
            }
            out.extend(type_id(tensor.dtype).to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset += tensor.bytes.len().next_multiple_of(ALIGNMENT);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            out.extend(&tensor.bytes);
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out
    }

    pub fn write(&self, path: &Path) -> io::Result<()> {
        std::fs::File::create(path)?.write_all(&self.bytes())
    }

    /// The same model as `parts` files, `NAME-00001-of-0000N.gguf`, as llama.cpp splits them. Returns the first's path.
    pub fn write_split(
        &self,
        dir: &Path,
        name: &str,
        parts: usize,
    ) -> io::Result<std::path::PathBuf> {
        let per_part = self.tensors.len().div_ceil(parts);
        let path = |part: usize| dir.join(format!("{name}-{:05}-of-{parts:05}.gguf", part + 1));
        for part in 0..parts {
            let mut metadata = if part == 0 {
                self.metadata.clone()
            } else {
                Vec::new()
            };
            metadata.push(("split.no".into(), Value::U16(part as u16)));
            metadata.push(("split.count".into(), Value::U16(parts as u16)));
            metadata.push((
                "split.tensors.count".into(),
                Value::I32(self.tensors.len() as i32),
            ));
            let tensors = self
                .tensors
                .iter()
                .skip(part * per_part)
                .take(per_part)
                .cloned()
                .collect();
            GgufFile { metadata, tensors }.write(&path(part))?;
        }
        Ok(path(0))
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_array<T>(
    out: &mut Vec<u8>,
    element: u32,
    items: &[T],
    mut put: impl FnMut(&mut Vec<u8>, &T),
) {
    out.extend(TYPE_ARRAY.to_le_bytes());
    out.extend(element.to_le_bytes());
    out.extend((items.len() as u64).to_le_bytes());
    for item in items {
        put(out, item);
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut plain = |kind: u32, bytes: &[u8]| {
        out.extend(kind.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::U16(number) => plain(2, &number.to_le_bytes()),
        Value::U32(number) => plain(4, &number.to_le_bytes()),
        Value::I32(number) => plain(TYPE_I32, &number.to_le_bytes()),
        Value::F32(number) => plain(TYPE_F32, &number.to_le_bytes()),
        Value::Bool(truth) => plain(7, &[u8::from(*truth)]),
        Value::String(text) => {
            plain(TYPE_STRING, &[]);
            put_string(out, text);
        }
        Value::Strings(texts) => {
            put_array(out, TYPE_STRING, texts, |out, text| put_string(out, text))
        }
        Value::I32s(numbers) => put_array(out, TYPE_I32, numbers, |out, number| {
            out.extend(number.to_le_bytes())
        }),
        Value::F32s(numbers) => put_array(out, TYPE_F32, numbers, |out, number| {
            out.extend(number.to_le_bytes())
        }),
    }
}

/// ggml's number of a block type.
fn type_id(dtype: GgmlDType) -> u32 {
    match dtype {
        GgmlDType::F32 => 0,
        GgmlDType::F16 => 1,
        GgmlDType::Q4_0 => 2,
        GgmlDType::Q4_1 => 3,
        GgmlDType::Q5_0 => 6,
        GgmlDType::Q5_1 => 7,
        GgmlDType::Q8_0 => 8,
        GgmlDType::Q8_1 => 9,
        GgmlDType::Q2K => 10,
        GgmlDType::Q3K => 11,
        GgmlDType::Q4K => 12,
        GgmlDType::Q5K => 13,
        GgmlDType::Q6K => 14,
        GgmlDType::Q8K => 15,
        GgmlDType::BF16 => 30,
    }
}
