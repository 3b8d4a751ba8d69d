//! OpenAI's routes.

#![expect(
    dead_code,
    reason = "these functions carry descriptions and are never called"
)]

use super::super::types::{Deleted, FileView, Listing, ModelView};
use super::Refused;
use super::bodies::*;
use super::embeddings::{EmbeddingList, EmbeddingRequest};

#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "openai",
    summary = "Answer a chat",
    request_body = ChatRequest,
    responses(
        (status = 200, description = "The answer, or its chunks", content(
            (ChatCompletion = "application/json"),
            (Value = "text/event-stream")
        )),
        Refused
    )
)]
pub fn chat_completions() {}

#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "openai",
    summary = "Continue a text",
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The continuation, or its chunks", content(
            (Completion = "application/json"),
            (Value = "text/event-stream")
        )),
        Refused
    )
)]
pub fn completions() {}

#[utoipa::path(
    post,
    path = "/v1/embeddings",
    tag = "openai",
    summary = "The vectors of texts",
    request_body = EmbeddingRequest,
    responses((status = 200, description = "The vectors in the order of their texts", body = EmbeddingList), Refused)
)]
pub fn embeddings() {}

#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "openai",
    summary = "The names that requests may say",
    responses((status = 200, description = "All of them", body = Listing<ModelView>), Refused)
)]
pub fn list_models() {}

#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    tag = "openai",
    summary = "A model",
    params(("id" = String, Path, description = "Its name")),
    responses((status = 200, description = "The model", body = ModelView), Refused)
)]
pub fn show_model() {}

#[utoipa::path(
    post,
    path = "/v1/files",
    tag = "openai",
    summary = "Keep a file",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "The file", body = FileView), Refused)
)]
pub fn upload_file() {}

#[utoipa::path(
    get,
    path = "/v1/files",
    tag = "openai",
    summary = "The files, newest first",
    params(
        ("limit" = Option<u64>, Query, nullable = false, minimum = 1, maximum = 10000, description = "At most so many"),
        ("after" = Option<String>, Query, nullable = false, description = "Those behind this file"),
        ("order" = Option<String>, Query, nullable = false, pattern = "^(asc|desc)$", description = "`asc` or `desc`"),
        ("purpose" = Option<String>, Query, nullable = false, pattern = "^(batch|batch_output)$", description = "What they are for"),
    ),
    responses((status = 200, description = "A page of them", body = Listing<FileView>), Refused)
)]
pub fn list_files() {}

#[utoipa::path(
    get,
    path = "/v1/files/{id}",
    tag = "openai",
    summary = "A file",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "The file", body = FileView), Refused)
)]
pub fn show_file() {}

#[utoipa::path(
    delete,
    path = "/v1/files/{id}",
    tag = "openai",
    summary = "Delete a file",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "It is gone", body = Deleted), Refused)
)]
pub fn delete_file() {}

#[utoipa::path(
    get,
    path = "/v1/files/{id}/content",
    tag = "openai",
    summary = "The bytes of a file",
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 200, description = "The bytes", body = String, content_type = "application/x-ndjson"),
        Refused
    )
)]
pub fn file_content() {}
