//! GGUF files: opening, validating and viewing them.
//!
//! This module owns the file format: header, metadata, tensor directory, split files. Every number of a file is
//! checked before it is used, because files come from strangers: no byte sequence makes it panic, and work and memory
//! are bounded by the limits in [`header`]. It does not know what the metadata means to a model or a tokenizer, and it
//! does not dequantise.
//!
//! The tensors are viewed in a memory map. A file that another program shortens while it is mapped makes the next
//! touch of the lost pages raise SIGBUS. The model store keeps its files read-only and never changes one in place;
//! for a file of the user's own see [`Gguf::check_unchanged`].

mod error;
mod header;
mod mapped;
#[cfg(test)]
pub(crate) mod mutate;
mod reader;
mod split;
mod value;
#[cfg(test)]
pub(crate) mod write;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

pub use error::{GgufError, Problem};
pub use mapped::MappedFile;
pub use rbee_kernels::block_type::BlockType;
pub use split::{SplitName, split_parts};
pub use value::{Array, Value};

/// One tensor of a model file, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    pub name: String,
    pub dtype: BlockType,
    /// ggml order: `shape[0]` is the contiguous (input) dimension. One to four dimensions, none of them zero,
    /// `shape[0]` a multiple of the type's block length.
    pub shape: Vec<usize>,
    /// Which file of a split model holds the bytes.
    pub(crate) part: usize,
    /// Where the bytes begin in that file.
    pub(crate) start: usize,
    /// How many bytes there are.
    pub(crate) bytes: usize,
}

impl TensorInfo {
    /// Number of elements; it cannot overflow because opening the file checked it.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Number of bytes of the tensor's data.
    pub fn byte_len(&self) -> usize {
        self.bytes
    }
}

/// One tensor with its bytes, exactly [`TensorInfo::byte_len`] of them, in the block layout of `info.dtype`.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    pub info: &'a TensorInfo,
    pub data: &'a [u8],
}

/// An open model: one GGUF file, or all files of a split one.
#[derive(Debug)]
pub struct Gguf {
    /// The metadata of the (first) file.
    pub metadata: BTreeMap<String, Value>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    parts: Vec<MappedFile>,
}

impl Gguf {
    /// Opens and validates a file. Any part of a split model (`name-00001-of-00003.gguf`) opens the whole model; its
    /// other parts must lie in the same directory.
    ///
    /// # Errors
    /// [`GgufError`] names the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Gguf, GgufError> {
        let parts = split_parts(path);
        if parts.len() == 1 {
            let file = MappedFile::open(path).map_err(|problem| error::at(path, problem))?;
            let header = header::parse(file.bytes()).map_err(|problem| error::at(path, problem))?;
            if let Some(count) = split::declared_count(&header).filter(|count| *count > 1) {
                return Err(error::at(path, Problem::SplitName { count }));
            }
            return Gguf::assemble(vec![(path.to_path_buf(), file, header)]);
        }
        Gguf::open_parts(&parts)
    }

    /// Opens a model from its files, in order. One file is an ordinary model.
    ///
    /// # Errors
    /// As [`Gguf::open`]; also when the files do not say that they belong together in this order.
    pub fn open_parts(paths: &[PathBuf]) -> Result<Gguf, GgufError> {
        let mut opened = Vec::with_capacity(paths.len());
        for (number, path) in paths.iter().enumerate() {
            let file = MappedFile::open(path).map_err(|problem| match problem {
                Problem::Io(io) if io.kind() == std::io::ErrorKind::NotFound && paths.len() > 1 => {
                    error::at(
                        path,
                        Problem::MissingPart {
                            number: number + 1,
                            count: paths.len(),
                        },
                    )
                }
                problem => error::at(path, problem),
            })?;
            let header = header::parse(file.bytes()).map_err(|problem| error::at(path, problem))?;
            split::check_part(&header, number, paths.len())
                .map_err(|problem| error::at(path, problem))?;
            opened.push((path.clone(), file, header));
        }
        Gguf::assemble(opened)
    }

    fn assemble(opened: Vec<(PathBuf, MappedFile, header::Header)>) -> Result<Gguf, GgufError> {
        let mut metadata = BTreeMap::new();
        let mut tensors = Vec::new();
        let mut by_name = HashMap::new();
        let mut parts = Vec::with_capacity(opened.len());
        let mut declared = None;
        for (part, (path, file, header)) in opened.into_iter().enumerate() {
            for mut info in header.tensors {
                info.part = part;
                if by_name.insert(info.name.clone(), tensors.len()).is_some() {
                    return Err(error::at(
                        &path,
                        Problem::DuplicateTensor { name: info.name },
                    ));
                }
                tensors.push(info);
            }
            if part == 0 {
                metadata = header.metadata;
                declared = split::declared_tensors(&metadata).map(|count| (path, count));
            }
            parts.push(file);
        }
        if let Some((path, count)) = declared.filter(|(_, count)| *count != tensors.len() as u64) {
            return Err(error::at(
                &path,
                Problem::SplitTensors {
                    declared: count,
                    found: tensors.len() as u64,
                },
            ));
        }
        Ok(Gguf {
            metadata,
            tensors,
            by_name,
            parts,
        })
    }

    /// The tensor of that name, with its bytes.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let info = &self.tensors[*self.by_name.get(name)?];
        Some(Tensor {
            info,
            data: self.data(info),
        })
    }

    /// All tensors, in file order.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.iter()
    }

    fn data(&self, info: &TensorInfo) -> &[u8] {
        &self.parts[info.part].bytes()[info.start..info.start + info.bytes]
    }

    /// The metadata value of that key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// `general.architecture`, such as `llama`.
    ///
    /// # Errors
    /// The key is missing or not a string.
    pub fn architecture(&self) -> Result<&str, GgufError> {
        const KEY: &str = "general.architecture";
        self.get(KEY).and_then(Value::as_str).ok_or_else(|| {
            error::at(
                self.path(),
                Problem::MissingKey {
                    key: KEY.to_owned(),
                    wanted: "a string",
                },
            )
        })
    }

    /// The (first) file of the model, for messages.
    pub fn path(&self) -> &Path {
        self.parts[0].path()
    }

    /// Bytes of all tensors together.
    pub fn tensor_bytes(&self) -> u64 {
        self.tensors.iter().map(|info| info.bytes as u64).sum()
    }

    /// Takes the tensor's pages out of this process's memory, for a loader that has copied it. They are read from the
    /// file again if the tensor is.
    pub fn release(&self, name: &str) {
        if let Some(index) = self.by_name.get(name) {
            let info = &self.tensors[*index];
            self.parts[info.part].release(info.start..info.start + info.bytes);
        }
    }

    /// Looks whether the files still have the size and modification time they had when they were mapped. A loader
    /// calls it after it has read the weights, so that a file changed meanwhile is an error and not wrong numbers.
    ///
    /// # Errors
    /// Names the file that changed.
    pub fn check_unchanged(&self) -> Result<(), GgufError> {
        for part in &self.parts {
            part.check_unchanged()
                .map_err(|problem| error::at(part.path(), problem))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
