//! What goes into a store and comes out of it, job by job.

use crate::batch::{Batch, BatchModel, BatchSpec, Priority};
use crate::file::Asked;
use crate::ids::{
    Attempt, BatchId, BatchNo, ContentHash, JobIndex, JobKey, JobRef, ModelNo, NodeInstance,
};
use crate::jsonl::Shape;
use crate::queue::Held;
use crate::record::{JobError, JobStats, ResultRecord};
use crate::state::JobState;
use std::time::Duration;

/// A batch to be made.
#[derive(Clone, Debug)]
pub struct NewBatch {
    /// Its id, made by the caller: whoever holds the id's lock is spared by the sweeper.
    pub id: BatchId,
    /// Whose it is.
    pub owner: String,
    /// A name for people.
    pub name: Option<String>,
    /// At most one batch of an owner holds a key. `None`: equal batches may exist.
    pub idempotency_key: Option<String>,
    /// Whose jobs go first.
    pub priority: Priority,
    /// The name of the only node that may run it.
    pub pinned_node: Option<String>,
    /// Who is told when it is done: a URL.
    pub on_done: Option<String>,
    /// What it is made with.
    pub spec: BatchSpec,
    /// Its models, numbered from 0.
    pub models: Vec<BatchModel>,
    /// What it was asked for with, where it is made of an uploaded file.
    pub asked: Option<Asked>,
}

impl NewBatch {
    /// What it was asked for with, as JSON.
    pub(super) fn asked_json(&self) -> Option<String> {
        let asked = self.asked.as_ref()?;
        Some(serde_json::to_string(asked).expect("it has string keys only, so it is always JSON"))
    }

    /// Its completion window.
    pub(super) fn window_us(&self) -> Option<i64> {
        self.asked.as_ref().map(|asked| seconds_us(asked.window_s))
    }

    /// How long its output files are kept.
    pub(super) fn outputs_kept_us(&self) -> Option<i64> {
        let asked = self.asked.as_ref()?;
        asked.outputs_kept_s.map(seconds_us)
    }
}

/// Far below the end of the store's time.
fn seconds_us(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1_000_000)).map_or(i64::MAX / 4, |us| us.min(i64::MAX / 4))
}

/// A batch that nobody sees: a load or a purge under way, or what a dead process left of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenBatch {
    /// Its id.
    pub id: BatchId,
    /// Its number.
    pub no: BatchNo,
    /// Since it was last written to, by the store's clock.
    pub idle: Duration,
}

/// A job to be added to a hidden batch.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Its place.
    pub index: JobIndex,
    /// Its physical line.
    pub line_number: u64,
    /// Its line verbatim.
    pub line: String,
    /// The shape of its line.
    pub shape: Option<Shape>,
    /// Its own id, if it has one.
    pub custom_id: Option<String>,
    /// What its key is made of.
    pub content: ContentHash,
    /// Its model; for a bad line its error.
    pub verdict: Result<ModelNo, JobError>,
    /// An earlier job of the batch and the model whose answer is its own too: it waits for that, and is not placed.
    pub same_as: Option<JobIndex>,
}

/// What became of a filled batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Sealed {
    /// It is shown.
    Shown(Box<Batch>),
    /// An equal one exists already, here it is; the new one is gone.
    Existing(Box<Batch>),
    /// It is refused as a whole, and gone.
    Refused(Refusal),
}

/// Why a batch is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has no job.
    #[error("the input has no line with anything in it")]
    Empty,
    /// Ids that more than one line has; at most [`Refusal::MAX_LISTED`] are listed.
    #[error("{}", duplicates_message(.ids, *.count))]
    Duplicates {
        /// Each id with the physical numbers of its lines.
        ids: Vec<(String, Vec<u64>)>,
        /// How many ids there are, listed or not.
        count: u64,
    },
}

impl Refusal {
    /// Duplicate ids that a refusal lists.
    pub const MAX_LISTED: usize = 100_000;
}

fn duplicates_message(ids: &[(String, Vec<u64>)], count: u64) -> String {
    let mut message = match count {
        1 => "one id is used by more than one line".to_owned(),
        _ => format!("{count} ids are used by more than one line"),
    };
    for (id, lines) in ids {
        let lines: Vec<String> = lines.iter().map(u64::to_string).collect();
        message.push_str(&format!("\n  {id:?}: lines {}", lines.join(", ")));
    }
    if (ids.len() as u64) < count {
        message.push_str(&format!("\n  and {} more", count - ids.len() as u64));
    }
    message
}

/// Which queued jobs are wanted.
#[derive(Clone, Copy, Debug)]
pub struct QueuedQuery {
    /// Of this batch.
    pub batch: BatchNo,
    /// For this model.
    pub model: ModelNo,
    /// At most so many.
    pub limit: usize,
}

/// A job that waits, with all that a node needs to know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct QueuedJob {
    /// The job.
    pub job: JobRef,
    /// Its line verbatim.
    pub line: String,
    /// Its key.
    pub key: JobKey,
    /// Its model.
    pub model: ModelNo,
    /// It may have brought a node down: it runs without mates.
    pub alone: bool,
}

