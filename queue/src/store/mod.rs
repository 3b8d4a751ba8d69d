//! The store: the truth about batches, jobs and results.
//!
//! Owns the trait, what goes in and comes out, and its errors. Every method is one transaction (or
//! bounded chunks, where its doc says so), and takes and returns vectors where jobs are many. All
//! state changes are decided by `state`. SQL lives in the implementations only.

mod announced;
#[cfg(test)]
mod contract;
mod decide;
mod error;
mod file_rows;
mod file_sql;
mod files;
mod jobs;
mod known_tokens;
mod network_fs;
mod postgres;
mod probe;
mod rows;
mod schedule_rows;
mod schedule_sql;
mod schedules;
mod seen;
mod shared_answers;
mod sqlite;
mod tokens;

pub use announced::AnnouncedStore;
pub use error::StoreError;
pub use files::{FileAdded, FileStore, FilesQuery, MAX_FILES, NewFile};
pub use jobs::{
    Adopt, Adoption, Finish, FinishOutcome, Finished, HiddenBatch, JobSummary, MAX_COUNTED,
    NewBatch, NewJob, Place, PlaceOutcome, PlacedJob, PlacedQuery, QueuedJob, QueuedQuery, Refusal,
    Release, ReleaseCause, ResultsPage, Sealed, StoredJob, StoredResult, Untold,
};
pub use known_tokens::KnownTokens;
pub use postgres::PostgresStore;
pub use probe::StoreProbe;
pub(crate) use probe::now_us;
pub use schedules::{
    DueSchedules, Fire, MAX_KEPT_RUNS, MAX_RUNS_A_CALL, MAX_SCHEDULES, NewRun, NewRunState,
    NewSchedule, RunChange, ScheduleAdded, ScheduleStore, UntoldRun,
};
pub use sqlite::SqliteStore;
pub use tokens::{MAX_TOKENS, NewToken, TokenAdded, TokenStore};

use crate::batch::{Batch, BatchModel};
use crate::ids::{BatchId, BatchNo, JobIndex, JobRef, NodeInstance};
use crate::node::{NodeReport, Renewal, StoredNode};
use async_trait::async_trait;
use std::time::Duration;

/// Jobs that one call may carry: bounds a transaction's length and an answer's memory.
pub const MAX_JOBS_A_CALL: usize = 10_000;

/// What every store can do. Implementations pass one contract suite.
#[async_trait]
pub trait Store: ScheduleStore + TokenStore + FileStore + AnnouncedStore {
    /// Makes a hidden batch in `validating` with its models. Nobody but its maker sees it.
    async fn batch_create(&self, new: NewBatch) -> Result<(BatchId, BatchNo), StoreError>;

    /// Adds jobs to a hidden batch; bad lines come with their errors and are stored as failed.
    async fn batch_fill(&self, batch: BatchNo, jobs: Vec<NewJob>) -> Result<(), StoreError>;

    /// Checks a filled batch, numbers equal jobs, and shows it in one last update. A batch
    /// without jobs, with duplicate ids, or equal to one that exists is not shown: it is deleted.
    async fn batch_seal(&self, batch: BatchNo) -> Result<Sealed, StoreError>;

    /// Deletes a batch with all its jobs and results, in bounded chunks; hidden ones too. True if
    /// there was one.
    async fn batch_delete(&self, batch: BatchNo) -> Result<bool, StoreError>;

    /// The hidden batches, oldest first: loads under way and orphans of dead processes.
    async fn batch_hidden(&self) -> Result<Vec<HiddenBatch>, StoreError>;

    /// A batch that was shown.
    async fn batch_get(&self, id: &BatchId) -> Result<Option<Batch>, StoreError>;

    /// The batch of a number, if it was shown.
    async fn batch_by_no(&self, batch: BatchNo) -> Result<Option<Batch>, StoreError>;

    /// The batch that holds an owner's idempotency key.
    async fn batch_by_key(&self, owner: &str, key: &str) -> Result<Option<Batch>, StoreError>;

