//! Why a line is not a request, in a code and a sentence.

use crate::record::JobError;
use serde_json::Value;

/// How much of a wrong value an error message quotes.
const QUOTED_CHARS: usize = 60;

/// Why a line is not a request. It becomes the job's error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LineError {
    /// A stable word in snake_case.
    pub code: &'static str,
    /// A sentence for a person.
    pub message: String,
    /// The member that is wrong, where it is one.
    pub param: Option<String>,
}

impl LineError {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> LineError {
        LineError {
            code,
            message: message.into(),
            param: None,
        }
    }

    pub(super) fn about(self, name: &str) -> LineError {
        LineError {
            param: Some(name.to_owned()),
            ..self
        }
    }

    pub(super) fn wrong_type(name: &str, wanted: &str, value: &Value) -> LineError {
        let message = format!("{name} must be {wanted}, not {}", quote(value));
        LineError::new("wrong_type", message).about(name)
    }

    pub(super) fn out_of_range(name: &str, value: &Value, range: &str) -> LineError {
        let message = format!(
            "{name} is {}, it must be in the range {range}",
            quote(value)
        );
        LineError::new("out_of_range", message).about(name)
    }

    pub(super) fn limit(name: &str, limit: &str) -> LineError {
        LineError::new("out_of_range", format!("{name} has more than {limit}")).about(name)
    }

    pub(super) fn invalid(name: &str, why: &str) -> LineError {
        LineError::new("invalid_value", format!("{name}: {why}")).about(name)
    }

    pub(super) fn missing(name: &str) -> LineError {
        LineError::new("missing_field", format!("{name} is missing")).about(name)
    }

    pub(super) fn unsupported(name: &str, why: &str) -> LineError {
        LineError::new("unsupported", format!("{name}: {why}")).about(name)
    }
}

impl From<LineError> for JobError {
    fn from(error: LineError) -> JobError {
        JobError::new(error.code, error.message)
    }
}

/// The value's JSON, cut where it is long.
pub(super) fn quote(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
