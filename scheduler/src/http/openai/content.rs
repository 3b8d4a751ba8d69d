//! `GET /v1/files/{id}/content`: an upload's bytes as they came, or what a batch gave, rendered from its results.

use super::super::Server;
use super::super::auth::Caller;
use super::super::error::ApiError;
use super::super::results::{Half, half};
use super::super::types::NDJSON;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use rbee_queue::file::{OutputPart, StoredFile};
use rbee_queue::{Batch, FileId};
use std::io;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Streams a file.
pub async fn content(
    State(server): State<Server>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let file = server.file(&caller, &id).await?;
    let permit = Arc::clone(&server.streams)
        .try_acquire_owned()
        .map_err(|_| ApiError::too_many("the server has too many open streams"))?;
    let kind = HeaderValue::from_static(NDJSON);
    let mut response = match file.id.output_part() {
        Some(part) => {
            let batch = batch_of(&server, &file).await?;
            Body::from_stream(half(server, batch, half_of(part), permit)).into_response()
        }
        None => {
            let bytes = file.bytes.unwrap_or(0);
            let mut response = Body::from_stream(pieces(server, file.id, permit)).into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_LENGTH, bytes.into());
            response
        }
    };
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn half_of(part: OutputPart) -> Half {
    match part {
        OutputPart::Answers => Half::Answers,
        OutputPart::Errors => Half::Errors,
    }
}

/// The batch that gave a file.
async fn batch_of(server: &Server, file: &StoredFile) -> Result<Batch, ApiError> {
    let gone = || ApiError::not_found(format!("there is no file {}", file.id));
    let id = file.id.batch().ok_or_else(gone)?;
    let batch = server.batches.store().batch_get(&id).await?;
    batch
        .filter(|batch| batch.status.is_terminal())
        .ok_or_else(gone)
}

fn pieces(
    server: Server,
    id: FileId,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = io::Result<Bytes>> {
    let begin = (server, id, permit, 0);
    stream::try_unfold(begin, |(server, id, permit, piece)| async move {
        let found = server.batches.store().file_kept(&id, piece).await;
        let found = found.map_err(io::Error::other)?;
        Ok(found.map(|bytes| (Bytes::from(bytes), (server, id, permit, piece + 1))))
    })
}

/// How long a file is that a batch gave: it is rendered once, and then known.
pub async fn measured(server: &Server, file: &StoredFile) -> Result<u64, ApiError> {
    let Some(part) = file.id.output_part() else {
        return Ok(0);
    };
    let batch = batch_of(server, file).await?;
    let permit = Arc::clone(&server.streams)
        .try_acquire_owned()
        .map_err(|_| ApiError::too_many("the server has too many open streams"))?;
    let lines = half(server.clone(), batch, half_of(part), permit);
    let bytes = lines
        .map(|piece| piece.map(|piece| piece.len() as u64))
        .try_fold(0, |sum, bytes| async move { Ok(sum + bytes) })
        .await
        .map_err(|error| ApiError::unavailable(format!("results cannot be read: {error}")))?;
    let store = server.batches.store();
    store
        .file_sized(&file.id, file.created_at_us, bytes)
        .await?;
    Ok(bytes)
}