/// The counting of waiting jobs stops here: the dispatcher looks often, and never needs more.
pub const MAX_COUNTED: u64 = 10_000;

/// How many jobs of a model wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobSummary {
    /// The model.
    pub model: ModelNo,
    /// Its queued jobs, counted up to [`MAX_COUNTED`].
    pub queued: u64,
    /// Its jobs that nodes hold, counted up to [`MAX_COUNTED`].
    pub placed: u64,
}

/// Which placed jobs are wanted.
#[derive(Clone, Debug)]
pub enum PlacedQuery {
    /// Those that a node holds.
    Node(NodeInstance),
    /// Those of a batch.
    Batch(BatchNo),
}

/// A job that a node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedJob {
    /// The job and its attempt.
    pub held: Held,
    /// The node.
    pub node: NodeInstance,
}

/// A batch whose end somebody wants to hear of.
#[derive(Clone, Debug, PartialEq)]
pub struct Untold {
    /// The batch, terminal, with its URL.
    pub batch: Batch,
    /// How often it was tried.
    pub tries: u64,
}

/// A job for a node.
#[derive(Clone, Debug)]
pub struct Place {
    /// The job.
    pub job: JobRef,
    /// The node.
    pub node: NodeInstance,
    /// The node's digest. `None`: whoever takes the job computes nothing, so that nothing is
    /// pinned and nothing compared.
    pub numerics: Option<String>,
}

/// What became of a placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceOutcome {
    /// The job is the node's under this attempt.
    Placed(Attempt),
    /// The job is not queued any more, or its batch does not run.
    NotQueued,
    /// The batch's model is pinned to other numerics.
    OtherNumerics,
}

/// A result to be stored.
#[derive(Clone, Debug)]
pub struct Finish {
    /// The job.
    pub job: JobRef,
    /// The attempt under which the node has it.
    pub attempt: Attempt,
    /// The result.
    pub record: ResultRecord,
    /// How it went.
    pub stats: JobStats,
}

/// What became of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishOutcome {
    /// It is stored, as the batch's so-manieth.
    Stored {
        /// Counts from 1 within the batch.
        finish_no: u64,
        /// It was the last one: the batch is terminal now.
        batch_done: bool,
    },
    /// The attempt does not hold any more; nothing changed.
    Fenced,
}

/// Answers of one model that a batch takes over from another one.
#[derive(Clone, Debug)]
pub struct Adoption {
    /// The batch that gets them.
    pub batch: BatchNo,
    /// The model there.
    pub model: ModelNo,
    /// The digest of the nodes that computed them. The batch's model is pinned to it, and where it is pinned to another
    /// one already nothing is taken over.
    pub numerics: Option<String>,
    /// Which jobs get which answers.
    pub jobs: Vec<Adopt>,
}

impl Adoption {
    /// The jobs' names.
    pub fn refs(&self) -> impl Iterator<Item = JobRef> {
        let batch = self.batch;
        self.jobs.iter().map(move |job| JobRef {
            batch,
            index: job.index,
        })
    }
}

/// A job that gets an answer without being computed.
#[derive(Clone, Debug)]
pub struct Adopt {
    /// The job.
    pub index: JobIndex,
    /// The answer.
    pub record: ResultRecord,
    /// How it went when it was computed.
    pub stats: Option<JobStats>,
}

/// An attempt to be ended without a result.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    /// The job.
    pub job: JobRef,
    /// The attempt.
    pub attempt: Attempt,
    /// Why.
    pub cause: ReleaseCause,
}

/// Why an attempt ends without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseCause {
    /// The node gives it back: a drain, a yield, a stop.
    Returned,
    /// The node was lost, without evidence against the job.
    Lost,
    /// Its node crashed while it ran, with evidence against its jobs. It next runs alone; the
    /// third crash of a job that ran alone fails it.
    Blamed {
        /// It ran without mates.
        alone: bool,
    },
}

/// A job with its line and, once there is one, its result.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredJob {
    /// Its place.
    pub index: JobIndex,
    /// Its physical line.
    pub line_number: u64,
    /// Its line verbatim; empty where it was unreadable.
    pub line: String,
    /// Its key.
    pub key: JobKey,
    /// Its model; `None` for a bad line.
    pub model: Option<ModelNo>,
    /// Its state.
    pub state: JobState,
    /// The last attempt.
    pub attempt: Attempt,
    /// The node that holds it, while it is placed.
    pub node: Option<NodeInstance>,
    /// It may have brought a node down: it runs without mates.
    pub alone: bool,
    /// Its result, once it is terminal.
    pub result: Option<StoredResult>,
}

/// A result with when and how it came.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredResult {
    /// The result.
    pub record: ResultRecord,
    /// How it went; `None` for errors that no node found.
    pub stats: Option<JobStats>,
    /// Microseconds since 1970, by the store's clock.
    pub finished_at_us: i64,
}

/// A page of a batch in input order.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultsPage {
    /// The jobs.
    pub jobs: Vec<StoredJob>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<JobIndex>,
}

/// A result in the order they came.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Counts from 1 within the batch.
    pub finish_no: u64,
    /// The job.
    pub index: JobIndex,
    /// Its state.
    pub state: JobState,
    /// Its result.
    pub result: StoredResult,
}
