//! The neutral result of a job, as it is stored: what was generated, or the job's error.
//!
//! Owns the versioned JSON form. It holds no id, clock, node or speed (those would differ between
//! two equal runs) and knows nothing of output shapes; `jsonl` renders it at export.

use crate::embedding::Embedding;
use serde::{Deserialize, Serialize, Serializer};

/// The version that [`ResultRecord::completed`] and [`ResultRecord::failed`] write.
pub const RECORD_VERSION: u32 = 1;

/// What stands for a log-probability that is not finite, as in OpenAI's API.
pub const LOGPROB_FLOOR: f32 = -9999.0;

/// The stored result of a job: exactly one a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultRecord {
    /// The form's version, [`RECORD_VERSION`] for what this program writes.
    pub version: u32,
    /// What became of the job.
    pub outcome: Outcome,
}

impl ResultRecord {
    /// A record of an answered job.
    pub fn completed(completed: Completed) -> ResultRecord {
        ResultRecord {
            version: RECORD_VERSION,
            outcome: Outcome::Completed(completed),
        }
    }

    /// A record of a failed job.
    pub fn failed(code: impl Into<String>, message: impl Into<String>) -> ResultRecord {
        ResultRecord {
            version: RECORD_VERSION,
            outcome: Outcome::Failed(JobError::new(code, message)),
        }
    }

    /// The record as one line of JSON text. Control characters (NUL too) are escaped.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a record has string keys only, so it is always JSON")
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    pub fn from_json(text: &str) -> Result<ResultRecord, RecordError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let read = serde_json::from_str::<ResultRecord>(text);
        // A newer one may not read as a record at all: only then is the version looked for alone.
        let found = match &read {
            Ok(record) => Some(record.version),
            Err(_) => serde_json::from_str::<Versioned>(text)
                .ok()
                .map(|found| found.version),
        };
        match found {
            Some(found) if found > RECORD_VERSION => Err(RecordError::Newer { found }),
            _ => read.map_err(RecordError::Malformed),
        }
    }
}

/// Why a stored record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer rbee.
    #[error(
        "a stored result has version {found}, this program knows {RECORD_VERSION} at most: use the newer rbee that wrote it"
    )]
    Newer {
        /// The version found.
        found: u32,
    },
    /// Not the JSON of a record.
    #[error("a stored result cannot be read, the store is damaged: {0}")]
    Malformed(serde_json::Error),
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The model answered.
    Completed(Completed),
    /// The job cannot be answered.
    Failed(JobError),
}

/// A model's answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Completed {
    /// The choices in order of their index, at least one where text was asked for.
    pub choices: Vec<Choice>,
    /// Token counts, over all choices.
    pub usage: Usage,
    /// The vectors of the texts in their order, where those were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub embeddings: Vec<Embedding>,
}

/// One of a request's `n` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// 0-based.
    pub index: u32,
    /// The generated text, valid UTF-8, without the stop text.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// One entry a generated token, when the request asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Vec<TokenLogprob>>,
}

/// Why a choice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end token, a stop token or a stop text.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
}

impl FinishReason {
    /// The word of OpenAI's API.
    pub fn as_str(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        }
    }
}

/// A generated token with its log-probability under the unmodified logits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The token's text; bytes that are no UTF-8 by themselves are replaced.
    pub token: String,
    /// The token's exact bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm; what is not finite is stored as [`LOGPROB_FLOOR`].
    #[serde(serialize_with = "finite_logprob")]
    pub logprob: f32,
    /// The likeliest tokens at this place, best first; as many as `top_logprobs` asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<TopLogprob>,
}

/// An alternative token with its log-probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopLogprob {
    /// The token's text; bytes that are no UTF-8 by themselves are replaced.
    pub token: String,
    /// The token's exact bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm; what is not finite is stored as [`LOGPROB_FLOOR`].
    #[serde(serialize_with = "finite_logprob")]
    pub logprob: f32,
}

