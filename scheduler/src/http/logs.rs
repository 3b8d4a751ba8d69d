//! The server's own log.

use super::Server;
use super::auth::Admin;
use super::error::ApiError;
use super::nodes::{LogQuery, lines};
use axum::extract::{Query, State};

/// `GET /v1/logs`: its last lines.
pub async fn logs(
    State(server): State<Server>,
    _: Admin,
    Query(query): Query<LogQuery>,
) -> Result<String, ApiError> {
    Ok((server.logs)(lines(&query)?))
}
