//! A store that a test can cut off: its calls fail or hang, as over a network.

use rbee_queue::file::{RefusedLine, StoredFile};
use rbee_queue::ids::{BatchNo, JobIndex};
use rbee_queue::schedule::{RunNo, Schedule, ScheduleNo, ScheduleRun};
use rbee_queue::store::*;
use rbee_queue::token::Token;
use rbee_queue::*;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How the store can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// As ever.
    Open,
    /// Every call fails for now.
    Failing,
    /// No call returns.
    Hanging,
}

/// Passes calls on to the store behind it, unless it is cut off.
pub struct CutStore {
    inner: Arc<dyn Store>,
    cut: watch::Receiver<Cut>,
}

impl CutStore {
    /// The store, and what cuts it off.
    pub fn before(inner: Arc<dyn Store>) -> (Arc<dyn Store>, watch::Sender<Cut>) {
        let (switch, cut) = watch::channel(Cut::Open);
        (Arc::new(CutStore { inner, cut }), switch)
    }

    async fn gate(&self) -> Result<(), StoreError> {
        let mut cut = self.cut.clone();
        let state = cut.wait_for(|cut| *cut != Cut::Hanging).await;
        match state.map(|cut| *cut) {
            Ok(Cut::Failing) => Err(StoreError::Busy {
                place: "a test".into(),
            }),
            _ => Ok(()),
        }
    }
}

macro_rules! pass_on {
    ($store:ident; $(fn $name:ident($($arg:ident: $kind:ty),*) -> $out:ty;)*) => {
        #[async_trait::async_trait]
        impl $store for CutStore {
            $(async fn $name(&self, $($arg: $kind),*) -> Result<$out, StoreError> {
                self.gate().await?;
                self.inner.$name($($arg),*).await
            })*
        }
    };
}

pass_on! {
    Store;
    fn batch_create(new: NewBatch) -> (BatchId, BatchNo);
    fn batch_fill(batch: BatchNo, jobs: Vec<NewJob>) -> ();
    fn batch_seal(batch: BatchNo) -> Sealed;
    fn batch_delete(batch: BatchNo) -> bool;
    fn batch_hidden() -> Vec<HiddenBatch>;
    fn batch_get(id: &BatchId) -> Option<Batch>;
    fn batch_by_no(batch: BatchNo) -> Option<Batch>;
    fn batch_by_key(owner: &str, key: &str) -> Option<Batch>;
    fn batch_free_key(batch: BatchNo) -> ();
    fn batch_list(owner: Option<&str>, after: Option<&BatchId>, limit: usize) -> Vec<Batch>;
    fn batch_open() -> Vec<Batch>;
    fn batch_ended(owner: Option<&str>, age: Duration, limit: usize) -> Vec<Batch>;
    fn batch_untold(limit: usize) -> Vec<Untold>;
    fn batch_told(batch: BatchNo, again_in: Option<Duration>) -> ();
    fn batch_pause(batch: BatchNo, reason: Option<&str>) -> ();
    fn batch_cancel(batch: BatchNo) -> u64;
    fn batch_expire(batch: BatchNo) -> u64;
    fn jobs_open() -> u64;
    fn model_resolve(batch: BatchNo, model: BatchModel) -> ();
    fn job_queued(query: QueuedQuery) -> Vec<QueuedJob>;
    fn job_waiting(batch: BatchNo) -> Vec<JobSummary>;
    fn place_many(places: Vec<Place>) -> Vec<PlaceOutcome>;
    fn finish_many(finishes: Vec<Finish>) -> Vec<FinishOutcome>;
    fn adopt_many(adoption: Adoption) -> u64;
    fn release_many(releases: Vec<Release>) -> Vec<bool>;
    fn release_batch(batch: BatchNo, keep: &[NodeInstance]) -> u64;
    fn job_placed(query: &PlacedQuery) -> Vec<PlacedJob>;
    fn release_node(node: &NodeInstance, cause: ReleaseCause) -> u64;
    fn job_let_go(batch: BatchNo) -> u64;
    fn retry_failed(batch: BatchNo, circumstance_only: bool) -> u64;
    fn results_page(batch: BatchNo, from: JobIndex, limit: usize) -> ResultsPage;
    fn finished_since(batch: BatchNo, after: u64, limit: usize) -> Vec<Finished>;
    fn failed_since(batch: BatchNo, after: u64, limit: usize) -> Vec<Finished>;
    fn failed_before_last(batch: BatchNo, count: usize) -> u64;
    fn job_get(jobs: &[JobRef]) -> Vec<Option<StoredJob>>;
    fn recount(batch: BatchNo) -> [u64; 5];
    fn node_join(node: &NodeInstance, report: &NodeReport, lease: Duration) -> ();
    fn node_renew(node: &NodeInstance, report: &NodeReport, lease: Duration) -> Renewal;
    fn node_leave(node: &NodeInstance) -> ();
    fn node_list() -> Vec<StoredNode>;
    fn node_judge(keep: Duration) -> Vec<NodeInstance>;
    fn node_drain(name: &str, drain: bool) -> ();
    fn lead(holder: &str, lease: Duration) -> Option<u64>;
    fn lead_end(holder: &str) -> ();
}

pass_on! {
    AnnouncedStore;
    fn batch_announce(new: NewBatch) -> Batch;
    fn batch_announced(limit: usize) -> Vec<Batch>;
    fn batch_seal_as(batch: BatchNo, announced: BatchNo) -> Sealed;
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
    fn schedule_fire(fire: Fire) -> Option<Vec<ScheduleRun>>;
    fn run_open() -> Vec<ScheduleRun>;
    fn run_list(schedule: ScheduleNo, before: Option<RunNo>, limit: usize) -> Vec<ScheduleRun>;
    fn run_latest() -> Vec<ScheduleRun>;
    fn run_begin(run: RunNo, was: Option<BatchNo>, batch: NewBatch) -> Option<BatchNo>;
    fn run_note(run: RunNo, was: Option<BatchNo>, change: RunChange) -> bool;
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
