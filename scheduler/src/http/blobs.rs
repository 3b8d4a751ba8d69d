//! `/v1/models/blobs/{sha}`: model files by their digest, for nodes that lack one and for clients that bring their own.
//!
//! Owns the streaming and the check that a file is what its name says. Where files lie is the `Models`' to know.

use super::error::ApiError;
use super::{ModelBlob, Server};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use rbee_queue::ModelSha;
use sha2::{Digest, Sha256};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 18;
/// Bytes of an upload.
const MAX_BLOB_BYTES: u64 = 1 << 40;
/// Pieces of an upload between the network and the disk.
const PIECES_WAITING: usize = 32;
/// How long a client may be silent in the middle of an upload.
const UPLOAD_SILENCE: Duration = Duration::from_secs(60);

fn digest(text: &str) -> Result<ModelSha, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad(
            "invalid_digest",
            "a blob's name is its sha256, 64 hex digits",
        )
    })
}

/// What is sent: a list of files is short.
enum Found {
    File(File, u64),
    Text(String),
}

async fn find(server: &Server, sha256: ModelSha) -> Option<ModelBlob> {
    let models = Arc::clone(&server.models);
    let found = tokio::task::spawn_blocking(move || models.blob(&sha256)).await;
    found.ok().flatten()
}

async fn open(server: &Server, text: &str) -> Result<Found, ApiError> {
    let sha256 = digest(text)?;
    let absent = || ApiError::not_found(format!("no model file {sha256} is here"));
    let path = match find(server, sha256).await.ok_or_else(absent)? {
        ModelBlob::File(path) => path,
        ModelBlob::Text(text) => return Ok(Found::Text(text)),
    };
    let file = File::open(&path).await.map_err(|_| absent())?;
    let bytes = file
        .metadata()
        .await
        .map_err(|error| ApiError::internal(format!("a model file cannot be read: {error}")))?
        .len();
    Ok(Found::File(file, bytes))
}

/// `HEAD`: whether the file is here, and its size.
pub async fn head(
    State(server): State<Server>,
    Path(sha): Path<String>,
) -> Result<Response, ApiError> {
    let bytes = match open(&server, &sha).await? {
        Found::File(_, bytes) => bytes,
        Found::Text(text) => text.len() as u64,
    };
    let headers = [
        (header::CONTENT_LENGTH, bytes.to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
    ];
    Ok((headers, Body::empty()).into_response())
}

/// `GET`: the file, from `Range: bytes=N-` on.
pub async fn get(
    State(server): State<Server>,
    Path(sha): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut file, bytes) = match open(&server, &sha).await? {
        Found::File(file, bytes) => (file, bytes),
        Found::Text(text) => return Ok(text.into_response()),
    };
    let permit = Arc::clone(&server.streams)
        .try_acquire_owned()
        .map_err(|_| ApiError::too_many("the server has too many open streams"))?;
    let range = request.headers().get(header::RANGE);
    let start = range.and_then(|range| start_of(range.to_str().ok()?));
    let start = start.filter(|start| *start < bytes);
    if let Some(start) = start {
        file.seek(io::SeekFrom::Start(start))
            .await
            .map_err(|error| ApiError::internal(format!("a model file cannot be read: {error}")))?;
    }
    let left = bytes - start.unwrap_or(0);
    let body = stream::try_unfold((file, permit), |(mut file, permit)| async move {
        let mut piece = vec![0; READ_BYTES];
        let read = file.read(&mut piece).await?;
        piece.truncate(read);
        Ok::<_, io::Error>((read > 0).then(|| (Bytes::from(piece), (file, permit))))
    });
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, left.into());
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/octet-stream"),
    );
    if let Some(start) = start {
        let range = format!("bytes {start}-{}/{bytes}", bytes - 1);
        if let Ok(range) = range.parse() {
            headers.insert(header::CONTENT_RANGE, range);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// `N` of `bytes=N-`, the one form that a download which goes on needs.
fn start_of(range: &str) -> Option<u64> {
    range
        .strip_prefix("bytes=")?
        .strip_suffix('-')?
        .parse()
        .ok()
}

/// `PUT`: keeps a file, if it is what its name says.
pub async fn put(
    State(server): State<Server>,
    Path(sha): Path<String>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let sha256 = digest(&sha)?;
    if find(&server, sha256).await.is_some() {
        return Ok(StatusCode::OK);
    }
    let _turn = server
        .uploads
        .try_acquire()
        .map_err(|_| ApiError::too_many("the server has too many uploads at once"))?;
    let disk =
        |error: io::Error| ApiError::internal(format!("a model file cannot be kept: {error}"));
    let dir = server.models.uploads().map_err(disk)?;
    let (pieces, mut arriving) = mpsc::channel::<Bytes>(PIECES_WAITING);
    let writing = tokio::task::spawn_blocking(move || {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        let mut hash = Sha256::new();
        while let Some(piece) = arriving.blocking_recv() {
            hash.update(&piece);
            file.write_all(&piece)?;
        }
        file.as_file().sync_all()?;
        Ok::<_, io::Error>((file, ModelSha(hash.finalize().into())))
    });
    let cut_off = || ApiError::bad("input_cut_off", "the upload was cut off");
    let mut body = request.into_body().into_data_stream();
    let mut bytes = 0;
    loop {
        let piece = tokio::time::timeout(UPLOAD_SILENCE, body.next())
            .await
            .map_err(|_| cut_off())?;
        let Some(piece) = piece else {
            break;
        };
        let piece = piece.map_err(|_| cut_off())?;
        bytes += piece.len() as u64;
        if bytes > MAX_BLOB_BYTES {
            return Err(ApiError::too_large(format!(
                "a model file has more than {MAX_BLOB_BYTES} bytes"
            )));
        }
        if pieces.send(piece).await.is_err() {
            // The disk failed; what it said comes from the thread.
            break;
        }
    }
    drop(pieces);
    let (file, found) = writing
        .await
        .map_err(|error| ApiError::internal(error.to_string()))?
        .map_err(disk)?;
    if found != sha256 {
        let message = format!("the file's sha256 is {found}, not {sha256}");
        return Err(ApiError::conflict("wrong_content", message));
    }
    server.models.keep(&sha256, file).map_err(disk)?;
    Ok(StatusCode::CREATED)
}
