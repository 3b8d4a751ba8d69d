//! The queue: motion between the dispatcher, the nodes and those who watch.
//!
//! Owns the trait and its messages. It is an index that can be rebuilt: whatever it loses, the
//! store still has, and `reconcile` brings it back. Everything in it is bounded.

#[cfg(test)]
mod contract;
mod memory;

pub use memory::MemoryQueue;

use crate::ids::{Attempt, JobKey, JobRef, ModelSha, NodeInstance};
use crate::request::Request;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// A placed job on its way to a node: all that the node needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// The job.
    pub job: JobRef,
    /// The attempt that the node's writes must carry.
    pub attempt: Attempt,
    /// What is asked.
    pub request: Request,
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
}

/// A job under an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Held {
    /// The job.
    pub job: JobRef,
    /// The attempt.
    pub attempt: Attempt,
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
    /// Take no new work.
    Drain,
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
}

/// What every queue can do. Implementations pass one contract suite.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Makes a node's inbox, which holds at most `room` jobs, taken ones included.
    async fn join(&self, node: &NodeInstance, room: usize) -> Result<(), QueueError>;

    /// Takes a node's inbox away; what was in it is returned, waiting and running. Whoever waits
    /// in [`take`](Self::take) gets nothing more.
    async fn leave(&self, node: &NodeInstance) -> Vec<Held>;

    /// Puts placed jobs into an inbox, all or none.
    async fn push(&self, node: &NodeInstance, work: Vec<Work>) -> Result<(), QueueError>;

    /// Takes up to `most` jobs in the order they came; waits for the first. Empty: the inbox is
    /// gone.
    async fn take(&self, node: &NodeInstance, most: usize) -> Vec<Work>;

    /// Forgets taken jobs, once their results are stored or their attempts ended.
    async fn done(&self, node: &NodeInstance, jobs: &[Held]);

    /// Removes jobs that still wait (they are returned), and tells the node to cancel those it
    /// took.
    async fn cancel(&self, node: &NodeInstance, jobs: &[Held]) -> Vec<Held>;

    /// Sends a control message.
    async fn control(&self, node: &NodeInstance, message: Control) -> Result<(), QueueError>;

    /// The next control message; `None`: the inbox is gone.
    async fn next_control(&self, node: &NodeInstance) -> Option<Control>;

    /// How full an inbox is.
    async fn depth(&self, node: &NodeInstance) -> Result<Depth, QueueError>;

    /// Everything that lies in an inbox, for `reconcile`.
    async fn held(&self, node: &NodeInstance) -> Result<Vec<Held>, QueueError>;

    /// Resolves after something left any inbox since the last call: there may be room.
    async fn room_made(&self);

    /// Sends pieces of text to those who watch their jobs. Costs nothing where nobody does.
    async fn publish(&self, events: Vec<TextEvent>);

    /// Follows a job's text from now on. A slow reader loses the oldest pieces, and is told.
    async fn watch(&self, job: JobRef) -> broadcast::Receiver<TextEvent>;
}
