//! What goes into the engine and what comes out: jobs, events, and the reasons to refuse a job.

use rbee_queue::{JobKey, JobStats, Request, ResultRecord};

/// Most unfinished jobs an engine holds, from submit to the last event. Each may hold a prompt as long as the context,
/// so the caller keeps far fewer (a little more than the slots) in normal running.
pub const MAX_LIVE_JOBS: usize = 4096;

/// A job for the engine.
#[derive(Debug, Clone)]
pub struct EngineJob {
    /// The caller's number for it, unique among the jobs that the engine holds.
    pub id: u64,
    /// What is asked.
    pub request: Request,
    /// Keys the randomness of a request without a seed of its own.
    pub job_key: JobKey,
    /// Seed of the batch, for a request without one of its own.
    pub batch_seed: u64,
    /// The day that the chat template sees, `YYYY-MM-DD`.
    pub template_date: String,
    /// Who goes first.
    pub priority: Priority,
    /// Whether [`EngineEvent::Text`] is sent from the start. [`super::Engine::watch`] turns it on later.
    pub stream: bool,
}

/// Who goes first when slots or KV blocks are short. Within a priority it is first come, first served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Somebody waits at a terminal: takes the slot of a batch job if none is free.
    Interactive,
    /// Everything else.
    #[default]
    Batch,
}

/// What the engine tells about a job.
///
/// A submitted job gets exactly one `Finished`, unless the engine is shut down before: then it gets none, and the
/// job is still the caller's. At most one `Started` and any number of `Text` come before it.
#[derive(Debug, Clone, PartialEq)]
pub enum EngineEvent {
    /// A sequence of the job got a slot for the first time.
    Started {
        /// The job.
        id: u64,
        /// Tokens of the rendered prompt.
        prompt_tokens: u32,
    },
    /// More text of a choice. The texts of a choice joined are its final text; none splits a character or shows a part
    /// of a stop text.
    Text {
        /// The job.
        id: u64,
        /// 0-based choice.
        choice: u32,
        /// 0-based number of the first generated token that this text accounts for.
        first_token: u32,
        /// Number of generated tokens that this text accounts for. The next text begins at `first_token + tokens`.
        tokens: u32,
        /// The text; empty only in a snapshot of a sequence without text.
        text: String,
    },
    /// The job has ended, with an answer or with its error. A cancelled job ends with the code `cancelled`.
    Finished {
        /// The job.
        id: u64,
        /// What is to be stored.
        record: ResultRecord,
        /// How it went. `node` is empty.
        stats: JobStats,
    },
}

impl EngineEvent {
    /// The job it is about.
    pub fn id(&self) -> u64 {
        match self {
            EngineEvent::Started { id, .. }
            | EngineEvent::Text { id, .. }
            | EngineEvent::Finished { id, .. } => *id,
        }
    }
}

/// Why a job was not taken. It comes back unchanged, and no event follows.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// [`MAX_LIVE_JOBS`] are unfinished.
    #[error("the engine holds {MAX_LIVE_JOBS} unfinished jobs already: submit job {} again later", .0.id)]
    Full(Box<EngineJob>),
    /// A job of this id is unfinished.
    #[error("the engine holds a job with the id {} already: give each job its own id", .0.id)]
    Duplicate(Box<EngineJob>),
    /// The engine is draining or has stopped.
    #[error("the engine takes no more jobs: submit job {} to another engine", .0.id)]
    Closed(Box<EngineJob>),
}
