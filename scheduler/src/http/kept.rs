//! Jobs of a batch by index, with their lines and results as the store keeps them: what it takes to compute them again.

use super::Server;
use super::auth::Caller;
use super::error::ApiError;
use super::types::{KeptJob, KeptJobs};
use axum::Json;
use axum::extract::{Path, Query, State};
use rbee_queue::{JobIndex, JobRef};
use serde::Deserialize;

/// Jobs of one answer. Their lines are bounded, each by the limit of a line.
const MAX_JOBS: usize = 100;

/// Which jobs are wanted.
#[derive(Debug, Deserialize)]
pub struct JobsQuery {
    /// Indices with commas between them.
    at: String,
}

/// `GET /v1/batches/{id}/jobs?at=0,5,9`: these jobs, but for those that are not there.
pub async fn jobs(
    State(server): State<Server>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<JobsQuery>,
) -> Result<Json<KeptJobs>, ApiError> {
    let batch = server.batch(&caller, &id).await?;
    let indices: Result<Vec<u64>, _> = query.at.split(',').map(str::parse).collect();
    let indices = indices
        .ok()
        .filter(|indices| indices.len() <= MAX_JOBS)
        .ok_or_else(|| {
            let message = format!("`at` takes 1 to {MAX_JOBS} indices with commas between them");
            ApiError::bad("invalid_parameter", message).about("at")
        })?;
    let refs: Vec<JobRef> = (indices.iter())
        .map(|index| JobRef {
            batch: batch.no,
            index: JobIndex(*index),
        })
        .collect();
    let stored = server.batches.store().job_get(&refs).await?;
    Ok(Json(KeptJobs {
        spec: batch.spec,
        models: batch.models,
        jobs: stored.into_iter().flatten().map(KeptJob::from).collect(),
    }))
}
