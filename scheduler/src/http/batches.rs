//! Batches: listed, shown, cancelled, paused, resumed, retried, purged.

use super::Server;
use super::auth::Caller;
use super::error::{ApiError, within};
use super::error_kinds::error_kinds;
use super::find::{FindError, find};
use super::types::{BatchDetail, BatchView, Listing};
use crate::coordinator::told_of_end;
use crate::explain::explain;
use axum::Json;
use axum::extract::{Path, Query, State};
use rbee_queue::{Batch, BatchId, BatchNo, BatchStatus, StoreError};
use serde::Deserialize;
use serde_json::{Value, json};

/// Batches that a listing without a limit has.
const USUAL_LIMIT: usize = 20;
/// Batches that one listing has at most.
const MAX_LIMIT: usize = 1_000;
/// Characters of a reason to pause.
const MAX_REASON: usize = 500;

/// Which batches are listed.
#[derive(Debug, Deserialize)]
pub struct ListQuery {
    limit: Option<usize>,
    after: Option<BatchId>,
}

impl From<FindError> for ApiError {
    fn from(error: FindError) -> ApiError {
        let message = error.to_string();
        match error {
            FindError::Nothing | FindError::Unknown { .. } => ApiError::not_found(message),
            FindError::Ambiguous { .. } => ApiError::conflict("ambiguous_id", message),
            FindError::Store(error) => error.into(),
        }
    }
}

impl Server {
    /// The batch that a path names.
    pub(super) async fn batch(&self, caller: &Caller, wanted: &str) -> Result<Batch, ApiError> {
        Ok(find(self.batches.store().as_ref(), caller.sees(), wanted).await?)
    }

    /// The batch that a path names, if this server runs it.
    async fn own_batch(&self, caller: &Caller, wanted: &str) -> Result<Batch, ApiError> {
        let batch = self.batch(caller, wanted).await?;
        match self.coordinator.leaves_alone(&batch.owner) {
            true => Err(ApiError::conflict(
                "not_this_servers",
                format!(
                    "{} belongs to `rbee run`: that command goes on with it, and Ctrl-C stops it",
                    batch.id
                ),
            )),
            false => Ok(batch),
        }
    }

    /// Changes a batch by its number. That of an announced one is another one from the moment on when its lines are there.
    async fn change<T, F>(
        &self,
        batch: &Batch,
        change: impl Fn(BatchNo) -> F,
    ) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        match change(batch.no).await {
            Err(StoreError::NoSuchBatch) if batch.status == BatchStatus::Validating => {
                let now = self.batches.store().batch_get(&batch.id).await?;
                let now = now.ok_or(StoreError::NoSuchBatch)?;
                Ok(change(now.no).await?)
            }
            changed => Ok(changed?),
        }
    }

    async fn reloaded(&self, batch: &Batch) -> Result<Json<BatchView>, ApiError> {
        let batch = self.batches.store().batch_get(&batch.id).await?;
        let batch = batch.ok_or_else(|| ApiError::not_found("the batch was purged just now"))?;
        Ok(Json(BatchView::from(&batch)))
    }
}

