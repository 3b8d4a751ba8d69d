//! The bodies of `/v1/embeddings`: their form for the document.

use rbee_queue::request::MAX_EMBED_TEXTS;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};

/// A text, the ids of its tokens, or a list of either.
fn texts() -> Schema {
    let text = || {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
    };
    let id = || {
        let id = ObjectBuilder::new().schema_type(Type::Integer);
        id.minimum(Some(0)).maximum(Some(u32::MAX))
    };
    let ids = || ArrayBuilder::new().items(id()).min_items(Some(1));
    let many = || {
        let many = ArrayBuilder::new().min_items(Some(1));
        many.max_items(Some(MAX_EMBED_TEXTS))
    };
    let one_of = OneOfBuilder::new()
        .item(text())
        .item(ids())
        .item(many().items(text()))
        .item(many().items(ids()));
    one_of.into()
}

/// The form of vectors.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EncodingFormat {
    /// Numbers.
    Float,
    /// Base64 of little-endian numbers of 32 bits.
    Base64,
}

/// Texts whose vectors are wanted.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingRequest {
    /// The texts.
    #[schema(schema_with = texts)]
    input: Value,
    /// The model; the server's usual one where it is missing.
    #[schema(min_length = 1)]
    model: Option<String>,
    /// Numbers where it is missing.
    encoding_format: Option<EncodingFormat>,
    /// Refused where it is not what the model's vectors have.
    #[schema(minimum = 1, maximum = 1048576)]
    dimensions: Option<i64>,
    /// Of no effect.
    user: Option<Value>,
}

/// The vector of a text.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct EmbeddingView {
    /// Always `embedding`.
    object: String,
    /// The text's place, counted from 0.
    index: u32,
    /// Numbers, or their base64.
    embedding: Value,
}

/// Tokens of the texts.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct EmbeddingUsage {
    /// Of all texts.
    prompt_tokens: u32,
    /// The same.
    total_tokens: u32,
}

/// The vectors of texts.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct EmbeddingList {
    /// Always `list`.
    object: String,
    /// The vectors in the order of their texts.
    data: Vec<EmbeddingView>,
    /// The model as requested.
    model: String,
    /// Tokens.
    usage: EmbeddingUsage,
}
