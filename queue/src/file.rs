//! Files that clients send and fetch, and what a batch is asked for with that is made of one.
//!
//! Owns the types. The bytes of an uploaded file lie in the store in pieces. What a batch gave has no bytes of its own: it
//! is rendered from the results when it is asked for.

use crate::ids::{BatchId, BatchNo, FileId};
use crate::request::Endpoint;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The prompts of batches.
    Batch,
    /// What a batch gave: its answers, or its errors.
    BatchOutput,
}

impl Purpose {
    /// The word of OpenAI's API, which is the one in SQL too.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Batch => "batch",
            Purpose::BatchOutput => "batch_output",
        }
    }

    /// The purpose of a word.
    pub fn from_word(word: &str) -> Option<Purpose> {
        [Purpose::Batch, Purpose::BatchOutput]
            .into_iter()
            .find(|purpose| purpose.as_str() == word)
    }
}

/// Which half of a batch's results a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputPart {
    /// The answers.
    Answers,
    /// The errors.
    Errors,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Its id.
    pub id: FileId,
    /// Whose it is.
    pub owner: String,
    /// What it is for.
    pub purpose: Purpose,
    /// Its name, for people.
    pub filename: String,
    /// Its size. `None`: nobody asked yet what a batch gave.
    pub bytes: Option<u64>,
    /// Microseconds since 1970, by the store's clock.
    pub created_at_us: i64,
    /// When it goes.
    pub expires_at_us: Option<i64>,
    /// The batch that gave it.
    pub batch: Option<BatchNo>,
}

/// What a client of OpenAI's batch API says beside the jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The file with the jobs.
    pub input_file_id: FileId,
    /// The one route of all jobs.
    pub endpoint: Endpoint,
    /// How long it may take, as it was written.
    pub completion_window: String,
    /// The same in seconds.
    pub window_s: u64,
    /// Notes of the client's own.
    #[serde(default)]
    pub metadata: Option<Map<String, Value>>,
    /// How long its output files are kept after its end, in seconds.
    #[serde(default)]
    pub outputs_kept_s: Option<u64>,
    /// Unfinished jobs that its owner may have at once, by the token that it was asked with.
    #[serde(default)]
    pub max_queued: Option<u64>,
}

/// Why a batch is refused as a whole: one reason, and the line that it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedLine {
    /// A stable word.
    pub code: String,
    /// A sentence for a person.
    pub message: String,
    /// The physical line.
    #[serde(default)]
    pub line: Option<u64>,
    /// The member that is wrong.
    #[serde(default)]
    pub param: Option<String>,
}

impl FileId {
    /// The file with one half of what a batch gave. It has the batch's digits, but for the uuid's version, which no upload
    /// has: so that both find each other without a table.
    pub fn of_output(batch: &BatchId, part: OutputPart) -> FileId {
        let digits = batch
            .as_str()
            .strip_prefix("batch_")
            .expect("every batch id begins so");
        let version = match part {
            OutputPart::Answers => 'a',
            OutputPart::Errors => 'e',
        };
        let (before, after) = (&digits[..VERSION_AT], &digits[VERSION_AT + 1..]);
        format!("file_{before}{version}{after}")
            .parse()
            .expect("it is made of the digits of a uuid")
    }

    /// Which half of a batch's results this is, where it is one.
    pub fn output_part(&self) -> Option<OutputPart> {
        match self.as_str().as_bytes()["file_".len() + VERSION_AT] {
            b'a' => Some(OutputPart::Answers),
            b'e' => Some(OutputPart::Errors),
            _ => None,
        }
    }
}

impl FileId {
    /// The batch whose results this is, where it is one.
    pub fn batch(&self) -> Option<BatchId> {
        self.output_part()?;
        let digits = self.as_str().strip_prefix("file_")?;
        let (before, after) = (&digits[..VERSION_AT], &digits[VERSION_AT + 1..]);
        format!("batch_{before}7{after}").parse().ok()
    }
}

/// Where the version stands among a uuid's digits.
const VERSION_AT: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_files_are_named_after_their_batch_and_no_upload_is() {
        let batch = BatchId::generate();
        let answers = FileId::of_output(&batch, OutputPart::Answers);
        let errors = FileId::of_output(&batch, OutputPart::Errors);
        assert_ne!(answers, errors);
        assert_eq!(answers.output_part(), Some(OutputPart::Answers));
        assert_eq!(errors.output_part(), Some(OutputPart::Errors));
        assert_eq!(errors.batch(), Some(batch));
        let upload = FileId::generate();
        assert_eq!((upload.output_part(), upload.batch()), (None, None));
    }
}
