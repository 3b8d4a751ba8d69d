//! A node's small HTTP face: whether it lives, how a load goes, a question to it, its figures, and its model files.
//!
//! It owns routes and words of this face only; what they tell comes from the [`NodeHandle`] and the [`ModelShelf`].
//! Error codes are in upper case here and nowhere else (see [`error`]).

mod access;
mod blobs;
mod error;
mod health;
mod inference;
mod metrics;
mod progress;

pub use access::{Access, AccessError};
pub use metrics::register as register_metrics;

use crate::node::{ModelShelf, NodeHandle};
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::HeaderName;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Bytes of a question.
const BODY_BYTES_MAX: usize = 16 << 20;
/// Answers, load progress and files that are sent at once.
const STREAMS_MAX: usize = 256;
/// A caller's name for a request, which comes back with the answer.
const CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");

/// What the face speaks for.
#[derive(Clone)]
pub struct Face {
    /// The node.
    pub node: NodeHandle,
    /// Its models.
    pub shelf: Arc<dyn ModelShelf>,
    /// What requests must show.
    pub access: Access,
    /// Today, `YYYY-MM-DD`, for chat templates.
    pub today: fn() -> String,
}

#[derive(Clone)]
struct Shared {
    face: Face,
    streams: Arc<Semaphore>,
}

/// Answers requests until it is dropped.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, face: Face) -> std::io::Result<()> {
    axum::serve(listener, router(face)).await
}

fn router(face: Face) -> Router {
    let shared = Shared {
        face,
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
    };
    Router::new()
        .route("/health", get(health::get))
        .route("/v1/loading/progress", get(progress::get))
        .route("/v1/inference", post(inference::post))
        .route("/metrics", get(metrics::get))
        .route("/v1/models/blobs/{sha}", get(blobs::get))
        .fallback(error::no_route)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(access::check))
        .layer(middleware::from_fn(correlate))
        .layer(Extension(shared.face.access.clone()))
        .with_state(shared)
}

/// Brings a caller's name for a request back to it.
async fn correlate(request: Request, next: Next) -> Response {
    let name = request.headers().get(CORRELATION).cloned();
    let mut response = next.run(request).await;
    if let Some(name) = name {
        response.headers_mut().insert(CORRELATION, name);
    }
    response
}

#[cfg(test)]
mod tests;
