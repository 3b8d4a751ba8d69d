//! Schedules and their runs: all judged by the server's clock.

use super::super::schedule_rows::{self as rows, first_state, plan_json};
use super::super::schedule_sql::{self as sql, NO_BATCH, OPEN, RUN_COLUMNS, SCHEDULE_COLUMNS};
use super::super::schedules::*;
use super::rows::Fields;
use super::{Failure, StoreError, limit, load, micros};
use crate::ids::{BatchNo, ScheduleId};
use crate::schedule::{RunNo, Schedule, ScheduleNo, ScheduleRun};
use crate::store::NewBatch;
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgRow};
use std::time::Duration;

pub async fn clock(tx: &mut PgConnection) -> Result<i64, Failure> {
    Ok(sqlx::query_scalar("SELECT rbee_now_us()")
        .fetch_one(&mut *tx)
        .await?)
}

pub async fn add(tx: &mut PgConnection, new: &NewSchedule) -> Result<ScheduleAdded, Failure> {
    let count: i64 = sqlx::query_scalar(sql::COUNT).fetch_one(&mut *tx).await?;
    if count >= MAX_SCHEDULES as i64 {
        return Ok(ScheduleAdded::TooMany);
    }
    let now = clock(tx).await?;
    let made = sqlx::query(sql::ADD)
        .bind(new.id.as_str())
        .bind(&new.name)
        .bind(plan_json(&new.plan))
        .bind(new.next_tick_us)
        .bind(now)
        .fetch_optional(&mut *tx)
        .await?;
    match made {
        Some(row) => Ok(ScheduleAdded::Added(Box::new(rows::schedule(&row)?))),
        None => Ok(ScheduleAdded::NameTaken),
    }
}

