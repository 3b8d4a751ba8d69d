//! What goes over the wire between `serve` and its clients, as both sides know it.
//!
//! Owns the JSON forms. Where OpenAI's API has a word for something, it is used.

use rbee_queue::{BatchSpec, Counts, NodeState, Priority, StoredNode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod batch;
mod events;
mod openai;

pub use batch::{
    BatchErrors, BatchUsage, BatchView, InputTokensDetails, OutputTokensDetails, TokenCounts,
};
pub use events::{
    JobView, ProgressEvent, ResetEvent, ResultEvent, TextPiece, Trouble, WatchedNode, event,
};
mod kept;

mod schedules;
mod tokens;

pub use kept::{KeptJob, KeptJobs};
pub use openai::{Deleted, FileView, ModelView};
pub use rbee_queue::schedule::OwnModel as KnownModel;
pub use schedules::{
    Calendar, CalendarTick, NewScheduleSpec, RunView, ScheduleMade, ScheduleView, TickView,
    WantedSource,
};
pub use tokens::{DashboardLink, NewTokenSpec, TokenMade, TokenView};

/// The multipart part with the [`SubmitSpec`]; it comes before the input.
pub const PART_SPEC: &str = "spec";
/// The multipart part with the [`NewScheduleSpec`]; it comes before the input.
pub const PART_SCHEDULE: &str = "schedule";
/// The multipart part with the prompts.
pub const PART_INPUT: &str = "input";
/// The content type of framed results, see [`Frame`].
pub const FRAMED: &str = "application/vnd.rbee.results";
/// The content type of plain results.
pub const NDJSON: &str = "application/x-ndjson";

/// What a batch is to be made with: the first part of a submit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubmitSpec {
    /// Everything that decides its bytes beside input and models.
    pub spec: BatchSpec,
    /// A name for people.
    #[serde(default)]
    pub name: Option<String>,
    /// Whose jobs go first.
    #[serde(default)]
    pub priority: Priority,
    /// At most one batch has this key. `None`: it is made from what the batch is.
    #[serde(default)]
    pub key: Option<String>,
    /// Make a batch even if an equal one exists.
    #[serde(default)]
    pub new: bool,
    /// A URL that is told when the batch is done.
    #[serde(default)]
    pub on_done: Option<String>,
    /// The name of the only node that may run it.
    #[serde(default)]
    pub node: Option<String>,
    /// Models that the client has resolved already: files of its own.
    #[serde(default)]
    pub models: Vec<KnownModel>,
    /// The id of a batch whose answers are taken over by jobs that are equal to its own.
    #[serde(default)]
    pub takes_over: Option<String>,
}

/// The answer to a submit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submitted {
    /// The batch.
    pub batch: BatchView,
    /// It existed before.
    pub existing: bool,
    /// What the user should look at: models that lead nowhere.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// How many of a batch's requests are where, in OpenAI's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestCounts {
    /// All jobs.
    pub total: u64,
    /// Answered.
    pub completed: u64,
    /// Failed, cancelled and expired.
    pub failed: u64,
}

impl RequestCounts {
    /// Jobs with a result.
    pub fn done(&self) -> u64 {
        self.completed + self.failed
    }

    /// Jobs without one.
    pub fn unfinished(&self) -> u64 {
        self.total.saturating_sub(self.done())
    }
}

impl From<Counts> for RequestCounts {
    fn from(counts: Counts) -> RequestCounts {
        RequestCounts {
            total: counts.total,
            completed: counts.succeeded,
            failed: counts.failed,
        }
    }
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Listing<T> {
    /// Always `list`.
    pub object: String,
    /// The page.
    pub data: Vec<T>,
    /// The first one's id.
    pub first_id: Option<String>,
    /// The last one's id: the next page begins after it.
    pub last_id: Option<String>,
    /// There is more.
    pub has_more: bool,
}

/// A number of things in a query: one that 64 bits with a sign hold, as the document says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Count(pub u64);

impl TryFrom<i64> for Count {
    type Error = std::num::TryFromIntError;

    fn try_from(number: i64) -> Result<Count, Self::Error> {
        u64::try_from(number).map(Count)
    }
}

/// Errors of a batch that have one code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorKind {
    /// The code.
    pub code: String,
    /// How many jobs have it.
    pub jobs: u64,
    /// The first one's sentence.
    pub example: String,
    /// Physical input lines of the first jobs.
    pub lines: Vec<u64>,
}

/// A batch in detail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchDetail {
    /// The batch.
    pub batch: BatchView,
    /// Its errors by code.
    pub errors: Vec<ErrorKind>,
}

/// A node as clients see it: its state and all that the store knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// What it is up to.
    pub state: NodeState,
    /// What it said last, and its lease.
    #[serde(flatten)]
    pub node: StoredNode,
}

impl From<StoredNode> for NodeView {
    fn from(node: StoredNode) -> NodeView {
        NodeView {
            state: node.state(),
            node,
        }
    }
}

/// The beginning of each frame of framed results: one line of JSON behind a `#`, then `bytes` bytes
/// of result lines. A stream that is whole ends with a frame whose `end` is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Bytes of the lines that follow, their ends included.
    pub bytes: usize,
    /// Lines that follow.
    pub lines: usize,
    /// Which of them hold errors, counted from 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<usize>,
    /// Jobs in this part that have no result.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing: u64,
    /// Input lines of the first of those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_lines: Vec<u64>,
    /// The index of the job after this part: where a broken stream goes on.
    pub next: u64,
    /// There is nothing more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub end: bool,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_false(word: &bool) -> bool {
    !*word
}

/// An error as every route tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorWords,
}

/// The words of an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorWords {
    /// A sentence for a person.
    pub message: String,
    /// `invalid_request_error`, `authentication_error`, `server_error`, `rate_limit_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The parameter that is wrong.
    #[serde(default)]
    pub param: Option<String>,
    /// A stable word.
    #[serde(default)]
    pub code: Option<String>,
}
