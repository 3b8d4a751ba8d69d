//! Names of things: batches, jobs, attempts, nodes, models, and the ids in result lines.
//!
//! Owns their forms and how the derived ones are computed. Owns no storage.

use crate::request::Request;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// Why a text is not an id of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: {form}")]
pub struct IdError {
    text: String,
    kind: &'static str,
    form: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A new id, sortable by the time it was made.
            pub fn generate() -> $name {
                $name(format!(concat!($prefix, "{}"), Uuid::now_v7().simple()))
            }

            /// The id's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<$name, IdError> {
                let error = || IdError {
                    text: text.chars().take(80).collect(),
                    kind: $kind,
                    form: concat!("it looks like ", $prefix, "019a3f… (32 hex digits)"),
                };
                let hex = text.strip_prefix($prefix).ok_or_else(error)?;
                let plain = hex.len() == 32
                    && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                if plain { Ok($name(text.to_owned())) } else { Err(error()) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<$name, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

uuid_id!(
    /// A batch: `batch_` and a version 7 uuid.
    BatchId, "batch_", "batch id"
);
uuid_id!(
    /// An uploaded or produced file: `file_` and a version 7 uuid.
    FileId, "file_", "file id"
);
uuid_id!(
    /// A schedule: `sched_` and a version 7 uuid.
    ScheduleId, "sched_", "schedule id"
);
uuid_id!(
    /// A token of the API, by which it is named and revoked; it opens nothing.
    TokenId, "token_", "token id"
);
uuid_id!(
    /// One process life of a node: a new one at each start.
    NodeInstance, "node_", "node instance id"
);

/// A job's place in its batch: the 0-based ordinal among the input's non-blank lines, bad ones
/// included.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct JobIndex(pub u64);

impl fmt::Display for JobIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A batch's number in its store: small, never reused, never shown to users (they see
/// [`BatchId`]).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct BatchNo(pub i64);

/// A model's place in its batch's list of models.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct ModelNo(pub u32);

/// A job: (batch, index).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct JobRef {
    /// The batch.
    pub batch: BatchNo,
    /// The job's place in it.
    pub index: JobIndex,
}

impl fmt::Display for JobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.batch.0, self.index)
    }
}

/// The fencing number of a placement: allocated by the store, greater at each placement of the
/// job, never reused. Every write about a placed job carries it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct Attempt(pub u64);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// 64 lower-case hex digits.
            pub fn to_hex(&self) -> String {
                hex::encode(self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<$name, IdError> {
                let mut bytes = [0u8; 32];
                match hex::decode_to_slice(text, &mut bytes) {
                    Ok(()) => Ok($name(bytes)),
                    Err(_) => Err(IdError {
                        text: text.chars().take(80).collect(),
                        kind: $kind,
                        form: "it is 64 hex digits",
                    }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<$name, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(digest: $name) -> String {
                digest.to_hex()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.to_hex())
            }
        }
    };
}

digest!(
    /// A job by its content: what its randomness and its result ids derive from. Equal in every
    /// run of the same line, wherever the line stands.
    JobKey,
    "job key"
);
digest!(
    /// A model: the sha256 of its file, or of the manifest of its files.
    ModelSha,
    "model sha256"
);
digest!(
    /// A job's content before equal ones are told apart: request and explicit custom id.
    ContentHash,
    "content hash"
);

impl ContentHash {
    /// Hashes the effective request and the line's own custom id, if it has one.
    ///
    /// The model's name is not part of it: one model file reached by two names gives the same
    /// bytes.
    pub fn of(request: &Request, custom_id: Option<&str>) -> ContentHash {
        let mut hash = Sha256::new();
        hash.update(b"rbee job v1\n");
        let mut writer = HashWriter(&mut hash);
        serde_json::to_writer(
            &mut writer,
            &(
                &request.endpoint,
                &request.input,
                &request.params,
                custom_id,
            ),
        )
        .expect("a request has string keys only and the hasher takes every byte");
        ContentHash(hash.finalize().into())
    }
}

impl ContentHash {
    /// Hashes a line that is no request.
    pub fn of_bad_line(line: &[u8]) -> ContentHash {
        let mut hash = ContentHash::hasher_of_bad_line();
        hash.update(line);
        ContentHash(hash.finalize().into())
    }

    /// The start of [`of_bad_line`](Self::of_bad_line), for a line that arrives in pieces.
    pub(crate) fn hasher_of_bad_line() -> Sha256 {
        let mut hash = Sha256::new();
        hash.update(b"rbee bad line v1\n");
        hash
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl JobKey {
    /// The key of the `occurrence`-th (0-based) job with this content for one model name.
    pub fn new(content: &ContentHash, occurrence: u64) -> JobKey {
        let mut hash = Sha256::new();
        hash.update(b"rbee job key v1\n");
        hash.update(content.0);
        hash.update(occurrence.to_le_bytes());
        JobKey(hash.finalize().into())
    }
}

/// The ids of one result line. They derive from content, so that equal runs give equal lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultIds {
    digest: String,
}

/// Hex digits in an id of a result line: 96 bits, collisions among a billion lines are unlikely.
const RESULT_ID_DIGITS: usize = 24;

impl ResultIds {
    /// The ids of the answer that `model` gives to the job `key` in a batch with `seed`.
    pub fn new(key: &JobKey, seed: u64, model: Option<&ModelSha>) -> ResultIds {
        let mut hash = Sha256::new();
        hash.update(b"rbee result v1\n");
        hash.update(key.0);
        hash.update(seed.to_le_bytes());
        if let Some(model) = model {
            hash.update(model.0);
        }
        let mut digest = hex::encode(hash.finalize());
        digest.truncate(RESULT_ID_DIGITS);
        ResultIds { digest }
    }

    /// `id` of an OpenAI output line.
    pub fn line(&self) -> String {
        format!("batch_req_{}", self.digest)
    }

    /// `request_id` of an OpenAI output line.
    pub fn request(&self) -> String {
        format!("req_{}", self.digest)
    }

    /// `id` of a chat completion.
    pub fn chat_completion(&self) -> String {
        format!("chatcmpl-{}", self.digest)
    }

    /// `id` of a call that a choice makes.
    pub fn tool_call(&self, choice: u32, at: usize) -> String {
        format!("call_{}_{choice}_{at}", self.digest)
    }

    /// `id` of a text completion.
    pub fn completion(&self) -> String {
        format!("cmpl-{}", self.digest)
    }
}

#[cfg(test)]
#[path = "ids_tests.rs"]
mod tests;
