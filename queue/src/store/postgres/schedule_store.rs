//! Which calls about schedules are one transaction.

use super::super::schedules::*;
use super::{CHUNK, PAGE, PLAIN, PostgresStore, StoreError, WHOLE, schedules};
use crate::ids::{BatchNo, ScheduleId};
use crate::schedule::{RunNo, Schedule, ScheduleNo, ScheduleRun};
use crate::store::NewBatch;
use async_trait::async_trait;
use std::time::Duration;

#[async_trait]
impl ScheduleStore for PostgresStore {
    async fn clock_us(&self) -> Result<i64, StoreError> {
        self.call(PLAIN, &(), |tx, ()| Box::pin(schedules::clock(tx)))
            .await
    }

    async fn schedule_add(&self, new: NewSchedule) -> Result<ScheduleAdded, StoreError> {
        self.call(WHOLE, &new, |tx, new| Box::pin(schedules::add(tx, new)))
            .await
    }

    async fn schedule_keep(
        &self,
        id: &ScheduleId,
        piece: u64,
        bytes: Vec<u8>,
    ) -> Result<(), StoreError> {
        self.call(CHUNK, &(id, piece, bytes), |tx, (id, piece, bytes)| {
            Box::pin(schedules::keep(tx, id, *piece, bytes))
        })
        .await
    }

    async fn schedule_kept(
        &self,
        id: &ScheduleId,
        piece: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.call(PAGE, &(id, piece), |tx, (id, piece)| {
            Box::pin(schedules::kept(tx, id, *piece))
        })
        .await
    }

    async fn schedule_list(&self) -> Result<Vec<Schedule>, StoreError> {
        self.call(PLAIN, &(), |tx, ()| Box::pin(schedules::list(tx)))
            .await
    }

    async fn schedule_pause(
        &self,
        schedule: ScheduleNo,
        paused: bool,
        next_tick_us: Option<i64>,
    ) -> Result<bool, StoreError> {
        self.call(
            PLAIN,
            &(schedule, paused, next_tick_us),
            |tx, (schedule, paused, next)| {
                Box::pin(schedules::pause(tx, *schedule, *paused, *next))
            },
        )
        .await
    }

    async fn schedule_remove(&self, schedule: ScheduleNo) -> Result<bool, StoreError> {
        self.call(WHOLE, &schedule, |tx, schedule| {
            Box::pin(schedules::remove(tx, *schedule))
        })
        .await
    }

    async fn schedule_due(&self) -> Result<DueSchedules, StoreError> {
        self.call(PLAIN, &(), |tx, ()| Box::pin(schedules::due(tx)))
            .await
    }

    async fn schedule_fire(&self, fire: Fire) -> Result<Option<Vec<ScheduleRun>>, StoreError> {
        let made = self
            .call(WHOLE, &fire, |tx, fire| Box::pin(schedules::fire(tx, fire)))
            .await?;
        let batches = made.iter().flatten().filter_map(ScheduleRun::batch_no);
        batches.for_each(|no| self.loads.begin(no));
        Ok(made)
    }

    async fn run_open(&self) -> Result<Vec<ScheduleRun>, StoreError> {
        self.call(PLAIN, &(), |tx, ()| Box::pin(schedules::open(tx)))
            .await
    }

    async fn run_list(
        &self,
        schedule: ScheduleNo,
        before: Option<RunNo>,
        limit: usize,
    ) -> Result<Vec<ScheduleRun>, StoreError> {
        self.call(
            PLAIN,
            &(schedule, before, limit),
            |tx, (schedule, before, limit)| Box::pin(schedules::of(tx, *schedule, *before, *limit)),
        )
        .await
    }

    async fn run_latest(&self) -> Result<Vec<ScheduleRun>, StoreError> {
        self.call(PLAIN, &(), |tx, ()| Box::pin(schedules::latest(tx)))
            .await
    }

    async fn run_begin(
        &self,
        run: RunNo,
        was: Option<BatchNo>,
        batch: NewBatch,
    ) -> Result<Option<BatchNo>, StoreError> {
        let begun = self
            .call(WHOLE, &(run, was, batch), |tx, (run, was, batch)| {
                Box::pin(schedules::begin(tx, *run, *was, batch))
            })
            .await?;
        if let Some(no) = begun {
            self.loads.begin(no);
        }
        Ok(begun)
    }

    async fn run_note(
        &self,
        run: RunNo,
        was: Option<BatchNo>,
        change: RunChange,
    ) -> Result<bool, StoreError> {
        self.call(WHOLE, &(run, was, change), |tx, (run, was, change)| {
            Box::pin(schedules::note(tx, *run, *was, change))
        })
        .await
    }

    async fn run_untold(&self, limit: usize) -> Result<Vec<UntoldRun>, StoreError> {
        self.call(PLAIN, &limit, |tx, limit| {
            Box::pin(schedules::untold(tx, *limit))
        })
        .await
    }

    async fn run_told(
        &self,
        run: RunNo,
        again_in: Option<Duration>,
        reason: Option<String>,
    ) -> Result<(), StoreError> {
        self.call(
            WHOLE,
            &(run, again_in, reason),
            |tx, (run, again_in, reason)| Box::pin(schedules::told(tx, *run, *again_in, reason)),
        )
        .await
    }

    async fn run_prune(&self, keep: usize) -> Result<u64, StoreError> {
        self.call(WHOLE, &keep, |tx, keep| {
            Box::pin(schedules::prune(tx, *keep))
        })
        .await
    }
}
