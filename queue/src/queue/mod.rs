//! The queue: motion between the dispatcher, the nodes and those who watch.
//!
//! Owns the trait and its messages. It is an index that can be rebuilt: whatever it loses, the
//! store still has, and `reconcile` brings it back. Everything in it is bounded.

#[cfg(test)]
mod contract;
mod memory;
mod redis;

pub use memory::MemoryQueue;
pub use redis::{QueueProbe, RedisQueue};

use crate::batch::Priority;
use crate::ids::{Attempt, JobKey, JobRef, ModelSha, NodeInstance};
use crate::request::Request;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::broadcast;

/// A placed job on its way to a node: all that the node needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// The job.
    pub job: JobRef,
    /// The attempt that the node's writes must carry.
    pub attempt: Attempt,
    /// What is asked. `None`: too large for the queue, the node reads it from the store.
    pub request: Option<Request>,
    /// The job's key, for its randomness.
    pub key: JobKey,
    /// The batch's seed.
    pub seed: u64,
    /// The batch's `YYYY-MM-DD` for templates.
    pub template_date: String,
    /// The model.
    pub model: ModelSha,
    /// It runs without mates.
    pub alone: bool,
    /// Whether it goes ahead of others on its node.
    pub priority: Priority,
}

/// A job under an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Held {
    /// The job.
    pub job: JobRef,
    /// The attempt.
    pub attempt: Attempt,
}

impl Work {
    /// The job under its attempt.
    pub fn held(&self) -> Held {
        Held {
            job: self.job,
            attempt: self.attempt,
        }
    }
}

/// How full a node's inbox is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Jobs that the node has not taken yet.
    pub waiting: usize,
    /// Jobs that it took and has not finished.
    pub running: usize,
}

/// What the coordinator says to a node beside work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// Stop these jobs, without a result or with the error `cancelled`.
    Cancel(Vec<Held>),
    /// Bring a model into memory.
    Load(LoadWish),
    /// Somebody watches these jobs for the next [`WATCH_TTL`]: publish each one's text so far, then
    /// what is added, for as long as the wish is renewed.
    Watch(Vec<JobRef>),
    /// Take no new work, finish what runs, leave.
    Drain,
    /// Answer with the last lines of the log, by [`Queue::answer`].
    Logs {
        /// Under this name the answer is waited for.
        ask: String,
        /// At most so many lines.
        lines: usize,
    },
}

/// How long a wish to watch a job holds. Watchers renew it well before.
pub const WATCH_TTL: Duration = Duration::from_secs(30);

/// A wish for a model in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadWish {
    /// The model.
    pub model: ModelSha,
    /// The reference by which it was asked for, where the node may find it.
    pub reference: String,
    /// The revision that the reference resolved to, where there is one.
    pub revision: Option<String>,
    /// Models that make room for it, as soon as they have no jobs.
    pub evict: Vec<ModelSha>,
}

/// A piece of a running job's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextEvent {
    /// The job.
    pub job: JobRef,
    /// The attempt that generates.
    pub attempt: Attempt,
    /// The choice.
    pub choice: u32,
    /// The number of the first token in `text`, 0-based: a reader drops what it has already.
    pub first_token: u32,
    /// How many tokens `text` accounts for: the next piece begins at `first_token + tokens`, else
    /// something was lost.
    pub tokens: u32,
    /// The text; never a part of a character.
    pub text: String,
}

