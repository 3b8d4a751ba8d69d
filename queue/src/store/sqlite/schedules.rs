//! Schedules and their runs.

use super::super::schedule_rows::{self as rows, first_state, plan_json};
use super::super::schedule_sql::{self as sql, NO_BATCH, OPEN, RUN_COLUMNS, SCHEDULE_COLUMNS};
use super::super::schedules::*;
use super::rows::Fields;
use super::{SqliteStore, StoreError, Tx, now_us};
use crate::ids::{BatchNo, ScheduleId};
use crate::schedule::{RunNo, ScheduleNo, ScheduleRun};
use crate::store::NewBatch;
use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteRow;
use std::time::Duration;

impl SqliteStore {
    /// Makes the run's batch, hidden and empty, and gives it to the run.
    async fn give_batch(
        &self,
        tx: &mut Tx,
        run: i64,
        batch: NewBatch,
    ) -> Result<BatchNo, StoreError> {
        let (id, no) = self.create_in(tx, batch).await?;
        sqlx::query(sql::GIVE_BATCH)
            .bind(run)
            .bind(no.0)
            .bind(id.as_str())
            .execute(&mut **tx)
            .await
            .map_err(|error| self.error(error))?;
        Ok(no)
    }

    async fn new_run(
        &self,
        tx: &mut Tx,
        schedule: ScheduleNo,
        new: NewRun,
        now: i64,
    ) -> Result<Option<ScheduleRun>, StoreError> {
        let (state, reason) = first_state(&new);
        let made: Option<i64> = sqlx::query_scalar(sql::NEW_RUN)
            .bind(schedule.0)
            .bind(new.tick_us)
            .bind(new.cause.as_str())
            .bind(state.as_str())
            .bind(reason.map(str::to_owned))
            .bind(now)
            .bind(state.is_terminal().then_some(now))
            .fetch_optional(&mut **tx)
            .await
            .map_err(|error| self.error(error))?;
        let Some(run) = made else {
            return Ok(None);
        };
        if let NewRunState::Load(batch) = new.state {
            self.give_batch(tx, run, *batch).await?;
        }
        let select = format!("SELECT {RUN_COLUMNS} FROM schedule_runs WHERE run_no = $1");
        let row = sqlx::query(AssertSqlSafe(select))
            .bind(run)
            .fetch_one(&mut **tx)
            .await
            .map_err(|error| self.error(error))?;
        rows::run(&row).map(Some)
    }

    async fn runs(&self, rest: &str, numbers: &[i64]) -> Result<Vec<ScheduleRun>, StoreError> {
        let select = format!("SELECT {RUN_COLUMNS} FROM schedule_runs {rest}");
        let mut query = sqlx::query(AssertSqlSafe(select));
        for number in numbers {
            query = query.bind(*number);
        }
        let found = query
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        found.iter().map(rows::run).collect()
    }
}

#[async_trait]
impl ScheduleStore for SqliteStore {
    async fn clock_us(&self) -> Result<i64, StoreError> {
        Ok(now_us())
    }

    async fn schedule_add(&self, new: NewSchedule) -> Result<ScheduleAdded, StoreError> {
        let mut tx = self.begin().await?;
        let count: i64 = sqlx::query_scalar(sql::COUNT)
            .fetch_one(&mut *tx)
            .await
            .map_err(|error| self.error(error))?;
        if count >= MAX_SCHEDULES as i64 {
            return Ok(ScheduleAdded::TooMany);
        }
        let made = sqlx::query(sql::ADD)
            .bind(new.id.as_str())
            .bind(&new.name)
            .bind(plan_json(&new.plan))
            .bind(new.next_tick_us)
            .bind(now_us())
            .fetch_optional(&mut *tx)
            .await
            .map_err(|error| self.error(error))?;
        self.commit(tx).await?;
        match made {
            Some(row) => Ok(ScheduleAdded::Added(Box::new(rows::schedule(&row)?))),
            None => Ok(ScheduleAdded::NameTaken),
        }
    }

    async fn schedule_keep(
        &self,
        id: &ScheduleId,
        piece: u64,
        bytes: Vec<u8>,
    ) -> Result<(), StoreError> {
        sqlx::query(sql::KEEP)
            .bind(id.as_str())
            .bind(piece as i64)
            .bind(bytes)
            .bind(now_us())
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(|error| self.error(error))
    }

