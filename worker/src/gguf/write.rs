//! Writing GGUF files (version 3) for the tests of what reads them. It writes what it is given, valid or not, apart
//! from the layout that the format prescribes.

use super::{Array, BlockType, Value};

const ALIGNMENT: usize = 32;

/// Collects metadata and tensors, then gives the file's bytes.
#[derive(Debug, Default, Clone)]
pub struct GgufWriter {
    metadata: Vec<(String, Value)>,
    tensors: Vec<(String, BlockType, Vec<usize>, Vec<u8>)>,
}

impl GgufWriter {
    pub fn new(architecture: &str) -> GgufWriter {
        let mut writer = GgufWriter::default();
        writer.set(
            "general.architecture",
            Value::String(architecture.to_owned()),
        );
        writer
    }

    /// Adds a metadata value; a key that is already there gets the new value.
    pub fn set(&mut self, key: &str, value: Value) -> &mut GgufWriter {
        match self
            .metadata
            .iter_mut()
            .find(|(existing, _)| existing == key)
        {
            Some((_, slot)) => *slot = value,
            None => self.metadata.push((key.to_owned(), value)),
        }
        self
    }

    /// Adds a tensor: shape in ggml order (`shape[0]` contiguous), data in the block layout of `dtype`.
    pub fn tensor(
        &mut self,
        name: &str,
        dtype: BlockType,
        shape: &[usize],
        data: Vec<u8>,
    ) -> &mut GgufWriter {
        self.tensors
            .push((name.to_owned(), dtype, shape.to_vec(), data));
        self
    }

    /// Adds a tensor of F32.
    pub fn tensor_f32(&mut self, name: &str, shape: &[usize], data: &[f32]) -> &mut GgufWriter {
        self.tensor(
            name,
            BlockType::F32,
            shape,
            data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        )
    }

    /// The whole file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_string(&mut out, key);
            put_value(&mut out, value);
        }
        let mut offset = 0usize;
        for (name, dtype, shape, data) in &self.tensors {
            put_string(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            shape
                .iter()
                .for_each(|dimension| out.extend((*dimension as u64).to_le_bytes()));
            out.extend(dtype.id().to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset = (offset + data.len()).next_multiple_of(ALIGNMENT);
        }
        for (_, _, _, data) in &self.tensors {
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            out.extend(data);
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out
    }

    /// The same model as `count` files in split form; tensor i goes to part i modulo count. Part 0 holds the metadata.
    pub fn to_split(&self, count: usize) -> Vec<Vec<u8>> {
        (0..count)
            .map(|number| {
                let mut part = GgufWriter::default();
                if number == 0 {
                    part.metadata.clone_from(&self.metadata);
                }
                part.set("split.no", Value::U16(number as u16));
                part.set("split.count", Value::U16(count as u16));
                part.set("split.tensors.count", Value::I32(self.tensors.len() as i32));
                part.tensors = self
                    .tensors
                    .iter()
                    .skip(number)
                    .step_by(count)
                    .cloned()
                    .collect();
                part.to_bytes()
            })
            .collect()
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |kind: u32, bytes: &[u8]| {
        out.extend(kind.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::U8(v) => put(0, &v.to_le_bytes()),
        Value::I8(v) => put(1, &v.to_le_bytes()),
        Value::U16(v) => put(2, &v.to_le_bytes()),
        Value::I16(v) => put(3, &v.to_le_bytes()),
        Value::U32(v) => put(4, &v.to_le_bytes()),
        Value::I32(v) => put(5, &v.to_le_bytes()),
        Value::F32(v) => put(6, &v.to_le_bytes()),
        Value::Bool(v) => put(7, &[u8::from(*v)]),
        Value::String(v) => {
            put(8, &[]);
            put_string(out, v);
        }
        Value::Array(v) => {
            put(9, &[]);
            put_array(out, v);
        }
        Value::U64(v) => put(10, &v.to_le_bytes()),
        Value::I64(v) => put(11, &v.to_le_bytes()),
        Value::F64(v) => put(12, &v.to_le_bytes()),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    let (kind, bytes): (u32, Vec<u8>) = match array {
        Array::U8(v) => (0, v.clone()),
        Array::I8(v) => (1, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Array::U16(v) => (2, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Array::I16(v) => (3, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Array::U32(v) => (4, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Array::I32(v) => (5, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Array::F32(v) => (6, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Array::Bool(v) => (7, v.iter().map(|x| u8::from(*x)).collect()),
        Array::U64(v) => (10, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Array::I64(v) => (11, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Array::F64(v) => (12, v.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Array::String(v) => {
            let mut bytes = Vec::new();
            v.iter().for_each(|text| put_string(&mut bytes, text));
            (8, bytes)
        }
        Array::Array(v) => {
            let mut bytes = Vec::new();
            v.iter().for_each(|inner| put_array(&mut bytes, inner));
            (9, bytes)
        }
    };
    out.extend(kind.to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    out.extend(bytes);
}