    /// Takes a batch's idempotency key away, so that an equal one can be made.
    async fn batch_free_key(&self, batch: BatchNo) -> Result<(), StoreError>;

    /// Batches from newest to oldest, those made before `after`; `owner` `None` means all but those of
    /// [`INTERACTIVE_OWNER`](crate::batch::INTERACTIVE_OWNER).
    async fn batch_list(
        &self,
        owner: Option<&str>,
        after: Option<&BatchId>,
        limit: usize,
    ) -> Result<Vec<Batch>, StoreError>;

    /// The batches that have jobs to place or to end: in progress, cancelling or finalizing, by priority, then
    /// from the oldest to the newest. Paused ones are among them.
    async fn batch_open(&self) -> Result<Vec<Batch>, StoreError>;

    /// Batches that ended longer ago than `age` by the store's clock, oldest first; `owner` `None` means all.
    async fn batch_ended(
        &self,
        owner: Option<&str>,
        age: Duration,
        limit: usize,
    ) -> Result<Vec<Batch>, StoreError>;

    /// The terminal batches whose end was not told yet and is due to be told now.
    async fn batch_untold(&self, limit: usize) -> Result<Vec<Untold>, StoreError>;

    /// Notes a try to tell of a batch's end. `again_in` `None`: it is over, told or given up.
    async fn batch_told(
        &self,
        batch: BatchNo,
        again_in: Option<Duration>,
    ) -> Result<(), StoreError>;

    /// Sets or clears the reason why a batch does not go on.
    async fn batch_pause(&self, batch: BatchNo, reason: Option<&str>) -> Result<(), StoreError>;

    /// Cancels: queued jobs get the error `cancelled`, placed ones keep their attempt until their
    /// node answers or they are released. Returns how many jobs are still placed.
    async fn batch_cancel(&self, batch: BatchNo) -> Result<u64, StoreError>;

    /// Ends a batch whose completion window passed: queued jobs get the error `batch_expired`, placed ones keep their
    /// attempt until their node answers or they are released. Returns how many jobs are still placed.
    async fn batch_expire(&self, batch: BatchNo) -> Result<u64, StoreError>;

    /// Sets what a model resolved to, or takes it away.
    async fn model_resolve(&self, batch: BatchNo, model: BatchModel) -> Result<(), StoreError>;

    /// Jobs without a result, of all batches that run.
    async fn jobs_open(&self) -> Result<u64, StoreError>;

    /// Queued jobs in input order, of batches that are in progress and not paused.
    async fn job_queued(&self, query: QueuedQuery) -> Result<Vec<QueuedJob>, StoreError>;

    /// How many jobs of each model of a batch wait and how many are placed, counted up to
    /// [`MAX_COUNTED`]; models with neither are left out.
    async fn job_waiting(&self, batch: BatchNo) -> Result<Vec<JobSummary>, StoreError>;

    /// Places queued jobs, each under a new attempt, and pins numerics where the model has none.
    /// One outcome for each, in order.
    async fn place_many(&self, places: Vec<Place>) -> Result<Vec<PlaceOutcome>, StoreError>;

    /// Stores results of placed jobs whose attempt still holds, with a `finish_no` each. The
    /// first fenced result wins; any other changes nothing. One outcome for each, in order.
    async fn finish_many(&self, finishes: Vec<Finish>) -> Result<Vec<FinishOutcome>, StoreError>;

    /// Gives queued jobs of a batch in progress answers that were computed for another one. Jobs that are not queued
    /// are passed over. Returns how many got one.
    async fn adopt_many(&self, adoption: Adoption) -> Result<u64, StoreError>;

    /// Ends attempts without a result: the jobs are queued again, or cancelled where their batch
    /// is. True for each whose attempt still held, in order.
    async fn release_many(&self, releases: Vec<Release>) -> Result<Vec<bool>, StoreError>;

