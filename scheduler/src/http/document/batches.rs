//! Batches and their jobs.

#![expect(
    dead_code,
    reason = "these functions carry descriptions and are never called"
)]

use super::super::types::{BatchDetail, BatchView, JobView, Listing};
use super::Refused;
use super::bodies::{NewBatchRequest, Pause};
use serde::Serialize;
use utoipa::ToSchema;

/// A batch, or a batch in detail.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum BatchShown {
    /// As it is.
    Batch(Box<BatchView>),
    /// With its errors by code.
    Detail(Box<BatchDetail>),
}

#[utoipa::path(
    post,
    path = "/v1/batches",
    tag = "batches",
    summary = "Make a batch of an uploaded file, or of a form with the prompts",
    request_body(content((NewBatchRequest = "application/json"))),
    responses(
        (status = 200, description = "The batch: of a file `validating`, without a job until the file was read", body = BatchView),
        Refused
    )
)]
pub fn create_batch() {}

#[utoipa::path(
    get,
    path = "/v1/batches",
    tag = "batches",
    summary = "The batches, newest first",
    params(
        ("limit" = Option<u64>, Query, nullable = false, minimum = 1, maximum = 1000, description = "At most so many"),
        ("after" = Option<String>, Query, nullable = false, pattern = "^batch_[0-9a-f]{32}$", description = "Those before this batch"),
    ),
    responses((status = 200, description = "A page of them", body = Listing<BatchView>), Refused)
)]
pub fn list_batches() {}

#[utoipa::path(
    get,
    path = "/v1/batches/{id}",
    tag = "batches",
    summary = "A batch",
    params(
        ("id" = String, Path, description = "Its id, the beginning of it, or `last`"),
        ("detail" = Option<bool>, Query, nullable = false, description = "With its errors by code"),
    ),
    responses((status = 200, description = "The batch", body = BatchShown), Refused)
)]
pub fn show_batch() {}

#[utoipa::path(
    delete,
    path = "/v1/batches/{id}",
    tag = "batches",
    summary = "Delete a batch that has ended",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "It is gone", body = Value), Refused)
)]
pub fn delete_batch() {}

#[utoipa::path(
    post,
    path = "/v1/batches/{id}/cancel",
    tag = "batches",
    summary = "Cancel a batch",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "The batch", body = BatchView), Refused)
)]
pub fn cancel_batch() {}

#[utoipa::path(
    post,
    path = "/v1/batches/{id}/pause",
    tag = "batches",
    summary = "Let a batch's running jobs finish and the others wait",
    params(("id" = String, Path, description = "Its id")),
    request_body = Option<Pause>,
    responses((status = 200, description = "The batch", body = BatchView), Refused)
)]
pub fn pause_batch() {}

#[utoipa::path(
    post,
    path = "/v1/batches/{id}/resume",
    tag = "batches",
    summary = "Let a batch go on",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "The batch", body = BatchView), Refused)
)]
pub fn resume_batch() {}

#[utoipa::path(
    post,
    path = "/v1/batches/{id}/retry",
    tag = "batches",
    summary = "Run a batch's failed jobs again",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "How many, and the batch", body = Value), Refused)
)]
pub fn retry_batch() {}

#[utoipa::path(
    get,
    path = "/v1/batches/{id}/results",
    tag = "batches",
    summary = "A batch's result lines in input order, also while it runs",
    params(
        ("id" = String, Path, description = "Its id"),
        ("from" = Option<u64>, Query, nullable = false, description = "From this job on"),
        ("follow" = Option<bool>, Query, nullable = false, description = "Wait at gaps"),
    ),
    responses(
        (status = 200, description = "One JSON object a line", body = String, content_type = "application/x-ndjson"),
        Refused
    )
)]
pub fn batch_results() {}

#[utoipa::path(
    get,
    path = "/v1/batches/{id}/events",
    tag = "batches",
    summary = "A batch as it is answered, as server-sent events",
    params(
        ("id" = String, Path, description = "Its id"),
        ("after" = Option<u64>, Query, nullable = false, description = "Results behind this number"),
        ("last" = Option<u64>, Query, nullable = false, description = "Of the errors that are there only the last so many"),
    ),
    responses(
        (status = 200, description = "Events until its end", body = Value, content_type = "text/event-stream"),
        Refused
    )
)]
pub fn batch_events() {}

#[utoipa::path(
    get,
    path = "/v1/batches/{id}/jobs",
    tag = "batches",
    summary = "Some jobs of a batch with their lines and results",
    params(
        ("id" = String, Path, description = "Its id"),
        ("at" = String, Query, pattern = "^[0-9]{1,15}(,[0-9]{1,15}){0,99}$", description = "Indices with commas between them"),
    ),
    responses((status = 200, description = "The jobs", body = Value), Refused)
)]
pub fn batch_jobs() {}

#[utoipa::path(
    get,
    path = "/v1/batches/{id}/jobs/{index}",
    tag = "batches",
    summary = "A job",
    params(
        ("id" = String, Path, description = "Its batch"),
        ("index" = inline(u64), Path, description = "Its place"),
    ),
    responses((status = 200, description = "The job", body = JobView), Refused)
)]
pub fn show_job() {}

#[utoipa::path(
    get,
    path = "/v1/batches/{id}/jobs/{index}/events",
    tag = "batches",
    summary = "A job's text as it grows, as server-sent events",
    params(
        ("id" = String, Path, description = "Its batch"),
        ("index" = inline(u64), Path, description = "Its place"),
    ),
    responses(
        (status = 200, description = "Events until its end", body = Value, content_type = "text/event-stream"),
        Refused
    )
)]
pub fn job_events() {}
