//! What can be wrong with a GGUF file, each with its sentence.

use std::path::{Path, PathBuf};

/// A file that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct GgufError {
    pub path: PathBuf,
    #[source]
    pub problem: Problem,
}

/// The reasons. All but the first four mean that the file is damaged, hostile or of a kind that rbee does not know.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("is not a regular file; give the path of a .gguf file")]
    NotAFile,
    #[error(
        "changed while it was being read; leave model files alone while they load, and start again"
    )]
    Changed,
    #[error(
        "part {number} of {count} of this split model is missing; put all parts into one directory"
    )]
    MissingPart { number: usize, count: usize },
    #[error("is not a GGUF file (it does not begin with the letters GGUF)")]
    Magic,
    #[error(
        "is GGUF version {0}, and rbee reads versions 2 and 3; convert it again with a current converter"
    )]
    Version(u32),
    #[error(
        "is a big-endian GGUF file, and rbee reads little-endian ones; convert it for this machine"
    )]
    BigEndian,
    #[error("ends inside its {what}; it is truncated, fetch it again")]
    Truncated { what: &'static str },
    #[error("claims {value} for its {what}, and the limit is {limit}; the file is damaged")]
    Limit {
        what: &'static str,
        value: u64,
        limit: u64,
    },
    #[error("has a {what} that is not UTF-8 text; the file is damaged")]
    NotUtf8 { what: &'static str },
    #[error(
        "has metadata value {key:?} of unknown type {kind}; the file is damaged or newer than rbee"
    )]
    ValueType { key: String, kind: u32 },
    #[error("has a boolean {key:?} that is neither 0 nor 1; the file is damaged")]
    Bool { key: String },
    #[error("has the metadata key {key:?} twice; the file is damaged")]
    DuplicateKey { key: String },
    #[error("has the tensor {name:?} twice; the file is damaged")]
    DuplicateTensor { name: String },
    #[error(
        "has general.alignment {0}, which is not a power of two from 1 to 65536; the file is damaged"
    )]
    Alignment(u64),
    #[error(
        "holds tensor {name:?} of type {kind}, which rbee cannot compute with; use a file in one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K"
    )]
    TensorType { name: String, kind: String },
    #[error(
        "has tensor {name:?} of shape {shape:?}, which is not possible for {dtype}; the file is damaged"
    )]
    Shape {
        name: String,
        shape: Vec<u64>,
        dtype: &'static str,
    },
    #[error(
        "has tensor {name:?} at offset {offset}, which is not aligned to {alignment}; the file is damaged"
    )]
    Misaligned {
        name: String,
        offset: u64,
        alignment: u64,
    },
    #[error(
        "is too short for tensor {name:?}: it has {len} bytes and the tensor ends at {end}; it is truncated, fetch it again"
    )]
    OutOfFile { name: String, end: u64, len: u64 },
    #[error("has tensors {first:?} and {second:?} on the same bytes; the file is damaged")]
    Overlap { first: String, second: String },
    #[error(
        "lacks the metadata key {key:?} ({wanted}); the file is no language model or is damaged"
    )]
    MissingKey { key: String, wanted: &'static str },
    #[error(
        "is one of {count} parts of a split model; its name must end in -00001-of-{count:05}.gguf (with its own number) so that the other parts are found"
    )]
    SplitName { count: u64 },
    #[error(
        "says it is part {declared} of {declared_count}, but stands as part {number} of {count}; the parts do not belong together"
    )]
    SplitOrder {
        declared: u64,
        declared_count: u64,
        number: usize,
        count: usize,
    },
    #[error(
        "declares {declared} tensors over all parts, but {found} are there; the parts do not belong together"
    )]
    SplitTensors { declared: u64, found: u64 },
}

/// Binds a problem to its file.
pub(super) fn at(path: &Path, problem: Problem) -> GgufError {
    GgufError {
        path: path.to_path_buf(),
        problem,
    }
}
