//! Safetensors models: a directory with `config.json` and one or more `*.safetensors` files, opened, validated and
//! viewed in the way of [`crate::gguf`].
//!
//! This module owns the file format, the index of sharded models and the limits on `config.json`. It does not know
//! what the configuration means, and it does not read the tokenizer's files. Files are untrusted: every number is
//! checked before it is used, and work and memory are bounded.

mod error;
mod header;
mod shards;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

pub use error::{Problem, SafetensorsError};
pub use shards::{INDEX_FILE, Index, is_weight_file, parse_index, read_index, weight_files};

use crate::gguf::{MappedFile, Tensor, TensorInfo};

/// Real configurations are a few kilobytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// An open safetensors model.
#[derive(Debug)]
pub struct Safetensors {
    /// The content of `config.json`.
    pub config: Map<String, Value>,
    dir: PathBuf,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    parts: Vec<MappedFile>,
}

impl Safetensors {
    /// Opens and validates the model in a directory.
    ///
    /// # Errors
    /// [`SafetensorsError`] names the file and what is wrong with it.
    pub fn open(dir: &Path) -> Result<Safetensors, SafetensorsError> {
        let config = read_config(&dir.join("config.json"))?;
        let index_path = dir.join(INDEX_FILE);
        let index = if index_path.exists() {
            Some(read_index(&index_path)?)
        } else {
            None
        };
        let names = file_names(dir)?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let files =
            weight_files(&names, index.as_ref()).map_err(|problem| error::at(dir, problem))?;
        let mut model = Safetensors {
            config,
            dir: dir.to_path_buf(),
            tensors: Vec::new(),
            by_name: HashMap::new(),
            parts: Vec::with_capacity(files.len()),
        };
        for name in files {
            model.add_file(&dir.join(name))?;
        }
        if let Some(missing) = index
            .iter()
            .flat_map(Index::tensor_names)
            .find(|name| !model.by_name.contains_key(*name))
        {
            // A tensor of a kind that is not for computing is known to the index and not to us.
            tracing::debug!(
                tensor = missing,
                "in the index but not among the usable tensors"
            );
        }
        Ok(model)
    }

    fn add_file(&mut self, path: &Path) -> Result<(), SafetensorsError> {
        let file = MappedFile::open(path).map_err(|problem| error::at(path, problem.into()))?;
        let part = self.parts.len();
        for mut info in header::parse(file.bytes()).map_err(|problem| error::at(path, problem))? {
            info.part = part;
            if self
                .by_name
                .insert(info.name.clone(), self.tensors.len())
                .is_some()
            {
                return Err(error::at(
                    path,
                    Problem::DuplicateTensor { name: info.name },
                ));
            }
            self.tensors.push(info);
        }
        self.parts.push(file);
        Ok(())
    }

    /// The tensor of that name, with its bytes. Its shape is in ggml order as everywhere in rbee: `shape[0]` is the
    /// contiguous dimension, the reverse of what the file says. A scalar has the shape `[1]`.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let info = &self.tensors[*self.by_name.get(name)?];
        Some(Tensor {
            info,
            data: &self.parts[info.part].bytes()[info.start..info.start + info.bytes],
        })
    }

    /// All usable tensors (F32, F16, BF16). Integer and boolean ones, which old files keep as buffers, are left out.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.iter()
    }

    /// As [`crate::gguf::Gguf::release`].
    pub fn release(&self, name: &str) {
        if let Some(index) = self.by_name.get(name) {
            let info = &self.tensors[*index];
            self.parts[info.part].release(info.start..info.start + info.bytes);
        }
    }

    /// The model's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes of all usable tensors together.
    pub fn tensor_bytes(&self) -> u64 {
        self.tensors.iter().map(|info| info.bytes as u64).sum()
    }

    /// As [`crate::gguf::Gguf::check_unchanged`].
    ///
    /// # Errors
    /// Names the file that changed.
    pub fn check_unchanged(&self) -> Result<(), SafetensorsError> {
        for part in &self.parts {
            part.check_unchanged()
                .map_err(|problem| error::at(part.path(), problem.into()))?;
        }
        Ok(())
    }
}

fn read_config(path: &Path) -> Result<Map<String, Value>, SafetensorsError> {
    let text = shards::read_limited(path, CONFIG_BYTES_MAX)?;
    let config: Map<String, Value> = serde_json::from_slice(&text).map_err(|e| {
        error::at(
            path,
            Problem::Json {
                what: "a JSON object",
                reason: e.to_string(),
            },
        )
    })?;
    if let Some(quantisation) = config.get("quantization_config") {
        let method = quantisation
            .get("quant_method")
            .and_then(Value::as_str)
            .unwrap_or("an unknown method");
        return Err(error::at(
            path,
            Problem::Quantised {
                method: method.to_owned(),
            },
        ));
    }
    Ok(config)
}

fn file_names(dir: &Path) -> Result<Vec<String>, SafetensorsError> {
    let failed = |e: std::io::Error| error::at(dir, Problem::Io(e));
    let mut names = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
            names.insert(name, ());
        }
    }
    Ok(names.into_keys().collect())
}

#[cfg(test)]
mod tests;
