//! A body of JSON, as strangers send it: bounded in bytes, values and time.

use super::super::error::ApiError;
use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use rbee_queue::jsonl::parse_json;
use serde_json::{Map, Value};
use std::time::Duration;

/// The largest body: that of a line.
pub const MAX_BODY: usize = 16 << 20;
/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// The object that a body is.
pub async fn read_object(body: Body) -> Result<Map<String, Value>, ApiError> {
    let bytes = tokio::time::timeout(PATIENCE, to_bytes(body, MAX_BODY))
        .await
        .map_err(|_| {
            ApiError::in_words(
                StatusCode::REQUEST_TIMEOUT,
                "the body took too long to arrive",
            )
        })?
        .map_err(|_| {
            ApiError::too_large(format!(
                "the body has more than {MAX_BODY} bytes, or was cut off"
            ))
        })?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| ApiError::bad("invalid_json", "the body is not UTF-8"))?;
    parse_json(text).map_err(|error| ApiError::bad("invalid_json", in_a_body(&error.message)))
}

/// The reader speaks of lines.
fn in_a_body(message: &str) -> String {
    message.replacen("the line", "the body", 1)
}

/// A member that is a text, or is not there.
pub fn text<'b>(
    body: &'b Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'b str>, ApiError> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong_type(name, "a text")),
    }
}

/// A member that is there and is a text.
pub fn needed<'b>(body: &'b Map<String, Value>, name: &'static str) -> Result<&'b str, ApiError> {
    text(body, name)?.ok_or_else(|| {
        ApiError::bad("missing_required_parameter", format!("{name} is missing")).about(name)
    })
}

/// A member of another type than it must be.
pub fn wrong_type(name: &'static str, wanted: &str) -> ApiError {
    ApiError::bad("wrong_type", format!("{name} must be {wanted}")).about(name)
}
