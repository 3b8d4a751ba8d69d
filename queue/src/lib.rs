//! rbee's domain and its homes: batches, jobs, results, the JSONL formats, the store and the queue.

pub mod ids;
pub mod record;
pub mod request;

pub use ids::{Attempt, BatchId, JobIndex, JobKey, JobRef, ModelSha};
pub use record::{
    Choice, Completed, FinishReason, JobError, JobStats, Outcome, ResultRecord, TokenLogprob,
    TopLogprob, Usage,
};
pub use request::{Endpoint, Input, Params, Request};
