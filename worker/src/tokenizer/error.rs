//! What can be wrong with a tokenizer of a model file.

/// Why a tokenizer could not be built. Every message names the field or file at fault.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The metadata lacks a field that the tokenizer cannot do without.
    #[error(
        "the model file has no `{key}`: it carries no usable tokenizer; use a complete GGUF file"
    )]
    Missing {
        /// The metadata key.
        key: &'static str,
    },
    /// A field has a value that contradicts the rest or breaks a limit.
    #[error("the tokenizer field `{key}` is not usable: {why}")]
    Invalid {
        /// The metadata key or the JSON path.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// `tokenizer.ggml.model` names a kind of tokenizer that rbee does not have.
    #[error(
        "the tokenizer model `{name}` is not supported; supported are `gpt2` (byte-level BPE) and `llama` (SPM)"
    )]
    UnknownModel {
        /// The value found.
        name: String,
    },
    /// `tokenizer.ggml.pre` names a pre-tokenizer that rbee does not have.
    #[error(
        "the pre-tokenizer `{name}` is not supported: splitting the text by a guess would give wrong tokens; supported are {supported}"
    )]
    UnknownPre {
        /// The value found.
        name: String,
        /// The names rbee knows, comma-separated.
        supported: String,
    },
    /// A tokenizer file of a safetensors model could not be read or parsed.
    #[error("cannot use {file}: {why}")]
    File {
        /// The file's name inside the model directory.
        file: String,
        /// What is wrong with it.
        why: String,
    },
}