    async fn schedule_kept(
        &self,
        id: &ScheduleId,
        piece: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        sqlx::query_scalar(sql::KEPT)
            .bind(id.as_str())
            .bind(piece as i64)
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.error(error))
    }

    async fn schedule_list(&self) -> Result<Vec<crate::schedule::Schedule>, StoreError> {
        let select = format!("SELECT {SCHEDULE_COLUMNS} FROM schedules ORDER BY name");
        let found = sqlx::query(AssertSqlSafe(select))
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        found.iter().map(rows::schedule).collect()
    }

    async fn schedule_pause(
        &self,
        schedule: ScheduleNo,
        paused: bool,
        next_tick_us: Option<i64>,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(sql::PAUSE)
            .bind(schedule.0)
            .bind(i64::from(paused))
            .bind(next_tick_us)
            .execute(&self.writer)
            .await
            .map_err(|error| self.error(error))?;
        Ok(done.rows_affected() > 0)
    }

    async fn schedule_remove(&self, schedule: ScheduleNo) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let mut deleted = 0;
        for statement in sql::REMOVE {
            let done = sqlx::query(statement)
                .bind(schedule.0)
                .execute(&mut *tx)
                .await
                .map_err(|error| self.error(error))?;
            deleted = done.rows_affected();
        }
        self.commit(tx).await?;
        Ok(deleted > 0)
    }

    async fn schedule_due(&self) -> Result<DueSchedules, StoreError> {
        let now = now_us();
        let select = format!(
            "SELECT {SCHEDULE_COLUMNS} FROM schedules WHERE paused = 0 \
             AND next_tick_us IS NOT NULL AND next_tick_us <= $1 ORDER BY next_tick_us LIMIT $2"
        );
        let due = sqlx::query(AssertSqlSafe(select))
            .bind(now)
            .bind(MAX_SCHEDULES as i64)
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        let next_us: Option<i64> = sqlx::query_scalar(sql::NEXT)
            .bind(now)
            .fetch_one(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        Ok(DueSchedules {
            now_us: now,
            due: due.iter().map(rows::schedule).collect::<Result<_, _>>()?,
            next_us,
        })
    }

    async fn schedule_fire(&self, fire: Fire) -> Result<Option<Vec<ScheduleRun>>, StoreError> {
        let now = now_us();
        let mut tx = self.begin().await?;
        let may = match fire.moves {
            Some((next, following)) => sqlx::query(sql::MOVE)
                .bind(fire.schedule.0)
                .bind(next)
                .bind(following)
                .bind(now)
                .execute(&mut *tx)
                .await
                .map(|done| done.rows_affected() > 0),
            None => sqlx::query_scalar::<_, i64>(sql::EXISTS)
                .bind(fire.schedule.0)
                .fetch_one(&mut *tx)
                .await
                .map(|count| count > 0),
        };
        if !may.map_err(|error| self.error(error))? {
            return Ok(None);
        }
        let mut made = Vec::new();
        for new in fire.runs {
            made.extend(self.new_run(&mut tx, fire.schedule, new, now).await?);
        }
        self.commit(tx).await?;
        for no in made.iter().filter_map(ScheduleRun::batch_no) {
            self.loads.begin(no);
        }
        Ok(Some(made))
    }

    async fn run_open(&self) -> Result<Vec<ScheduleRun>, StoreError> {
        let rest = format!("WHERE state IN {OPEN} ORDER BY run_no LIMIT $1");
        self.runs(&rest, &[MAX_RUNS_A_CALL as i64]).await
    }

    async fn run_list(
        &self,
        schedule: ScheduleNo,
        before: Option<RunNo>,
        limit: usize,
    ) -> Result<Vec<ScheduleRun>, StoreError> {
        let before = before.map_or(i64::MAX, |run| run.0);
        let limit = limit.min(MAX_RUNS_A_CALL) as i64;
        let rest = "WHERE schedule_no = $1 AND run_no < $2 ORDER BY run_no DESC LIMIT $3";
        self.runs(rest, &[schedule.0, before, limit]).await
    }

    async fn run_latest(&self) -> Result<Vec<ScheduleRun>, StoreError> {
        let rest = "WHERE run_no IN (SELECT (SELECT MAX(run_no) FROM schedule_runs r \
             WHERE r.schedule_no = s.schedule_no) FROM schedules s) ORDER BY run_no";
        self.runs(rest, &[]).await
    }

    async fn run_begin(
        &self,
        run: RunNo,
        was: Option<BatchNo>,
        batch: NewBatch,
    ) -> Result<Option<BatchNo>, StoreError> {
        let mut tx = self.begin().await?;
        let taken = sqlx::query(sql::TAKE_RUN)
            .bind(run.0)
            .bind(was.map_or(NO_BATCH, |no| no.0))
            .execute(&mut *tx)
            .await
            .map_err(|error| self.error(error))?;
        if taken.rows_affected() == 0 {
            return Ok(None);
        }
        let no = self.give_batch(&mut tx, run.0, batch).await?;
        self.commit(tx).await?;
        self.loads.begin(no);
        Ok(Some(no))
    }

    async fn run_note(
        &self,
        run: RunNo,
        was: Option<BatchNo>,
        change: RunChange,
    ) -> Result<bool, StoreError> {
        let counts = change.counts;
        let ended = change.state.is_some_and(|state| state.is_terminal());
        let (id, no) = match change.batch {
            Some((id, no)) => (Some(id.as_str().to_owned()), Some(no.0)),
            None => (None, None),
        };
        let done = sqlx::query(sql::NOTE)
            .bind(run.0)
            .bind(was.map_or(NO_BATCH, |no| no.0))
            .bind(change.state.map(|state| state.as_str()))
            .bind(change.reason)
            .bind(no)
            .bind(id)
            .bind(counts.map(|counts| counts.total as i64))
            .bind(counts.map(|counts| counts.succeeded as i64))
            .bind(counts.map(|counts| counts.failed as i64))
            .bind(change.output)
            .bind(now_us())
            .bind(i64::from(ended))
            .bind(i64::from(change.tell))
            .execute(&self.writer)
            .await
            .map_err(|error| self.error(error))?;
        Ok(done.rows_affected() > 0)
    }

    async fn run_untold(&self, limit: usize) -> Result<Vec<UntoldRun>, StoreError> {
        let select = format!(
            "SELECT {RUN_COLUMNS}, tell_tries FROM schedule_runs \
             WHERE tell_at_us IS NOT NULL AND tell_at_us <= $1 ORDER BY tell_at_us LIMIT $2"
        );
        let found = sqlx::query(AssertSqlSafe(select))
            .bind(now_us())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        let mut untold = Vec::new();
        for row in &found {
            let run = rows::run(row)?;
            let schedule: Option<SqliteRow> = sqlx::query(AssertSqlSafe(format!(
                "SELECT {SCHEDULE_COLUMNS} FROM schedules WHERE schedule_no = $1"
            )))
            .bind(run.schedule.0)
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
            if let Some(schedule) = schedule {
                untold.push(UntoldRun {
                    run,
                    schedule: rows::schedule(&schedule)?,
                    tries: row.count("tell_tries")?,
                });
            }
        }
        Ok(untold)
    }

    async fn run_told(
        &self,
        run: RunNo,
        again_in: Option<Duration>,
        reason: Option<String>,
    ) -> Result<(), StoreError> {
        let again = again_in.map(|wait| {
            let wait = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX / 4);
            now_us() + wait
        });
        sqlx::query(sql::TOLD)
            .bind(run.0)
            .bind(again)
            .bind(reason)
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(|error| self.error(error))
    }

    async fn run_prune(&self, keep: usize) -> Result<u64, StoreError> {
        let runs = sqlx::query(sql::PRUNE_RUNS)
            .bind(i64::try_from(keep.saturating_sub(1)).unwrap_or(i64::MAX))
            .execute(&self.writer)
            .await
            .map_err(|error| self.error(error))?;
        sqlx::query(sql::PRUNE_INPUTS)
            .bind(now_us() - sql::INPUT_WAITS_US)
            .execute(&self.writer)
            .await
            .map_err(|error| self.error(error))?;
        Ok(runs.rows_affected())
    }
}
