//! rbee's domain and its homes: batches, jobs, results, the JSONL formats, the store and the queue.
//!
//! How a run goes through it, on one machine:
//!
//! 1. **Open.** `SqliteStore::open(path)`, a `MemoryQueue`, and `Batches::embedded(store, queue,
//!    path)` over both. `Batches::sweep` deletes what killed submits left.
//! 2. **Look.** `LineOptions::validate`, then `jsonl::survey(input, &options)` reads the input once:
//!    its digest, its jobs, the models that its lines name. The caller resolves those to files.
//! 3. **Create or resume.** `RunKey { input: &survey.digest, spec, models, numerics }.to_key()` names
//!    the run. `store.batch_by_key(owner, &key)` finds a batch that has it: `Batches::take` its lock
//!    (refused with the process that runs it), then `Batches::resume` queues again what a dead process
//!    had placed and what failed by circumstance. Else `Batches::submit(input, Submission { .. })`
//!    streams the lines into the store and returns the batch with its lock.
//! 4. **Dispatch.** A node has an instance id and an inbox: `queue.join(&node, room)`. The dispatcher
//!    (rbee-scheduler) places queued jobs under new attempts and pushes them as `Work`; the node's
//!    loop does `queue.take(&node, most)` and gives each `Work` to its engine.
//! 5. **Finish.** Results go back in groups: `Batches::finish(&node, vec![Finish { job, attempt,
//!    record, stats }])`. Each is stored once, fenced by its attempt. The outcome of the last one says
//!    `batch_done`.
//! 6. **Stop.** `Batches::leave(&node)` queues unfinished jobs again. A killed process needs none of
//!    this: the next `resume` does it.
//! 7. **Export.** `Batches::export(&batch.id, Rendering { .. })` gives pages of `ExportLine` in input
//!    order, each with its rendered line or `None` where there is no result yet.

pub mod batch;
pub mod batches;
pub mod embedding;
pub mod file;
pub mod ids;
pub mod jsonl;
pub mod node;
pub mod owner;
pub mod queue;
pub mod record;
pub mod request;
pub mod response_format;
pub mod schedule;
pub mod state;
pub mod store;
pub mod token;
pub mod tools;
pub mod trace;
pub mod whole_number;
mod words;

pub use batch::{Batch, BatchModel, BatchSpec, Counts, Priority, RunKey};
pub use batches::Batches;
pub use ids::{
    Attempt, BatchId, BatchNo, FileId, JobIndex, JobKey, JobRef, ModelNo, ModelSha, NodeInstance,
    ScheduleId, TokenId,
};
pub use node::{NodeReport, NodeState, Renewal, StoredNode};
pub use queue::{MemoryQueue, Queue, RedisQueue};
pub use record::{
    Choice, Completed, FinishReason, JobError, JobStats, Outcome, ResultRecord, TokenLogprob,
    TopLogprob, Usage,
};
pub use request::{Endpoint, Input, Params, Request};
pub use response_format::ResponseFormat;
pub use state::{BatchStatus, JobState};
pub use store::{PostgresStore, SqliteStore, Store, StoreError};
pub use tools::{ToolCall, ToolChoice, Tools};
