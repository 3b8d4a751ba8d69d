//! Refusals of extractors and layers, which come as a sentence: they get the form that all errors have.

use super::error::ApiError;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Bytes of a sentence.
const MAX_WORDS: usize = 4_096;

/// Gives an error that is no JSON the form of all errors.
pub async fn as_errors(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("");
    if !kind.is_empty() && !kind.starts_with("text/plain") {
        return response;
    }
    let (parts, body) = response.into_parts();
    let words = to_bytes(body, MAX_WORDS).await.unwrap_or_default();
    let words = String::from_utf8_lossy(&words);
    let message = match (status, words.trim()) {
        (StatusCode::METHOD_NOT_ALLOWED, _) => "this route does not take this method".to_owned(),
        (_, "") => status.canonical_reason().unwrap_or("error").to_owned(),
        (_, words) => words.to_owned(),
    };
    let mut told = ApiError::in_words(status, message).into_response();
    for name in [header::ALLOW, header::RETRY_AFTER] {
        let kept: Option<HeaderValue> = parts.headers.get(&name).cloned();
        if let Some(value) = kept {
            told.headers_mut().insert(name, value);
        }
    }
    told
}
