//! What those see who watch: the events of a batch and of a job.
//!
//! A batch's events are `batch` first, then `result` and `progress` as they come, and `end`. A job's are `job` first and
//! whenever its state changes, `text` as it comes, `reset` where what came before is void, and `end`. Either ends with
//! `error` where there is nothing more to watch.

use super::{RequestCounts, TokenCounts};
use rbee_queue::store::Finished;
use rbee_queue::{BatchId, BatchStatus, JobError, JobState, JobStats, NodeState, Outcome, Usage};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The names of events.
pub mod event {
    /// The batch as the watching begins, a [`BatchView`](super::super::BatchView).
    pub const BATCH: &str = "batch";
    /// A [`ResultEvent`](super::ResultEvent); its id is the number in the order of finishing.
    pub const RESULT: &str = "result";
    /// A [`ProgressEvent`](super::ProgressEvent); its id is that of the last result before it.
    pub const PROGRESS: &str = "progress";
    /// The job as it is now, a [`JobView`](super::JobView).
    pub const JOB: &str = "job";
    /// A [`TextPiece`](super::TextPiece); its id is `attempt.choice.token`, the token that comes next.
    pub const TEXT: &str = "text";
    /// A [`ResetEvent`](super::ResetEvent): the text begins anew.
    pub const RESET: &str = "reset";
    /// The batch or the job as it ended.
    pub const END: &str = "end";
    /// A [`Trouble`](super::Trouble).
    pub const ERROR: &str = "error";
}

/// How a batch goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgressEvent {
    /// Its state.
    pub status: BatchStatus,
    /// Its jobs.
    pub request_counts: RequestCounts,
    /// Its tokens.
    pub usage: TokenCounts,
    /// The number of its last result.
    pub last_finish_no: u64,
    /// Jobs that were finished a second, lately.
    pub jobs_per_s: f64,
    /// Tokens of finished answers a second, lately.
    pub tokens_per_s: f64,
    /// Seconds until it is done, at that speed.
    pub eta_s: Option<f64>,
    /// Why its jobs wait, where they do.
    pub waiting: Option<String>,
    /// The nodes that have jobs of it.
    pub nodes: Vec<WatchedNode>,
}

/// A node that runs a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedNode {
    /// Its name.
    pub name: String,
    /// What it is up to.
    pub state: NodeState,
    /// Jobs of the batch that it has, running or waiting there.
    pub jobs: u64,
}

/// A piece of a job's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextPiece {
    /// The job's index, where several jobs are watched at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The attempt that generates.
    pub attempt: u64,
    /// The choice.
    pub choice: u32,
    /// The number of the first token of this piece.
    pub first_token: u32,
    /// How many tokens it is.
    pub tokens: u32,
    /// The text; the pieces joined are the text that is stored.
    pub text: String,
}

/// What came of a job's text before is void: it comes again from its beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetEvent {
    /// The job's index, where several jobs are watched at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The attempt that begins anew.
    pub attempt: u64,
}

/// Why there is nothing more to watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// A stable word.
    pub code: String,
    /// A sentence for a person.
    pub message: String,
}

/// A job as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its batch.
    #[schema(value_type = String)]
    pub batch: BatchId,
    /// Its place in the batch.
    pub index: u64,
    /// Its physical input line.
    pub line_number: u64,
    /// Its state; a placed job runs or is about to.
    #[schema(value_type = String)]
    pub state: JobState,
    /// How often it was placed.
    pub attempt: u64,
    /// The name of the node that has it.
    pub node: Option<String>,
    /// Why it waits, where that is known.
    #[serde(default)]
    pub waiting: Option<String>,
    /// Its result line, as an export writes it.
    #[serde(default)]
    pub result: Option<Value>,
    /// How it went.
    #[serde(default)]
    #[schema(value_type = Option<Value>)]
    pub stats: Option<JobStats>,
}

/// A result as those see it who watch a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultEvent {
    /// Its number in the order of finishing.
    pub finish_no: u64,
    /// The job.
    pub index: u64,
    /// Its state.
    pub state: JobState,
    /// Its error.
    pub error: Option<JobError>,
    /// The text of its first choice.
    pub text: Option<String>,
    /// Its tokens.
    pub usage: Option<Usage>,
    /// The node that computed it.
    pub node: Option<String>,
}

impl From<&Finished> for ResultEvent {
    fn from(finished: &Finished) -> ResultEvent {
        let (error, completed) = match &finished.result.record.outcome {
            Outcome::Failed(error) => (Some(error.clone()), None),
            Outcome::Completed(completed) => (None, Some(completed)),
        };
        let first = completed.and_then(|completed| completed.choices.first());
        let stats = finished.result.stats.as_ref();
        ResultEvent {
            finish_no: finished.finish_no,
            index: finished.index.0,
            state: finished.state,
            error,
            text: first.map(|choice| choice.text.clone()),
            usage: completed.map(|completed| completed.usage),
            node: stats
                .map(|stats| stats.node.clone())
                .filter(|node| !node.is_empty()),
        }
    }
}
