//! Errors of the API: the one place where they get their HTTP status.

use super::types::{ErrorBody, ErrorWords};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rbee_queue::StoreError;
use rbee_queue::batches::{PurgeError, SubmitError};
use rbee_queue::jsonl::ReadError;
use rbee_queue::owner::LockError;
use rbee_queue::queue::QueueError;

/// How long a client that is turned away should wait, in seconds.
const RETRY_AFTER_S: &str = "1";

/// Why a request was not done.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    param: Option<&'static str>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            code,
            message: message.into(),
            param: None,
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

    /// Too much at once.
    pub fn too_many(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message)
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
    pub fn about(self, param: &'static str) -> ApiError {
        ApiError {
            param: Some(param),
            ..self
        }
    }

    /// Whether a token would help.
    pub fn is_unauthorized(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
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

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(status = %self.status, message = %self.message, "a request was not done");
        }
        let body = ErrorBody {
            error: ErrorWords {
                kind: self.kind().to_owned(),
                message: self.message,
                param: self.param.map(str::to_owned),
                code: Some(self.code.to_owned()),
            },
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
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
