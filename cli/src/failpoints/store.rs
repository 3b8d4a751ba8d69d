//! Moments around the store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rbee_queue::file::{RefusedLine, StoredFile};
use rbee_queue::ids::{BatchNo, JobIndex};
use rbee_queue::schedule::{RunNo, Schedule, ScheduleNo, ScheduleRun};
use rbee_queue::store::*;
use rbee_queue::token::Token;
use rbee_queue::*;

use super::at;

/// A store with moments before and after what changes jobs.
pub struct FailStore(pub Arc<dyn Store>);

/// The calls, with the moment before (`at`) and after (`then`) where there is one. The latter comes only with an answer
/// that says that something was done.
macro_rules! pass_on {
    ($store:ident; $(fn $name:ident($($arg:ident: $kind:ty),*) -> $out:ty
        $(, at $before:literal)? $(, then $after:literal if $did:expr)?;)*) => {
        #[async_trait]
        impl $store for FailStore {
            $(async fn $name(&self, $($arg: $kind),*) -> Result<$out, StoreError> {
                $(at($before);)?
                let answer = self.0.$name($($arg),*).await?;
                $(let did: fn(&$out) -> bool = $did;
                if did(&answer) {
                    at($after);
                })?
                Ok(answer)
            })*
        }
    };
}

pass_on! {
    Store;
    fn batch_create(new: NewBatch) -> (BatchId, BatchNo);
    fn batch_fill(batch: BatchNo, jobs: Vec<NewJob>) -> (), then "filled" if |()| true;
    fn batch_seal(batch: BatchNo) -> Sealed, at "sealing", then "sealed" if |_| true;
    fn batch_delete(batch: BatchNo) -> bool;
    fn batch_hidden() -> Vec<HiddenBatch>;
    fn batch_get(id: &BatchId) -> Option<Batch>;
    fn batch_by_no(batch: BatchNo) -> Option<Batch>;
    fn batch_by_key(owner: &str, key: &str) -> Option<Batch>;
    fn batch_free_key(batch: BatchNo) -> ();
    fn batch_list(owner: Option<&str>, after: Option<&BatchId>, limit: usize) -> Vec<Batch>;
    fn batch_open() -> Vec<Batch>;
    fn batch_untold(limit: usize) -> Vec<Untold>;
    fn batch_told(batch: BatchNo, again_in: Option<Duration>) -> ();
    fn batch_ended(owner: Option<&str>, age: Duration, limit: usize) -> Vec<Batch>;
    fn batch_pause(batch: BatchNo, reason: Option<&str>) -> ();
    fn batch_cancel(batch: BatchNo) -> u64;
    fn batch_expire(batch: BatchNo) -> u64;
    fn jobs_open() -> u64;
    fn model_resolve(batch: BatchNo, model: BatchModel) -> ();
    fn job_queued(query: QueuedQuery) -> Vec<QueuedJob>;
    fn job_waiting(batch: BatchNo) -> Vec<JobSummary>;
    fn place_many(places: Vec<Place>) -> Vec<PlaceOutcome>,
        at "placing", then "placed" if |outcomes| !outcomes.is_empty();
    fn finish_many(finishes: Vec<Finish>) -> Vec<FinishOutcome>,
        at "writing", then "written" if |outcomes| !outcomes.is_empty();
    fn adopt_many(adoption: Adoption) -> u64;
    fn release_many(releases: Vec<Release>) -> Vec<bool>,
        then "released" if |released| released.contains(&true);
    fn release_batch(batch: BatchNo, keep: &[NodeInstance]) -> u64;
    fn job_placed(query: &PlacedQuery) -> Vec<PlacedJob>;
    fn release_node(node: &NodeInstance, cause: ReleaseCause) -> u64,
        at "rescuing", then "released" if |released| *released > 0;
    fn job_let_go(batch: BatchNo) -> u64;
    fn retry_failed(batch: BatchNo, circumstance_only: bool) -> u64;
    fn results_page(batch: BatchNo, from: JobIndex, limit: usize) -> ResultsPage;
    fn finished_since(batch: BatchNo, after: u64, limit: usize) -> Vec<Finished>;
    fn failed_since(batch: BatchNo, after: u64, limit: usize) -> Vec<Finished>;
    fn failed_before_last(batch: BatchNo, count: usize) -> u64;
    fn job_get(jobs: &[JobRef]) -> Vec<Option<StoredJob>>;
    fn recount(batch: BatchNo) -> [u64; 5];
    fn node_join(node: &NodeInstance, report: &NodeReport, lease: Duration) -> (), then "joined" if |()| true;
    fn node_renew(node: &NodeInstance, report: &NodeReport, lease: Duration) -> Renewal;
    fn node_leave(node: &NodeInstance) -> ();
    fn node_list() -> Vec<StoredNode>;
    fn node_judge(keep: Duration) -> Vec<NodeInstance>, then "judged" if |lost| !lost.is_empty();
    fn node_drain(name: &str, drain: bool) -> ();
    fn lead(holder: &str, lease: Duration) -> Option<u64>;
    fn lead_end(holder: &str) -> ();
}

