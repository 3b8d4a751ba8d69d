//! The form that an answer must have.
//!
//! Owns the types and their serde form, which the job key hashes: a schema is kept as it was written, since the order of its
//! properties is the order in which they are answered. Owns no reading of bodies (that is `jsonl`) and no grammars (that is
//! the worker).

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Greatest length of a schema, regular expression or grammar, as JSON or text.
pub const MAX_FORMAT_BYTES: usize = 256 << 10;

/// What every answer of a request is an instance of, unless it is cut off by its length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema describes.
    JsonSchema(Value),
    /// A text that a regular expression matches as a whole.
    Regex(String),
    /// A text of a context-free language, in llguidance's variant of Lark.
    Grammar(String),
}

impl ResponseFormat {
    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        match self {
            ResponseFormat::JsonObject => 0,
            ResponseFormat::JsonSchema(schema) => schema.to_string().len(),
            ResponseFormat::Regex(text) | ResponseFormat::Grammar(text) => text.len(),
        }
    }
}
