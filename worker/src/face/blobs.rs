//! `GET /v1/models/blobs/<sha256>`: this machine's model files, for nodes that lack them.

use super::Shared;
use super::error::FaceError;
use crate::model_files::Blob;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use rbee_queue::{JobError, ModelSha};
use std::io;
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Bytes read at once.
const READ_BYTES: usize = 1 << 18;

/// Sends it, from `Range: bytes=N-` on.
pub async fn get(
    State(shared): State<Shared>,
    Path(sha): Path<String>,
    request: Request,
) -> Result<Response, FaceError> {
    let sha256: ModelSha = sha
        .parse()
        .map_err(|_| FaceError::bad("a blob's name is its sha256, 64 hex digits"))?;
    let permit = shared.streams.clone().try_acquire_owned();
    let permit = permit.map_err(|_| FaceError::busy())?;
    let shelf = Arc::clone(&shared.face.shelf);
    let found = tokio::task::spawn_blocking(move || shelf.blob(&sha256)).await;
    let path = match found.ok().flatten() {
        Some(Blob::File(path)) => path,
        Some(Blob::Text(text)) => return Ok(text.into_response()),
        None => {
            let message = format!("no model file {sha256} is here");
            return Err(FaceError::not_found(message));
        }
    };
    let mut file = File::open(&path).await.map_err(unreadable)?;
    let bytes = file.metadata().await.map_err(unreadable)?.len();
    let range = request.headers().get(header::RANGE);
    let start = range.and_then(|range| start_of(range.to_str().ok()?));
    let start = start.filter(|start| *start < bytes);
    if let Some(start) = start {
        let seek = file.seek(io::SeekFrom::Start(start)).await;
        seek.map_err(unreadable)?;
    }
    let body = stream::try_unfold((file, permit), |(mut file, permit)| async move {
        let mut piece = vec![0; READ_BYTES];
        let read = file.read(&mut piece).await?;
        piece.truncate(read);
        Ok::<_, io::Error>((read > 0).then(|| (Bytes::from(piece), (file, permit))))
    });
    let length = bytes - start.unwrap_or(0);
    let kind = "application/octet-stream".to_owned();
    let headers = [
        (header::CONTENT_LENGTH, length.to_string()),
        (header::CONTENT_TYPE, kind),
    ];
    let body = Body::from_stream(body);
    Ok(match start {
        None => (headers, body).into_response(),
        Some(start) => {
            let last = bytes - 1;
            let range = (
                header::CONTENT_RANGE,
                format!("bytes {start}-{last}/{bytes}"),
            );
            (StatusCode::PARTIAL_CONTENT, headers, [range], body).into_response()
        }
    })
}

/// `N` of `bytes=N-`, the one form that a download which goes on needs.
fn start_of(range: &str) -> Option<u64> {
    let start = range.strip_prefix("bytes=")?.strip_suffix('-')?;
    start.parse().ok()
}

fn unreadable(error: io::Error) -> FaceError {
    let message = format!("The model file cannot be read: {error}.");
    JobError::new("internal_error", message).into()
}