/// `GET /v1/batches`: newest first.
pub async fn list(
    State(server): State<Server>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Listing<BatchView>>, ApiError> {
    let limit = within("limit", query.limit, USUAL_LIMIT, 1..=MAX_LIMIT)?;
    let store = server.batches.store();
    let mut batches = store
        .batch_list(caller.sees(), query.after.as_ref(), limit + 1)
        .await?;
    let has_more = batches.len() > limit;
    batches.truncate(limit);
    let id = |batch: Option<&Batch>| batch.map(|batch| batch.id.to_string());
    Ok(Json(Listing {
        object: "list".to_owned(),
        first_id: id(batches.first()),
        last_id: id(batches.last()),
        has_more,
        data: batches.iter().map(BatchView::from).collect(),
    }))
}

/// What a batch is shown with.
#[derive(Debug, Deserialize)]
pub struct ShowQuery {
    /// With its errors by code, which takes a while for large batches.
    #[serde(default)]
    detail: bool,
}

/// `GET /v1/batches/{id}`.
pub async fn show(
    State(server): State<Server>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<ShowQuery>,
) -> Result<Json<Value>, ApiError> {
    let batch = server.batch(&caller, &id).await?;
    let mut view = BatchView::from(&batch);
    if !batch.status.is_terminal() {
        let store = server.batches.store();
        let waiting = store.job_waiting(batch.no).await?;
        view.waiting = explain(&batch, &waiting, &store.node_list().await?);
    }
    let shown = match query.detail {
        false => serde_json::to_value(view),
        true => {
            let errors = error_kinds(server.batches.store().as_ref(), &batch).await?;
            serde_json::to_value(BatchDetail {
                batch: view,
                errors,
            })
        }
    };
    shown
        .map(Json)
        .map_err(|error| ApiError::internal(error.to_string()))
}

/// `POST /v1/batches/{id}/cancel`.
pub async fn cancel(
    State(server): State<Server>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<BatchView>, ApiError> {
    let batch = server.own_batch(&caller, &id).await?;
    let store = server.batches.store();
    server.change(&batch, |no| store.batch_cancel(no)).await?;
    server.coordinator.wake();
    server.coordinator.wake_announced();
    told_of_end(&server.batches, &batch.id).await;
    server.reloaded(&batch).await
}

/// Why a batch is paused.
#[derive(Debug, Default, Deserialize)]
pub struct PauseBody {
    reason: Option<String>,
}

/// `POST /v1/batches/{id}/pause`: its running jobs finish, the others wait.
pub async fn pause(
    State(server): State<Server>,
    caller: Caller,
    Path(id): Path<String>,
    body: Option<Json<Option<PauseBody>>>,
) -> Result<Json<BatchView>, ApiError> {
    let batch = server.own_batch(&caller, &id).await?;
    if batch.status.is_terminal() {
        let message = format!(
            "{} is {}: there is nothing to pause",
            batch.id, batch.status
        );
        return Err(ApiError::conflict("wrong_state", message));
    }
    let reason = body.and_then(|Json(body)| body?.reason);
    let reason = reason.unwrap_or_else(|| "somebody paused it".to_owned());
    let reason: String = reason.chars().take(MAX_REASON).collect();
    let store = server.batches.store();
    let paused = server.change(&batch, |no| store.batch_pause(no, Some(&reason)));
    paused.await?;
    server.reloaded(&batch).await
}

/// `POST /v1/batches/{id}/resume`.
pub async fn resume(
    State(server): State<Server>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<BatchView>, ApiError> {
    let batch = server.own_batch(&caller, &id).await?;
    let store = server.batches.store();
    server
        .change(&batch, |no| store.batch_pause(no, None))
        .await?;
    server.coordinator.wake();
    server.reloaded(&batch).await
}

/// `POST /v1/batches/{id}/retry`: its failed jobs run again, but for bad lines.
pub async fn retry(
    State(server): State<Server>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let batch = server.own_batch(&caller, &id).await?;
    let retried = server.batches.store().retry_failed(batch.no, false).await?;
    server.coordinator.wake();
    let Json(view) = server.reloaded(&batch).await?;
    Ok(Json(json!({"retried": retried, "batch": view})))
}

/// `DELETE /v1/batches/{id}`: the batch and all that belongs to it. One that runs is refused.
pub async fn purge(
    State(server): State<Server>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let batch = server.batch(&caller, &id).await?;
    if !batch.status.is_terminal() && !server.coordinator.leaves_alone(&batch.owner) {
        let message = format!("{} is {}: cancel it first", batch.id, batch.status);
        return Err(ApiError::conflict("wrong_state", message));
    }
    server.batches.purge(&batch).await?;
    Ok(Json(
        json!({"id": batch.id, "object": "batch", "deleted": true}),
    ))
}
