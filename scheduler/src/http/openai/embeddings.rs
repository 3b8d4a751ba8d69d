//! `POST /v1/embeddings`: the vectors of texts, as one interactive job like every other.

use super::super::Server;
use super::super::auth::Caller;
use super::super::error::ApiError;
use super::chat::answer;
use axum::extract::{Request, State};
use axum::response::Response;
use rbee_queue::Endpoint;

/// `POST /v1/embeddings`.
pub async fn embeddings(
    State(server): State<Server>,
    caller: Caller,
    request: Request,
) -> Result<Response, ApiError> {
    answer(server, caller, request, Endpoint::Embeddings).await
}