/// Why the queue did not do what it was asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The node has no inbox: it never came, or it left.
    #[error("node {node} has no inbox: it left, or was never there")]
    NoSuchNode {
        /// The node.
        node: NodeInstance,
    },
    /// The inbox has no room for all of the jobs; none was taken.
    #[error("the inbox of node {node} has room for {room} jobs, not for {given}")]
    Full {
        /// The node.
        node: NodeInstance,
        /// Jobs that would fit.
        room: usize,
        /// Jobs that were given.
        given: usize,
    },
    /// The queue's server cannot be reached, or did not do what it was asked. What was asked may
    /// have been done.
    #[error("the queue at {place} cannot be used: {reason}")]
    Unavailable {
        /// Its address, without secrets.
        place: String,
        /// What the driver said.
        reason: String,
    },
    /// Jobs that were taken came in a form that this program does not know: a newer one pushed
    /// them. They are to be released, and forgotten with [`Queue::done`]. The inbox goes on.
    #[error("node {node} cannot read {} of its jobs: another version of rbee sent them", jobs.len())]
    Unreadable {
        /// The node.
        node: NodeInstance,
        /// The jobs.
        jobs: Vec<Held>,
    },
    /// Nobody answered in time.
    #[error("node {node} did not answer")]
    NoAnswer {
        /// The node.
        node: NodeInstance,
    },
}

/// What every queue can do. Implementations pass one contract suite.
///
/// A queue may lose everything at any moment (its server was restarted or flushed): nodes
/// [`join`](Queue::join) again with each heartbeat, and reconciling pushes again what is missing.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Makes a node's inbox, which holds at most `room` jobs, taken ones included. Does nothing
    /// where there is one.
    async fn join(&self, node: &NodeInstance, room: usize) -> Result<(), QueueError>;

    /// Takes a node's inbox away; what was in it is returned, waiting and running. Whoever waits
    /// in [`take`](Self::take) gets nothing more.
    async fn leave(&self, node: &NodeInstance) -> Result<Vec<Held>, QueueError>;

    /// Puts placed jobs into an inbox, all or none. Jobs that are in it already, waiting or
    /// running, under the same attempt are passed over. Those of interactive batches go ahead of
    /// waiting batch ones.
    async fn push(&self, node: &NodeInstance, work: Vec<Work>) -> Result<(), QueueError>;

    /// Takes up to `most` jobs in order; waits for the first. [`QueueError::NoSuchNode`]: the
    /// inbox is gone.
    async fn take(&self, node: &NodeInstance, most: usize) -> Result<Vec<Work>, QueueError>;

    /// Forgets taken jobs, once their results are stored or their attempts ended.
    async fn done(&self, node: &NodeInstance, jobs: &[Held]) -> Result<(), QueueError>;

    /// Removes jobs that still wait (they are returned), and tells the node to cancel those it
    /// took.
    async fn cancel(&self, node: &NodeInstance, jobs: &[Held]) -> Result<Vec<Held>, QueueError>;

    /// Sends a control message.
    async fn control(&self, node: &NodeInstance, message: Control) -> Result<(), QueueError>;

    /// The next control message; waits for it. [`QueueError::NoSuchNode`]: the inbox is gone.
    async fn next_control(&self, node: &NodeInstance) -> Result<Control, QueueError>;

    /// How full an inbox is.
    async fn depth(&self, node: &NodeInstance) -> Result<Depth, QueueError>;

    /// Everything that lies in an inbox, for `reconcile`.
    async fn held(&self, node: &NodeInstance) -> Result<Vec<Held>, QueueError>;

    /// Resolves after something left any inbox since the last call: there may be room.
    async fn room_made(&self);

    /// Sends pieces of text to those who watch their jobs. Best effort: whoever misses a piece
    /// sees it by the token numbers.
    async fn publish(&self, events: Vec<TextEvent>);

    /// Follows a job's text from now on. A slow reader loses the oldest pieces, and is told.
    async fn watch(&self, job: JobRef) -> Result<broadcast::Receiver<TextEvent>, QueueError>;

    /// Answers a control message that asked for something.
    async fn answer(&self, ask: &str, body: String) -> Result<(), QueueError>;

    /// Waits for the answer to what was asked under this name. `None`: there was none in time.
    async fn answered(&self, ask: &str, patience: Duration) -> Result<Option<String>, QueueError>;
}
