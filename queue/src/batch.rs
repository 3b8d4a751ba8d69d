//! A batch as users and stores see it: what it was made with, and how far it is.
//!
//! Owns the types. Their changes are in `state`, their storage in `store`.

use crate::file::{Asked, RefusedLine};
use crate::ids::{BatchId, BatchNo, ModelNo, ModelSha};
use crate::jsonl::{LineOptions, Shape};
use crate::state::BatchStatus;
use crate::whole_number;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The `template_date` of batches that set none: templates that ask for the date get this one.
pub const DEFAULT_TEMPLATE_DATE: &str = "2024-07-26";

/// Whose the hidden batches of single requests are: they show in no listing that does not ask for them, and are purged
/// soon after they end.
pub const INTERACTIVE_OWNER: &str = "interactive";

/// Everything that decides a batch's bytes beside its input and its models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchSpec {
    /// How its lines are read.
    pub options: LineOptions,
    /// The seed of jobs whose lines have none.
    #[serde(deserialize_with = "whole_number::required")]
    pub seed: u64,
    /// `YYYY-MM-DD`, what `strftime_now` in a chat template says.
    pub template_date: String,
    /// The type of keys and values in the cache: `f16` or `f32`.
    pub kv: String,
    /// Nodes of any numerics may run it: the promise of equal bytes is given up.
    pub any_numerics: bool,
    /// Equal jobs are computed each, even where they have equal answers. The bytes are the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compute_each: bool,
}

impl BatchSpec {
    /// Seed 0, the fixed date, an f16 cache, pinned numerics.
    pub fn new(options: LineOptions) -> BatchSpec {
        BatchSpec {
            options,
            seed: 0,
            template_date: DEFAULT_TEMPLATE_DATE.to_owned(),
            kv: "f16".to_owned(),
            any_numerics: false,
            compute_each: false,
        }
    }
}

/// A model of a batch, resolved when the batch is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchModel {
    /// Its place in the batch's list.
    pub no: ModelNo,
    /// The reference as lines and options name it.
    pub requested: String,
    /// Its identity. `None`: it could not be resolved, and its jobs fail.
    pub sha256: Option<ModelSha>,
    /// The revision that the reference resolved to, where there is one.
    pub revision: Option<String>,
    /// The digest that the first placement pinned.
    pub numerics: Option<String>,
}

/// How many jobs of a batch are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All jobs, bad lines included.
    pub total: u64,
    /// Answered.
    pub succeeded: u64,
    /// Failed, cancelled and expired.
    pub failed: u64,
}

impl Counts {
    /// Jobs that have no result yet.
    pub fn unfinished(&self) -> u64 {
        self.total - self.succeeded - self.failed
    }
}

/// Whose jobs go first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Behind all that somebody waits for.
    #[default]
    Batch,
    /// Somebody waits for the answer.
    Interactive,
}

impl Priority {
    /// The word in SQL and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::Batch => "batch",
            Priority::Interactive => "interactive",
        }
    }

    /// The priority of a word.
    pub fn from_word(word: &str) -> Option<Priority> {
        [Priority::Batch, Priority::Interactive]
            .into_iter()
            .find(|priority| priority.as_str() == word)
    }
}

/// A batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// Its id.
    pub id: BatchId,
    /// Its number in this store.
    pub no: BatchNo,
    /// Whose it is.
    pub owner: String,
    /// A name for people.
    pub name: Option<String>,
    /// The idempotency key that it holds.
    #[serde(default)]
    pub key: Option<String>,
    /// Whose jobs go first.
    pub priority: Priority,
    /// The name of the only node that may run it, where there is one.
    pub pinned_node: Option<String>,
    /// Who is told when it is done: a URL.
    pub on_done: Option<String>,
    /// What it was made with.
    pub spec: BatchSpec,
    /// The shape of its first readable line.
    pub shape: Shape,
    /// Its state.
    pub status: BatchStatus,
    /// Why it does not go on, where it is paused.
    pub paused_reason: Option<String>,
    /// Its jobs.
    pub counts: Counts,
    /// Prompt tokens of all answers.
    pub input_tokens: u64,
    /// Generated tokens of all answers.
    pub output_tokens: u64,
    /// The greatest `finish_no` of its jobs.
    pub last_finish_no: u64,
    /// Microseconds since 1970, by the store's clock.
    pub created_at_us: i64,
    /// When its last job finished.
    pub finished_at_us: Option<i64>,
    /// Its other times.
    pub times: BatchTimes,
    /// What it was asked for with, where it was made of an uploaded file.
    pub asked: Option<Asked>,
    /// Why it is refused as a whole, where it failed.
    pub refused: Vec<RefusedLine>,
    /// Its models, by number.
    pub models: Vec<BatchModel>,
}

/// When a batch changed its state, in microseconds since 1970 by the store's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchTimes {
    /// All its lines were stored.
    pub in_progress_us: Option<i64>,
    /// Somebody wanted it to stop.
    pub cancelling_us: Option<i64>,
    /// Its last job finished, or its completion window passed.
    pub finalizing_us: Option<i64>,
    /// When its completion window passes.
    pub expires_us: Option<i64>,
}

/// What makes two runs one: the same batch answers both.
#[derive(Clone, Copy, Debug)]
pub struct RunKey<'a> {
    /// sha256 of the input, see [`crate::jsonl::Survey`].
    pub input: &'a [u8; 32],
    /// What the batch is made with.
    pub spec: &'a BatchSpec,
    /// Its models as named and as resolved.
    pub models: &'a [(String, Option<ModelSha>)],
    /// The numerics that it will run on, where that is known beforehand.
    pub numerics: Option<&'a str>,
}

impl RunKey<'_> {
    /// The idempotency key: 64 hex digits.
    pub fn to_key(self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"rbee run v1\n");
        hash.update(self.input);
        let rest = serde_json::to_vec(&(self.spec, self.models, self.numerics))
            .expect("a spec has string keys only, so it is always JSON");
        hash.update(rest);
        hex::encode(hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_key_changes_with_everything_that_changes_bytes() {
        let spec = BatchSpec::new(LineOptions::new("m"));
        let models = [("m".to_owned(), Some(ModelSha([1; 32])))];
        let base = RunKey {
            input: &[0; 32],
            spec: &spec,
            models: &models,
            numerics: Some("a"),
        };
        let seeded = BatchSpec {
            seed: 1,
            ..spec.clone()
        };
        let others = [
            RunKey {
                input: &[1; 32],
                ..base
            },
            RunKey {
                spec: &seeded,
                ..base
            },
            RunKey {
                models: &[],
                ..base
            },
            RunKey {
                numerics: Some("b"),
                ..base
            },
        ];
        for other in others {
            assert_ne!(base.to_key(), other.to_key());
        }
        assert_eq!(base.to_key(), base.to_key());
    }
}
