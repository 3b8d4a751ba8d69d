//! Single requests in rbee's own form, nodes, schedules, model files, logs.

#![expect(
    dead_code,
    reason = "these functions carry descriptions and are never called"
)]

use super::Refused;
use super::bodies::InferRequest;
use super::schedules::NewScheduleRequest;

#[utoipa::path(
    post,
    path = "/v1/infer",
    tag = "cluster",
    summary = "Answer one short line",
    request_body = InferRequest,
    responses(
        (status = 200, description = "The result line, or its text as it comes", content(
            (Value = "application/json"),
            (Value = "text/event-stream")
        )),
        Refused
    )
)]
pub fn infer() {}

#[utoipa::path(
    get,
    path = "/v1/nodes",
    tag = "cluster",
    summary = "The nodes",
    responses((status = 200, description = "All of them", body = Value), Refused)
)]
pub fn list_nodes() {}

#[utoipa::path(
    post,
    path = "/v1/nodes/{name}/drain",
    tag = "cluster",
    summary = "Give a node no more work",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "It is told", body = Value), Refused)
)]
pub fn drain_node() {}

#[utoipa::path(
    post,
    path = "/v1/nodes/{name}/undrain",
    tag = "cluster",
    summary = "Give a node work again",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "It is told", body = Value), Refused)
)]
pub fn undrain_node() {}

#[utoipa::path(
    get,
    path = "/v1/nodes/{name}/logs",
    tag = "cluster",
    summary = "The last lines of a node's log",
    params(
        ("name" = String, Path, description = "Its name"),
        ("lines" = Option<u64>, Query, nullable = false, minimum = 1, maximum = 10000, description = "At most so many"),
    ),
    responses((status = 200, description = "The lines", body = String, content_type = "text/plain"), Refused)
)]
pub fn node_logs() {}

#[utoipa::path(
    get,
    path = "/v1/logs",
    tag = "cluster",
    summary = "The last lines of the server's log",
    params(("lines" = Option<u64>, Query, nullable = false, minimum = 1, maximum = 10000, description = "At most so many")),
    responses((status = 200, description = "The lines", body = String, content_type = "text/plain"), Refused)
)]
pub fn server_logs() {}

#[utoipa::path(
    get,
    path = "/v1/schedules",
    tag = "cluster",
    summary = "The schedules",
    responses((status = 200, description = "All of them", body = Value), Refused)
)]
pub fn list_schedules() {}

#[utoipa::path(
    post,
    path = "/v1/schedules",
    tag = "cluster",
    summary = "Make a schedule",
    request_body = NewScheduleRequest,
    responses((status = 201, description = "The schedule", body = Value), Refused)
)]
pub fn add_schedule() {}

#[utoipa::path(
    get,
    path = "/v1/schedules/calendar",
    tag = "cluster",
    summary = "What is due in the days that come",
    params(("days" = Option<i64>, Query, nullable = false, minimum = 1, maximum = 31, description = "So many days")),
    responses((status = 200, description = "The ticks", body = Value), Refused)
)]
pub fn calendar() {}

#[utoipa::path(
    get,
    path = "/v1/schedules/{id}",
    tag = "cluster",
    summary = "A schedule",
    params(("id" = String, Path, description = "Its id or name")),
    responses((status = 200, description = "The schedule", body = Value), Refused)
)]
pub fn show_schedule() {}

#[utoipa::path(
    delete,
    path = "/v1/schedules/{id}",
    tag = "cluster",
    summary = "Remove a schedule; its batches stay",
    params(("id" = String, Path, description = "Its id or name")),
    responses((status = 200, description = "It is gone", body = Value), Refused)
)]
pub fn remove_schedule() {}

#[utoipa::path(
    post,
    path = "/v1/schedules/{id}/pause",
    tag = "cluster",
    summary = "Pause a schedule",
    params(("id" = String, Path, description = "Its id or name")),
    responses((status = 200, description = "The schedule", body = Value), Refused)
)]
pub fn pause_schedule() {}

#[utoipa::path(
    post,
    path = "/v1/schedules/{id}/resume",
    tag = "cluster",
    summary = "Let a schedule go on",
    params(("id" = String, Path, description = "Its id or name")),
    responses((status = 200, description = "The schedule", body = Value), Refused)
)]
pub fn resume_schedule() {}

#[utoipa::path(
    post,
    path = "/v1/schedules/{id}/run",
    tag = "cluster",
    summary = "Run a schedule now",
    params(("id" = String, Path, description = "Its id or name")),
    responses((status = "2XX", description = "The run", body = Value), Refused)
)]
pub fn run_schedule() {}

#[utoipa::path(
    get,
    path = "/v1/schedules/{id}/runs",
    tag = "cluster",
    summary = "The runs of a schedule, newest first",
    params(
        ("id" = String, Path, description = "Its id or name"),
        ("limit" = Option<u64>, Query, nullable = false, minimum = 1, maximum = 1000, description = "At most so many"),
    ),
    responses((status = 200, description = "A page of them", body = Value), Refused)
)]
pub fn schedule_runs() {}

#[utoipa::path(
    get,
    path = "/v1/models/blobs/{sha}",
    tag = "cluster",
    summary = "A model file",
    params(("sha" = String, Path, pattern = "^[0-9a-f]{64}$", description = "Its sha256 in hex")),
    responses(
        (status = "2XX", description = "The bytes", body = Vec<u8>, content_type = "application/octet-stream"),
        Refused
    )
)]
pub fn show_blob() {}

#[utoipa::path(
    head,
    path = "/v1/models/blobs/{sha}",
    tag = "cluster",
    summary = "Whether a model file is here",
    params(("sha" = String, Path, pattern = "^[0-9a-f]{64}$", description = "Its sha256 in hex")),
    responses((status = 200, description = "It is"), Refused)
)]
pub fn head_blob() {}

#[utoipa::path(
    put,
    path = "/v1/models/blobs/{sha}",
    tag = "cluster",
    summary = "Keep a model file",
    params(("sha" = String, Path, pattern = "^[0-9a-f]{64}$", description = "Its sha256 in hex")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = "2XX", description = "It is kept"), Refused)
)]
pub fn put_blob() {}

#[utoipa::path(
    get,
    path = "/health",
    tag = "cluster",
    summary = "Whether the server lives",
    security(()),
    responses((status = 200, description = "It does", body = Value), Refused)
)]
pub fn health() {}

#[utoipa::path(
    get,
    path = "/ready",
    tag = "cluster",
    summary = "Whether store and queue can be used",
    security(()),
    responses((status = 200, description = "They can", body = Value), Refused)
)]
pub fn ready() {}
