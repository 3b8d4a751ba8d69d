//! Whether the server lives, and whether it can do its work.

use super::Server;
use super::error::ApiError;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use rbee_queue::NodeInstance;
use rbee_queue::queue::QueueError;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// How long store and queue may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a probe asks.
#[derive(Debug, Deserialize)]
pub struct HealthQuery {
    /// Whether the server can do its work, too.
    #[serde(default)]
    ready: bool,
}

/// The process lives; with `?ready=true`, and can do its work. Probes ask it without a token.
pub async fn health(
    State(server): State<Server>,
    Query(query): Query<HealthQuery>,
) -> Result<Json<Value>, ApiError> {
    if query.ready {
        return ready(State(server)).await;
    }
    Ok(Json(
        json!({"status": "healthy", "version": env!("CARGO_PKG_VERSION")}),
    ))
}

/// Store and queue answer.
pub async fn ready(State(server): State<Server>) -> Result<Json<Value>, ApiError> {
    // Anybody may ask, so that what is wrong is in the log only.
    match tokio::time::timeout(PATIENCE, look(&server)).await {
        Ok(Ok(())) => Ok(Json(json!({"status": "ready"}))),
        Ok(Err(what)) => {
            tracing::warn!("not ready: {what}");
            Err(ApiError::unavailable("store or queue cannot be used now"))
        }
        Err(_) => Err(ApiError::unavailable("store or queue do not answer")),
    }
}

async fn look(server: &Server) -> Result<(), String> {
    let store = server.batches.store();
    store
        .batch_list(None, None, 1)
        .await
        .map_err(|error| error.to_string())?;
    // A node that never was has no inbox: that is an answer.
    let nobody = NodeInstance::generate();
    match server.batches.queue().depth(&nobody).await {
        Ok(_) | Err(QueueError::NoSuchNode { .. }) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// A path that is there, with another method.
pub async fn wrong_method() -> ApiError {
    ApiError::in_words(
        StatusCode::METHOD_NOT_ALLOWED,
        "this route does not take this method",
    )
}

/// Every other path.
pub async fn no_such_route(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is no route {}", uri.path()))
}