pub async fn keep(
    tx: &mut PgConnection,
    id: &ScheduleId,
    piece: u64,
    bytes: &[u8],
) -> Result<(), Failure> {
    let now = clock(tx).await?;
    sqlx::query(sql::KEEP)
        .bind(id.as_str())
        .bind(piece as i64)
        .bind(bytes)
        .bind(now)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

pub async fn kept(
    tx: &mut PgConnection,
    id: &ScheduleId,
    piece: u64,
) -> Result<Option<Vec<u8>>, Failure> {
    Ok(sqlx::query_scalar(sql::KEPT)
        .bind(id.as_str())
        .bind(piece as i64)
        .fetch_optional(&mut *tx)
        .await?)
}

pub async fn list(tx: &mut PgConnection) -> Result<Vec<Schedule>, Failure> {
    let select = format!("SELECT {SCHEDULE_COLUMNS} FROM schedules ORDER BY name");
    let found = sqlx::query(AssertSqlSafe(select))
        .fetch_all(&mut *tx)
        .await?;
    schedules(&found)
}

fn schedules(found: &[PgRow]) -> Result<Vec<Schedule>, Failure> {
    let read = found.iter().map(rows::schedule);
    Ok(read.collect::<Result<_, StoreError>>()?)
}

pub async fn pause(
    tx: &mut PgConnection,
    schedule: ScheduleNo,
    paused: bool,
    next: Option<i64>,
) -> Result<bool, Failure> {
    let done = sqlx::query(sql::PAUSE)
        .bind(schedule.0)
        .bind(i64::from(paused))
        .bind(next)
        .execute(&mut *tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

pub async fn remove(tx: &mut PgConnection, schedule: ScheduleNo) -> Result<bool, Failure> {
    let mut deleted = 0;
    for statement in sql::REMOVE {
        let done = sqlx::query(statement)
            .bind(schedule.0)
            .execute(&mut *tx)
            .await?;
        deleted = done.rows_affected();
    }
    Ok(deleted > 0)
}

pub async fn due(tx: &mut PgConnection) -> Result<DueSchedules, Failure> {
    let now_us = clock(tx).await?;
    let select = format!(
        "SELECT {SCHEDULE_COLUMNS} FROM schedules WHERE paused = 0 \
         AND next_tick_us IS NOT NULL AND next_tick_us <= $1 ORDER BY next_tick_us LIMIT $2"
    );
    let due = sqlx::query(AssertSqlSafe(select))
        .bind(now_us)
        .bind(limit(MAX_SCHEDULES))
        .fetch_all(&mut *tx)
        .await?;
    let next_us = sqlx::query_scalar(sql::NEXT)
        .bind(now_us)
        .fetch_one(&mut *tx)
        .await?;
    Ok(DueSchedules {
        now_us,
        due: schedules(&due)?,
        next_us,
    })
}

pub async fn fire(tx: &mut PgConnection, fire: &Fire) -> Result<Option<Vec<ScheduleRun>>, Failure> {
    let now = clock(tx).await?;
    let may = match fire.moves {
        Some((next, following)) => {
            let moved = sqlx::query(sql::MOVE)
                .bind(fire.schedule.0)
                .bind(next)
                .bind(following)
                .bind(now)
                .execute(&mut *tx)
                .await?;
            moved.rows_affected() > 0
        }
        None => {
            let count: i64 = sqlx::query_scalar(sql::EXISTS)
                .bind(fire.schedule.0)
                .fetch_one(&mut *tx)
                .await?;
            count > 0
        }
    };
    if !may {
        return Ok(None);
    }
    let mut made = Vec::new();
    for new in &fire.runs {
        made.extend(new_run(tx, fire.schedule, new, now).await?);
    }
    Ok(Some(made))
}

async fn new_run(
    tx: &mut PgConnection,
    schedule: ScheduleNo,
    new: &NewRun,
    now: i64,
) -> Result<Option<ScheduleRun>, Failure> {
    let (state, reason) = first_state(new);
    let made: Option<i64> = sqlx::query_scalar(sql::NEW_RUN)
        .bind(schedule.0)
        .bind(new.tick_us)
        .bind(new.cause.as_str())
        .bind(state.as_str())
        .bind(reason)
        .bind(now)
        .bind(state.is_terminal().then_some(now))
        .fetch_optional(&mut *tx)
        .await?;
    let Some(run) = made else {
        return Ok(None);
    };
    if let NewRunState::Load(batch) = &new.state {
        give_batch(tx, run, batch).await?;
    }
    let select = format!("SELECT {RUN_COLUMNS} FROM schedule_runs WHERE run_no = $1");
    let row = sqlx::query(AssertSqlSafe(select))
        .bind(run)
        .fetch_one(&mut *tx)
        .await?;
    Ok(Some(rows::run(&row)?))
}

/// Makes the run's batch, hidden and empty, and gives it to the run.
async fn give_batch(tx: &mut PgConnection, run: i64, batch: &NewBatch) -> Result<BatchNo, Failure> {
    let no = load::create(tx, batch).await?;
    sqlx::query(sql::GIVE_BATCH)
        .bind(run)
        .bind(no.0)
        .bind(batch.id.as_str())
        .execute(&mut *tx)
        .await?;
    Ok(no)
}

/// Runs that a condition with numbers in it selects.
pub async fn runs(
    tx: &mut PgConnection,
    rest: &str,
    numbers: &[i64],
) -> Result<Vec<ScheduleRun>, Failure> {
    let select = format!("SELECT {RUN_COLUMNS} FROM schedule_runs {rest}");
    let mut query = sqlx::query(AssertSqlSafe(select));
    for number in numbers {
        query = query.bind(*number);
    }
    let found = query.fetch_all(&mut *tx).await?;
    let read = found.iter().map(rows::run);
    Ok(read.collect::<Result<_, StoreError>>()?)
}

pub async fn open(tx: &mut PgConnection) -> Result<Vec<ScheduleRun>, Failure> {
    let rest = format!("WHERE state IN {OPEN} ORDER BY run_no LIMIT $1");
    runs(tx, &rest, &[limit(MAX_RUNS_A_CALL)]).await
}

pub async fn of(
    tx: &mut PgConnection,
    schedule: ScheduleNo,
    before: Option<RunNo>,
    most: usize,
) -> Result<Vec<ScheduleRun>, Failure> {
    let before = before.map_or(i64::MAX, |run| run.0);
    let rest = "WHERE schedule_no = $1 AND run_no < $2 ORDER BY run_no DESC LIMIT $3";
    let most = limit(most.min(MAX_RUNS_A_CALL));
    runs(tx, rest, &[schedule.0, before, most]).await
}

pub async fn latest(tx: &mut PgConnection) -> Result<Vec<ScheduleRun>, Failure> {
    let rest = "WHERE run_no IN (SELECT (SELECT MAX(run_no) FROM schedule_runs r \
         WHERE r.schedule_no = s.schedule_no) FROM schedules s) ORDER BY run_no";
    runs(tx, rest, &[]).await
}

pub async fn begin(
    tx: &mut PgConnection,
    run: RunNo,
    was: Option<BatchNo>,
    batch: &NewBatch,
) -> Result<Option<BatchNo>, Failure> {
    let taken = sqlx::query(sql::TAKE_RUN)
        .bind(run.0)
        .bind(was.map_or(NO_BATCH, |no| no.0))
        .execute(&mut *tx)
        .await?;
    match taken.rows_affected() {
        0 => Ok(None),
        _ => Ok(Some(give_batch(tx, run.0, batch).await?)),
    }
}

pub async fn note(
    tx: &mut PgConnection,
    run: RunNo,
    was: Option<BatchNo>,
    change: &RunChange,
) -> Result<bool, Failure> {
    let now = clock(tx).await?;
    let counts = change.counts;
    let ended = change.state.is_some_and(|state| state.is_terminal());
    let batch = change.batch.as_ref();
    let done = sqlx::query(sql::NOTE)
        .bind(run.0)
        .bind(was.map_or(NO_BATCH, |no| no.0))
        .bind(change.state.map(|state| state.as_str()))
        .bind(&change.reason)
        .bind(batch.map(|(_, no)| no.0))
        .bind(batch.map(|(id, _)| id.as_str()))
        .bind(counts.map(|counts| counts.total as i64))
        .bind(counts.map(|counts| counts.succeeded as i64))
        .bind(counts.map(|counts| counts.failed as i64))
        .bind(&change.output)
        .bind(now)
        .bind(i64::from(ended))
        .bind(i64::from(change.tell))
        .execute(&mut *tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

pub async fn untold(tx: &mut PgConnection, most: usize) -> Result<Vec<UntoldRun>, Failure> {
    let select = format!(
        "SELECT {RUN_COLUMNS}, tell_tries FROM schedule_runs \
         WHERE tell_at_us IS NOT NULL AND tell_at_us <= rbee_now_us() ORDER BY tell_at_us LIMIT $1"
    );
    let found = sqlx::query(AssertSqlSafe(select))
        .bind(limit(most))
        .fetch_all(&mut *tx)
        .await?;
    let mut untold = Vec::new();
    for row in &found {
        let run = rows::run(row)?;
        let schedule = sqlx::query(AssertSqlSafe(format!(
            "SELECT {SCHEDULE_COLUMNS} FROM schedules WHERE schedule_no = $1"
        )))
        .bind(run.schedule.0)
        .fetch_optional(&mut *tx)
        .await?;
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

pub async fn told(
    tx: &mut PgConnection,
    run: RunNo,
    again_in: Option<Duration>,
    reason: &Option<String>,
) -> Result<(), Failure> {
    let now = clock(tx).await?;
    sqlx::query(sql::TOLD)
        .bind(run.0)
        .bind(again_in.map(|wait| now.saturating_add(micros(wait))))
        .bind(reason)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

pub async fn prune(tx: &mut PgConnection, keep: usize) -> Result<u64, Failure> {
    let now = clock(tx).await?;
    let runs = sqlx::query(sql::PRUNE_RUNS)
        .bind(limit(keep.saturating_sub(1)))
        .execute(&mut *tx)
        .await?;
    sqlx::query(sql::PRUNE_INPUTS)
        .bind(now - sql::INPUT_WAITS_US)
        .execute(&mut *tx)
        .await?;
    Ok(runs.rows_affected())
}
