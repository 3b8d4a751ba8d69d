//! Errors of the API: the one place where they get their HTTP status.

use super::types::{ErrorBody, ErrorWords};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rbee_queue::batches::{PurgeError, SubmitError};
use rbee_queue::jsonl::LineError;
use rbee_queue::jsonl::ReadError;
use rbee_queue::owner::LockError;
use rbee_queue::queue::QueueError;
use rbee_queue::{JobError, StoreError};
use std::borrow::Cow;
use std::fmt::Display;
use std::ops::RangeInclusive;

/// How long a client that is turned away should wait, in seconds.
const RETRY_AFTER_S: u64 = 1;
/// The same where jobs must be computed first.
const JOBS_RETRY_AFTER_S: u64 = 5;

/// Why a request was not done.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: Cow<'static, str>,
    message: String,
    param: Option<Cow<'static, str>>,
    retry_after_s: u64,
}

impl ApiError {
    /// The sentence alone.
    pub(crate) fn into_message(self) -> String {
        self.message
    }

    fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> ApiError {
        ApiError {
            status,
            code: code.into(),
            message: message.into(),
            param: None,
            retry_after_s: RETRY_AFTER_S,
        }
    }

    /// The request is wrong as it stands.
    pub fn bad(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// What the request names is not there.
    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// What the request wants does not go in this state.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, code, message)
    }

    /// No token, or a wrong one.
    pub fn unauthorized(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "invalid_token", message)
    }

    /// Not from there.
    pub fn forbidden(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// What is asked for lies beyond what the server's settings allow.
    pub fn not_allowed(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, code, message)
    }

    /// Too much at once.
    pub fn too_many(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message)
    }

    /// Too many jobs wait already.
    pub fn queue_full(message: impl Into<String>) -> ApiError {
        ApiError {
            retry_after_s: JOBS_RETRY_AFTER_S,
            ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message)
        }
    }

    /// There is no model of this name.
    pub fn no_model(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).about("model")
    }

    /// What one request's job came to, where it has no answer.
    pub fn of_job(error: JobError) -> ApiError {
        let status = match error.code.as_str() {
            // A model that does something else is not there for this route, as in OpenAI's API.
            "model_not_found" | "unsupported_endpoint" => StatusCode::NOT_FOUND,
            _ if error.is_circumstance() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        ApiError::new(status, error.code, error.message)
    }

    /// What the answer has another form for: an extractor's or a layer's own words.
    pub fn in_words(status: StatusCode, message: impl Into<String>) -> ApiError {
        let code = match status {
            StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => "timeout",
            status if status.is_client_error() => "invalid_request",
            _ => "internal_error",
        };
        ApiError::new(status, code, message)
    }

    /// The body is larger than is taken.
    pub fn too_large(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// What the server needs is not there now.
    pub fn unavailable(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// Somebody else did not answer in time.
    pub fn no_answer(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, "no_answer", message)
    }

    /// An error inside rbee.
    pub fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    /// Names the parameter that is wrong.
    pub fn about(self, param: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError {
            param: Some(param.into()),
            ..self
        }
    }

    /// Whether a token would help.
    pub fn is_unauthorized(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    /// As every route tells it.
    pub fn body(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorWords {
                kind: self.kind().to_owned(),
                message: self.message.clone(),
                param: self.param.as_deref().map(str::to_owned),
                code: Some(self.code.clone().into_owned()),
            },
        }
    }

    fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        }
    }
}

/// A number that a query gives, or the usual one, if it lies within these bounds.
pub fn within<T: PartialOrd + Display>(
    name: &'static str,
    given: Option<T>,
    usual: T,
    bounds: RangeInclusive<T>,
) -> Result<T, ApiError> {
    let number = given.unwrap_or(usual);
    match bounds.contains(&number) {
        true => Ok(number),
        false => {
            let message = format!(
                "{name} is a number from {} to {}",
                bounds.start(),
                bounds.end()
            );
            Err(ApiError::bad("invalid_value", message).about(name))
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(status = %self.status, message = %self.message, "a request was not done");
        }
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, self.retry_after_s.into());
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

impl From<LineError> for ApiError {
    fn from(error: LineError) -> ApiError {
        let told = ApiError::bad(error.code, error.message);
        match error.param {
            Some(param) => told.about(param),
            None => told,
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        let message = error.to_string();
        match error {
            StoreError::NoSuchBatch => ApiError::not_found(message),
            StoreError::WrongState { .. } => ApiError::conflict("wrong_state", message),
            error if error.is_temporary() => ApiError::unavailable(message),
            _ => ApiError::internal(message),
        }
    }
}

impl From<QueueError> for ApiError {
    fn from(error: QueueError) -> ApiError {
        let message = error.to_string();
        match error {
            QueueError::NoSuchNode { .. } => ApiError::not_found(message),
            QueueError::NoAnswer { .. } => ApiError::no_answer(message),
            QueueError::Unreadable { .. } => ApiError::internal(message),
            QueueError::Full { .. } | QueueError::Unavailable { .. } => {
                ApiError::unavailable(message)
            }
        }
    }
}

impl From<LockError> for ApiError {
    fn from(error: LockError) -> ApiError {
        let message = error.to_string();
        match error {
            LockError::Held { .. } => ApiError::conflict("batch_is_run", message),
            LockError::Io { .. } => ApiError::internal(message),
        }
    }
}

impl From<PurgeError> for ApiError {
    fn from(error: PurgeError) -> ApiError {
        match error {
            PurgeError::Open { .. } => ApiError::conflict("wrong_state", error.to_string()),
            PurgeError::Lock(error) => error.into(),
            PurgeError::Store(error) => error.into(),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> ApiError {
        let message = error.to_string();
        match error {
            ReadError::Io(_) => ApiError::bad("input_cut_off", message),
            _ => ApiError::bad("invalid_input", message).about("input"),
        }
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> ApiError {
        let message = error.to_string();
        match error {
            SubmitError::Read(error) => error.into(),
            SubmitError::Refused(_) => ApiError::bad("batch_refused", message).about("input"),
            SubmitError::InputChanged => ApiError::internal(message),
            SubmitError::Store(error) => error.into(),
            SubmitError::Lock(error) => error.into(),
        }
    }
}
