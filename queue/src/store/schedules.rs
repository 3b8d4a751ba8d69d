//! What a store does for schedules: a trait of its own, which every store has.
//!
//! Owns what goes in and comes out. A tick is fired in one transaction, which moves the schedule on, notes the run and makes
//! its batch: so that there is at most one batch a tick, whoever fires, and however often.

use super::StoreError;
use crate::batch::Counts;
use crate::ids::{BatchId, BatchNo, ScheduleId};
use crate::schedule::{RunCause, RunNo, RunState, Schedule, ScheduleNo, SchedulePlan, ScheduleRun};
use crate::store::NewBatch;
use async_trait::async_trait;
use std::time::Duration;

/// Schedules of one store.
pub const MAX_SCHEDULES: usize = 1_000;
/// Runs that are kept of one schedule, but for those that are not at their end.
pub const MAX_KEPT_RUNS: usize = 1_000;
/// Runs of one read.
pub const MAX_RUNS_A_CALL: usize = 10_000;

/// A schedule to be made.
#[derive(Clone, Debug)]
pub struct NewSchedule {
    /// Its id, under which its prompts may be kept already.
    pub id: ScheduleId,
    /// Its name.
    pub name: String,
    /// All that is said about it.
    pub plan: SchedulePlan,
    /// Its first tick.
    pub next_tick_us: i64,
}

/// What became of a new schedule.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleAdded {
    /// It is there.
    Added(Box<Schedule>),
    /// Another one has its name.
    NameTaken,
    /// There are [`MAX_SCHEDULES`] already.
    TooMany,
}

/// What is due, and when the store is to be asked again.
#[derive(Clone, Debug, PartialEq)]
pub struct DueSchedules {
    /// The store's clock.
    pub now_us: i64,
    /// Schedules whose next tick has come.
    pub due: Vec<Schedule>,
    /// The first tick after now of the others.
    pub next_us: Option<i64>,
}

/// How a new run begins.
#[derive(Clone, Debug)]
pub enum NewRunState {
    /// With this batch, hidden and empty.
    Load(Box<NewBatch>),
    /// Not yet.
    Wait,
    /// Never: it is skipped.
    Skip {
        /// Why.
        reason: String,
    },
    /// Never: it was missed.
    Miss {
        /// Why.
        reason: String,
    },
}

/// A run to be made.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Its tick.
    pub tick_us: i64,
    /// Why it is there.
    pub cause: RunCause,
    /// How it begins.
    pub state: NewRunState,
}

/// Ticks that are to be fired.
#[derive(Clone, Debug)]
pub struct Fire {
    /// Of which schedule.
    pub schedule: ScheduleNo,
    /// Its next tick, as the caller saw it, and the one that follows. `None`: this fires no tick.
    pub moves: Option<(i64, Option<i64>)>,
    /// What there is to be.
    pub runs: Vec<NewRun>,
}

/// How far a run has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunChange {
    /// What it is up to now; `None`: as before.
    pub state: Option<RunState>,
    /// Why.
    pub reason: Option<String>,
    /// The batch that it really has.
    pub batch: Option<(BatchId, BatchNo)>,
    /// What became of its jobs.
    pub counts: Option<Counts>,
    /// The file with its results.
    pub output: Option<String>,
    /// Somebody is to be told of its end.
    pub tell: bool,
}

/// A run whose end was not told yet.
#[derive(Clone, Debug, PartialEq)]
pub struct UntoldRun {
    /// The run.
    pub run: ScheduleRun,
    /// Its schedule.
    pub schedule: Schedule,
    /// How often it was tried.
    pub tries: u64,
}

/// What every store can do for schedules.
#[async_trait]
pub trait ScheduleStore: Send + Sync {
    /// The store's clock, by which ticks are judged.
    async fn clock_us(&self) -> Result<i64, StoreError>;

    /// Makes a schedule.
    async fn schedule_add(&self, new: NewSchedule) -> Result<ScheduleAdded, StoreError>;

    /// Keeps a piece of the prompts of a schedule that is about to be made. Pieces are numbered from 0.
    async fn schedule_keep(
        &self,
        id: &ScheduleId,
        piece: u64,
        bytes: Vec<u8>,
    ) -> Result<(), StoreError>;

    /// A piece of the prompts of a schedule; `None` after the last.
    async fn schedule_kept(
        &self,
        id: &ScheduleId,
        piece: u64,
    ) -> Result<Option<Vec<u8>>, StoreError>;

    /// All schedules by name.
    async fn schedule_list(&self) -> Result<Vec<Schedule>, StoreError>;

    /// Pauses a schedule, or has it go on with this next tick. False: there is none.
    async fn schedule_pause(
        &self,
        schedule: ScheduleNo,
        paused: bool,
        next_tick_us: Option<i64>,
    ) -> Result<bool, StoreError>;

    /// Deletes a schedule with its runs and kept prompts; batches stay. False: there was none.
    async fn schedule_remove(&self, schedule: ScheduleNo) -> Result<bool, StoreError>;

    /// Schedules whose next tick has come by the store's clock, at most [`MAX_SCHEDULES`].
    async fn schedule_due(&self) -> Result<DueSchedules, StoreError>;

    /// Fires ticks in one transaction: the schedule moves on, each run is noted, and its batch is made. `None`, and nothing
    /// is done: the schedule has moved on already, is paused or gone, or its tick has not come by the store's clock. A tick
    /// that has a run already gets no second one and is left out of the answer.
    async fn schedule_fire(&self, fire: Fire) -> Result<Option<Vec<ScheduleRun>>, StoreError>;

    /// The runs that are not at their end, oldest first, at most [`MAX_RUNS_A_CALL`].
    async fn run_open(&self) -> Result<Vec<ScheduleRun>, StoreError>;

    /// Runs of a schedule from the newest to the oldest, those before `before`.
    async fn run_list(
        &self,
        schedule: ScheduleNo,
        before: Option<RunNo>,
        limit: usize,
    ) -> Result<Vec<ScheduleRun>, StoreError>;

    /// The newest run of each schedule.
    async fn run_latest(&self) -> Result<Vec<ScheduleRun>, StoreError>;

    /// Gives a run that waits, or whose loading was cut off with the batch `was`, a new hidden batch and has it load. `None`,
    /// and nothing is done: it does not wait for that.
    async fn run_begin(
        &self,
        run: RunNo,
        was: Option<BatchNo>,
        batch: NewBatch,
    ) -> Result<Option<BatchNo>, StoreError>;

    /// Notes how far a run has come, if it is not at its end and still has the batch `was`. True: it was noted.
    async fn run_note(
        &self,
        run: RunNo,
        was: Option<BatchNo>,
        change: RunChange,
    ) -> Result<bool, StoreError>;

    /// Runs that have ended and whose end is due to be told.
    async fn run_untold(&self, limit: usize) -> Result<Vec<UntoldRun>, StoreError>;

    /// Notes a try to tell of a run's end. `again_in` `None`: it is over. A `reason` is noted where it was in vain.
    async fn run_told(
        &self,
        run: RunNo,
        again_in: Option<Duration>,
        reason: Option<String>,
    ) -> Result<(), StoreError>;

    /// Forgets the oldest runs beyond `keep` of each schedule, but for those that are not at their end or not told, and
    /// kept prompts of schedules that were never made.
    async fn run_prune(&self, keep: usize) -> Result<u64, StoreError>;
}
