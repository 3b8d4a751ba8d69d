//! `POST /v1/embeddings`: refused, in words.

use super::super::error::ApiError;
use super::body::read_object;
use axum::extract::Request;
use axum::response::Response;

/// No architecture that rbee runs has embeddings.
pub async fn embeddings(request: Request) -> Result<Response, ApiError> {
    read_object(request.into_body()).await?;
    let message = "this server answers with text: it runs no model that gives embeddings";
    Err(ApiError::no_model(message))
}