    /// Ends all attempts of a batch at once, but for those of `keep`. For a process that holds
    /// the batch's lock and so knows that no other node has its jobs.
    async fn release_batch(&self, batch: BatchNo, keep: &[NodeInstance])
    -> Result<u64, StoreError>;

    /// Placed jobs with their nodes, in order of batch and index, at most [`MAX_JOBS_A_CALL`].
    async fn job_placed(&self, query: &PlacedQuery) -> Result<Vec<PlacedJob>, StoreError>;

    /// Ends attempts of a node that has left or whose lease is over, at most
    /// [`MAX_JOBS_A_CALL`]. Returns how many; 0: it has none left.
    async fn release_node(
        &self,
        node: &NodeInstance,
        cause: ReleaseCause,
    ) -> Result<u64, StoreError>;

    /// Lets queued jobs of a batch go that wait for an answer which is there, but was stored without them: a node of a version
    /// that knows no equal jobs did that. They are computed themselves. Returns how many.
    async fn job_let_go(&self, batch: BatchNo) -> Result<u64, StoreError>;

    /// Queues failed jobs again: all, or those that failed by circumstance. Bad lines stay. The
    /// new result replaces the old error. Returns how many.
    async fn retry_failed(
        &self,
        batch: BatchNo,
        circumstance_only: bool,
    ) -> Result<u64, StoreError>;

    /// Lines and results from `from` on in input order, bounded in rows and bytes.
    async fn results_page(
        &self,
        batch: BatchNo,
        from: JobIndex,
        limit: usize,
    ) -> Result<ResultsPage, StoreError>;

    /// Results in the order they came, after the number `after`. Numbers have no gaps but those
    /// of results that were replaced.
    async fn finished_since(
        &self,
        batch: BatchNo,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Finished>, StoreError>;

    /// The same, but the errors only: what lies between them costs nothing.
    async fn failed_since(
        &self,
        batch: BatchNo,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Finished>, StoreError>;

    /// The number after which the last `count` errors are; 0 where there are no more than so many.
    async fn failed_before_last(&self, batch: BatchNo, count: usize) -> Result<u64, StoreError>;

    /// Jobs by name, with their lines.
    async fn job_get(&self, jobs: &[JobRef]) -> Result<Vec<Option<StoredJob>>, StoreError>;

    /// Counts a batch's jobs by state from its rows, to hold against its counters.
    async fn recount(&self, batch: BatchNo) -> Result<[u64; 5], StoreError>;

    /// Gives a node a lease from now on. Joining again, after an answer that was lost, is renewing.
    async fn node_join(
        &self,
        node: &NodeInstance,
        report: &NodeReport,
        lease: Duration,
    ) -> Result<(), StoreError>;

    /// Renews a lease from now on, unless it was judged to be over.
    async fn node_renew(
        &self,
        node: &NodeInstance,
        report: &NodeReport,
        lease: Duration,
    ) -> Result<Renewal, StoreError>;

    /// Ends a node's lease and forgets the node. Its placed jobs are the caller's to release.
    async fn node_leave(&self, node: &NodeInstance) -> Result<(), StoreError>;

    /// All nodes, lost ones included, by name.
    async fn node_list(&self) -> Result<Vec<StoredNode>, StoreError>;

    /// Judges leases: those that are over by the store's clock are over for good from now on.
    /// Returns all lost nodes that have placed jobs or were judged just now. Nodes that were lost
    /// for longer than `keep` and have no jobs are forgotten.
    async fn node_judge(&self, keep: Duration) -> Result<Vec<NodeInstance>, StoreError>;

    /// Wishes that nodes of a name drain, or that they do not any more; it holds for later
    /// processes of the name too.
    async fn node_drain(&self, name: &str, drain: bool) -> Result<(), StoreError>;

    /// Takes or renews the lead for a while. `None`: somebody else has it. Else its term, which
    /// grows with each change of the leader.
    async fn lead(&self, holder: &str, lease: Duration) -> Result<Option<u64>, StoreError>;

    /// Gives the lead back.
    async fn lead_end(&self, holder: &str) -> Result<(), StoreError>;
}