pass_on! {
    AnnouncedStore;
    fn batch_announce(new: NewBatch) -> Batch;
    fn batch_announced(limit: usize) -> Vec<Batch>;
    fn batch_seal_as(batch: BatchNo, announced: BatchNo) -> Sealed, at "replacing", then "replaced" if |_| true;
    fn batch_refuse(announced: BatchNo, reasons: Vec<RefusedLine>) -> ();
}

pass_on! {
    FileStore;
    fn file_keep(id: &FileId, piece: u64, bytes: Vec<u8>) -> ();
    fn file_kept(id: &FileId, piece: u64) -> Option<Vec<u8>>;
    fn file_add(new: NewFile) -> FileAdded;
    fn file_get(id: &FileId) -> Option<StoredFile>;
    fn file_list(query: FilesQuery) -> Vec<StoredFile>;
    fn file_sized(id: &FileId, created_at_us: i64, bytes: u64) -> ();
    fn file_remove(id: &FileId) -> bool;
    fn file_prune() -> u64;
}

pass_on! {
    ScheduleStore;
    fn clock_us() -> i64;
    fn schedule_add(new: NewSchedule) -> ScheduleAdded;
    fn schedule_keep(id: &ScheduleId, piece: u64, bytes: Vec<u8>) -> ();
    fn schedule_kept(id: &ScheduleId, piece: u64) -> Option<Vec<u8>>;
    fn schedule_list() -> Vec<Schedule>;
    fn schedule_pause(schedule: ScheduleNo, paused: bool, next_tick_us: Option<i64>) -> bool;
    fn schedule_remove(schedule: ScheduleNo) -> bool;
    fn schedule_due() -> DueSchedules;
    fn schedule_fire(fire: Fire) -> Option<Vec<ScheduleRun>>,
        at "firing", then "fired" if |made| made.is_some();
    fn run_open() -> Vec<ScheduleRun>;
    fn run_list(schedule: ScheduleNo, before: Option<RunNo>, limit: usize) -> Vec<ScheduleRun>;
    fn run_latest() -> Vec<ScheduleRun>;
    fn run_begin(run: RunNo, was: Option<BatchNo>, batch: NewBatch) -> Option<BatchNo>;
    fn run_note(run: RunNo, was: Option<BatchNo>, change: RunChange) -> bool, at "noting", then "noted" if |noted| *noted;
    fn run_untold(limit: usize) -> Vec<UntoldRun>;
    fn run_told(run: RunNo, again_in: Option<Duration>, reason: Option<String>) -> ();
    fn run_prune(keep: usize) -> u64;
}

pass_on! {
    TokenStore;
    fn token_add(new: NewToken) -> TokenAdded;
    fn token_list() -> Vec<Token>;
    fn token_remove(id: &TokenId) -> bool;
    fn jobs_unfinished(owner: &str) -> u64;
}
