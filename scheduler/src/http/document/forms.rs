//! What answers must be and which tools they may call, in OpenAI's bodies: their form for the document.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use utoipa::ToSchema;

/// What an answer must be.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AnswerFormat {
    /// Any text.
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that a schema describes.
    JsonSchema {
        /// The schema and its name.
        json_schema: NamedSchema,
    },
    /// A text that an expression matches.
    Regex {
        /// The expression.
        #[schema(min_length = 1)]
        regex: String,
    },
    /// A text of a language.
    Grammar {
        /// The grammar, in llguidance's variant of Lark.
        #[schema(min_length = 1)]
        grammar: String,
    },
}

/// A JSON schema with its name.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedSchema {
    /// Of no effect.
    name: Option<String>,
    /// Of no effect.
    description: Option<String>,
    /// Of no effect: answers always keep to the schema.
    strict: Option<bool>,
    /// The schema.
    schema: HashMap<String, Value>,
}

/// A function that may be called.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Tool {
    /// Always `function`.
    #[serde(rename = "type")]
    kind: FunctionWord,
    /// The function.
    function: ToolFunction,
}

/// The one kind of tool.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FunctionWord {
    /// A function.
    Function,
}

/// A function.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ToolFunction {
    /// Its name.
    #[schema(pattern = "^[a-zA-Z0-9_.-]{1,64}$")]
    name: String,
    /// What it does.
    description: Option<String>,
    /// The JSON schema of its arguments.
    parameters: Option<HashMap<String, Value>>,
}

/// Whether a tool must be called.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ToolWish {
    /// Any or none.
    Word(ToolWord),
    /// This one.
    Named(Tool),
}

/// Whether a tool must be called.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolWord {
    /// None may.
    None,
    /// As the model likes.
    Auto,
    /// One must.
    Required,
}

/// A call that an answer makes.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct AnsweredCall {
    /// `call_…`
    id: String,
    /// Always `function`.
    #[serde(rename = "type")]
    kind: FunctionWord,
    /// Which function, with what.
    function: CalledFunction,
}

/// A function with its arguments.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct CalledFunction {
    /// Its name.
    name: String,
    /// A JSON object, as a text.
    arguments: String,
}
