//! What this face says when it does not do what it was asked: the one place where error codes are in upper case.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use rbee_queue::JobError;
use serde_json::json;

/// A refusal.
#[derive(Debug)]
pub struct FaceError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

/// A code of this face for one of rbee's.
pub fn face_code(code: &str) -> &'static str {
    match code {
        "all_slots_busy" => "ALL_SLOTS_BUSY",
        "out_of_memory" => "INSUFFICIENT_RAM",
        "vram_exhausted" => "VRAM_EXHAUSTED",
        "backend_unavailable" | "internal_error" | "model_load_failed" => "BACKEND_UNAVAILABLE",
        "model_not_found" => "MODEL_NOT_FOUND",
        "download_failed" => "DOWNLOAD_FAILED",
        "loading_timeout" => "LOADING_TIMEOUT",
        "worker_crashed" | "engine_error" => "WORKER_CRASHED",
        "timeout" => "TIMEOUT",
        "cancelled" => "CANCELLED",
        // What is left is about the request itself.
        _ => "INVALID_REQUEST",
    }
}

fn status(code: &str) -> StatusCode {
    match code {
        "ALL_SLOTS_BUSY" | "BACKEND_UNAVAILABLE" | "LOADING_TIMEOUT" => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        "MODEL_NOT_FOUND" => StatusCode::NOT_FOUND,
        "INVALID_REQUEST" => StatusCode::BAD_REQUEST,
        "TIMEOUT" => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl FaceError {
    /// The request cannot be understood.
    pub fn bad(message: impl Into<String>) -> FaceError {
        FaceError {
            status: StatusCode::BAD_REQUEST,
            code: "INVALID_REQUEST",
            message: message.into(),
        }
    }

    /// A page of a stranger.
    pub fn forbidden(message: &str) -> FaceError {
        FaceError {
            status: StatusCode::FORBIDDEN,
            ..FaceError::bad(message)
        }
    }

    /// No token, or a wrong one.
    pub fn unauthorized() -> FaceError {
        FaceError {
            status: StatusCode::UNAUTHORIZED,
            ..FaceError::bad(
                "this node wants a token: send `Authorization: Bearer …` with that of RBEE_API_TOKEN",
            )
        }
    }

    /// There is nothing of this name.
    pub fn not_found(message: impl Into<String>) -> FaceError {
        FaceError {
            status: StatusCode::NOT_FOUND,
            code: "MODEL_NOT_FOUND",
            message: message.into(),
        }
    }

    /// Too much at once.
    pub fn busy() -> FaceError {
        JobError::new(
            "all_slots_busy",
            "The node sends too much at once: try again later.",
        )
        .into()
    }
}

impl From<JobError> for FaceError {
    fn from(error: JobError) -> FaceError {
        let code = face_code(&error.code);
        FaceError {
            status: status(code),
            code,
            message: error.message,
        }
    }
}

impl IntoResponse for FaceError {
    fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code, "message": self.message}});
        (self.status, Json(body)).into_response()
    }
}

/// A route that is none.
pub async fn no_route() -> FaceError {
    FaceError {
        status: StatusCode::NOT_FOUND,
        ..FaceError::bad("there is no such route")
    }
}
