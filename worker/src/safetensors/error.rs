//! What can be wrong with a safetensors model, each with its sentence.

use std::path::{Path, PathBuf};

use crate::gguf;

/// A file or directory that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct SafetensorsError {
    pub path: PathBuf,
    #[source]
    pub problem: Problem,
}

/// The reasons.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Map(gguf::Problem),
    #[error("is longer than {limit} bytes, which no real one is; it is damaged")]
    TooLong { limit: u64 },
    #[error("is not {what}: {reason}")]
    Json { what: &'static str, reason: String },
    #[error("is not a safetensors file: {0}")]
    Header(String),
    #[error("has a tensor count of {found}, and the limit is {limit}; the file is damaged")]
    TooManyTensors { found: usize, limit: usize },
    #[error(
        "holds tensor {name:?} of type {dtype}, which rbee cannot compute with; use a model in F32, F16 or BF16, or a GGUF file"
    )]
    TensorType { name: String, dtype: String },
    #[error("has tensor {name:?} of shape {shape:?}, which is not possible; the file is damaged")]
    Shape { name: String, shape: Vec<usize> },
    #[error(
        "has tensor {name:?} with bytes {start} to {end}, which do not fit its shape or the file; it is damaged or truncated, fetch it again"
    )]
    Offsets {
        name: String,
        start: usize,
        end: usize,
    },
    #[error("has tensors {first:?} and {second:?} on the same bytes; the file is damaged")]
    Overlap { first: String, second: String },
    #[error("has the tensor {name:?} a second time; the model's files do not belong together")]
    DuplicateTensor { name: String },
    #[error(
        "is quantised by {method}, which rbee cannot load as safetensors; use the unquantised model or a GGUF file"
    )]
    Quantised { method: String },
    #[error(
        "names the weight file {name:?}, which is not safe to use; the index is broken or hostile"
    )]
    UnsafeName { name: String },
    #[error("lacks the weight file {name} that its index names; fetch the model again")]
    MissingShard { name: String },
    #[error("has no safetensors file")]
    NoWeights,
    #[error(
        "has several safetensors files and neither model.safetensors nor an index to say which: {names}"
    )]
    ManyWeights { names: String },
}

impl From<gguf::Problem> for Problem {
    fn from(problem: gguf::Problem) -> Problem {
        Problem::Map(problem)
    }
}

/// Binds a problem to its file.
pub(super) fn at(path: &Path, problem: Problem) -> SafetensorsError {
    SafetensorsError {
        path: path.to_path_buf(),
        problem,
    }
}