fn finite_logprob<S: Serializer>(logprob: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    let value = if logprob.is_finite() {
        *logprob
    } else {
        LOGPROB_FLOOR
    };
    serializer.serialize_f32(value)
}

/// Token counts of one job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, counted once.
    pub prompt_tokens: u32,
    /// Generated tokens of all choices.
    pub completion_tokens: u32,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// A stable word in snake_case, such as `context_length_exceeded`.
    pub code: String,
    /// A sentence for a person.
    pub message: String,
}

impl JobError {
    /// An error of `code` with a sentence for a person.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> JobError {
        JobError {
            code: code.into(),
            message: message.into(),
        }
    }

    /// What every cancelled job says, wherever it was when it was cancelled.
    pub fn cancelled() -> JobError {
        JobError::new("cancelled", "The job was cancelled before it was done.")
    }

    /// What every job says that was not done when its batch's completion window passed.
    pub fn expired() -> JobError {
        JobError::new(
            "batch_expired",
            "The job was not done when the batch's completion window passed.",
        )
    }

    /// True for a failure of circumstance (a crash, a timeout, memory, a download, a cancel): it
    /// runs again when the same batch is run again. A verdict about the job itself is kept.
    pub fn is_circumstance(&self) -> bool {
        CIRCUMSTANCE_CODES.contains(&self.code.as_str())
    }
}

/// The code of what failed for want of room on a disk.
pub const DISK_FULL: &str = "disk_full";

/// The codes of failures that say nothing about the job itself.
pub const CIRCUMSTANCE_CODES: [&str; 11] = [
    "batch_expired",
    "cancelled",
    DISK_FULL,
    "download_failed",
    "engine_error",
    "internal_error",
    "model_load_failed",
    "model_not_found",
    "out_of_memory",
    "timeout",
    "worker_crashed",
];

/// How one run of a job went. Kept beside the result and never part of it, since it differs
/// between two equal runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobStats {
    /// The node that computed the result.
    #[serde(default)]
    pub node: String,
    /// Milliseconds of rendering and tokenising, and of compiling a form.
    #[serde(default)]
    pub prepare_ms: u64,
    /// Milliseconds from admission by the engine to the first generated token.
    pub first_token_ms: u64,
    /// Milliseconds from admission by the engine to the end.
    pub total_ms: u64,
    /// Generated tokens a second, from the first token on.
    pub tokens_per_s: f64,
    /// How often the sequence was preempted and recomputed.
    #[serde(default)]
    pub preemptions: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_with_a_logprob_of_minus_infinity_reads_back() {
        let record = ResultRecord::completed(Completed {
            choices: vec![Choice {
                index: 0,
                text: "a\u{0}\u{2028}".into(),
                finish_reason: FinishReason::Length,
                logprobs: Some(vec![TokenLogprob {
                    token: "a".into(),
                    bytes: vec![97],
                    logprob: f32::NEG_INFINITY,
                    top: vec![],
                }]),
            }],
            ..Completed::default()
        });
        let json = record.to_json();
        assert!(!json.contains('\u{0}') && !json.contains('\n'));
        let Outcome::Completed(back) = ResultRecord::from_json(&json).unwrap().outcome else {
            panic!("a completed record came back as a failed one");
        };
        assert_eq!(back.choices[0].text, "a\u{0}\u{2028}");
        assert_eq!(
            back.choices[0].logprobs.as_ref().unwrap()[0].logprob,
            LOGPROB_FLOOR
        );
    }

    #[test]
    fn record_of_a_newer_version_is_refused_by_number() {
        let error = ResultRecord::from_json(r#"{"version":9,"outcome":{"sung":{}}}"#).unwrap_err();
        assert!(error.to_string().contains("version 9"), "{error}");
    }

    #[test]
    fn verdicts_are_kept_and_circumstances_run_again() {
        assert!(JobError::new("worker_crashed", "").is_circumstance());
        assert!(!JobError::new("context_length_exceeded", "").is_circumstance());
    }
}
