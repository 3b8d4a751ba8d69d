//! Batches: reading, listing, pausing, cancelling, deleting, telling of their end.

use super::super::decide::{self, Ended};
use super::super::file_sql;
use super::super::jobs::{HiddenBatch, Untold};
use super::finish::{close_if_done, end_jobs};
use super::rows::{self, BATCH_COLUMNS, Fields, JOB_NOW, OLDER};
use super::{Failure, PLAIN, PostgresStore, StoreError, WHOLE, limit, micros};
use crate::batch::{Batch, BatchModel, INTERACTIVE_OWNER};
use crate::ids::{BatchId, BatchNo};
use crate::state::{BatchStatus, JobState};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgRow};
use std::collections::HashMap;
use std::time::Duration;

/// Rows that one transaction of a large change touches.
const ROWS_A_CHUNK: i64 = 5_000;

pub async fn get(tx: &mut PgConnection, id: &BatchId) -> Result<Option<Batch>, Failure> {
    let sql = format!("SELECT {BATCH_COLUMNS} FROM batches WHERE id = $1 AND visible = 1");
    let found = sqlx::query(AssertSqlSafe(sql))
        .bind(id.as_str())
        .fetch_all(&mut *tx)
        .await?;
    Ok(with_models(tx, &found).await?.pop())
}

pub async fn by_no(tx: &mut PgConnection, batch: BatchNo) -> Result<Option<Batch>, Failure> {
    let sql = format!("SELECT {BATCH_COLUMNS} FROM batches WHERE batch_no = $1 AND visible = 1");
    let found = sqlx::query(AssertSqlSafe(sql))
        .bind(batch.0)
        .fetch_all(&mut *tx)
        .await?;
    Ok(with_models(tx, &found).await?.pop())
}

pub async fn by_key(
    tx: &mut PgConnection,
    owner: &str,
    key: &str,
) -> Result<Option<Batch>, Failure> {
    let sql = format!(
        "SELECT {BATCH_COLUMNS} FROM batches \
         WHERE owner = $1 AND idempotency_key = $2 AND visible = 1"
    );
    let found = sqlx::query(AssertSqlSafe(sql))
        .bind(owner)
        .bind(key)
        .fetch_all(&mut *tx)
        .await?;
    Ok(with_models(tx, &found).await?.pop())
}

pub async fn list(
    tx: &mut PgConnection,
    owner: Option<&str>,
    after: Option<&BatchId>,
    most: usize,
) -> Result<Vec<Batch>, Failure> {
    let sql = format!(
        "SELECT {BATCH_COLUMNS} FROM batches WHERE visible = 1 \
         AND (owner = $1 OR $1 IS NULL AND owner <> '{INTERACTIVE_OWNER}') \
         AND {OLDER} ORDER BY created_at_us DESC, id DESC LIMIT $3"
    );
    let found = sqlx::query(AssertSqlSafe(sql))
        .bind(owner)
        .bind(after.map(BatchId::as_str))
        .bind(limit(most))
        .fetch_all(&mut *tx)
        .await?;
    with_models(tx, &found).await
}

pub async fn open(tx: &mut PgConnection) -> Result<Vec<Batch>, Failure> {
    let sql = format!(
        "SELECT {BATCH_COLUMNS} FROM batches \
         WHERE visible = 1 AND status IN ('in_progress', 'cancelling', 'finalizing') \
         ORDER BY CASE WHEN priority = 'interactive' THEN 0 ELSE 1 END, batch_no"
    );
    let found = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *tx).await?;
    with_models(tx, &found).await
}

/// Batches with their models, in the rows' order.
pub async fn with_models(tx: &mut PgConnection, found: &[PgRow]) -> Result<Vec<Batch>, Failure> {
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let numbers = found
        .iter()
        .map(|row| row.int("batch_no"))
        .collect::<Result<Vec<i64>, _>>()?;
    let model_rows = sqlx::query(
        "SELECT batch_no, model_no, requested, sha256, revision, numerics FROM batch_models \
         WHERE batch_no = ANY($1) ORDER BY batch_no, model_no",
    )
    .bind(numbers)
    .fetch_all(&mut *tx)
    .await?;
    let mut models: HashMap<i64, Vec<BatchModel>> = HashMap::new();
    for row in &model_rows {
        let of_batch = models.entry(row.int("batch_no")?).or_default();
        of_batch.push(rows::model(row)?);
    }
    found
        .iter()
        .map(|row| {
            let models = models.remove(&row.int("batch_no")?).unwrap_or_default();
            Ok(rows::batch(row, models)?)
        })
        .collect()
}

pub async fn hidden(tx: &mut PgConnection) -> Result<Vec<HiddenBatch>, Failure> {
    let found = sqlx::query(
        "SELECT id, batch_no, rbee_now_us() - touched_at_us AS idle_us FROM batches \
         WHERE visible = 0 ORDER BY batch_no",
    )
    .fetch_all(&mut *tx)
    .await?;
    found
        .iter()
        .map(|row| {
            let idle_us = u64::try_from(row.int("idle_us")?).unwrap_or(0);
            Ok(HiddenBatch {
                id: rows::batch_id(row.text("id")?)?,
                no: BatchNo(row.int("batch_no")?),
                idle: Duration::from_micros(idle_us),
            })
        })
        .collect()
}

pub async fn ended(
    tx: &mut PgConnection,
    owner: Option<&str>,
    age: Duration,
    most: usize,
) -> Result<Vec<Batch>, Failure> {
    let sql = format!(
        "SELECT {BATCH_COLUMNS} FROM batches WHERE visible = 1 AND ($1::text IS NULL OR owner = $1) \
         AND finished_at_us <= rbee_now_us() - $2 \
         AND status IN ('completed', 'failed', 'expired', 'cancelled') ORDER BY batch_no LIMIT $3"
    );
    let found = sqlx::query(AssertSqlSafe(sql))
        .bind(owner)
        .bind(micros(age))
        .bind(limit(most))
        .fetch_all(&mut *tx)
        .await?;
    with_models(tx, &found).await
}

pub async fn untold(tx: &mut PgConnection, most: usize) -> Result<Vec<Untold>, Failure> {
    let sql = format!(
        "SELECT {BATCH_COLUMNS}, tell_tries FROM batches WHERE visible = 1 \
         AND tell_at_us IS NOT NULL AND tell_at_us <= rbee_now_us() ORDER BY tell_at_us LIMIT $1"
    );
    let found = sqlx::query(AssertSqlSafe(sql))
        .bind(limit(most))
        .fetch_all(&mut *tx)
        .await?;
    let batches = with_models(tx, &found).await?;
    found
        .iter()
        .zip(batches)
        .map(|(row, batch)| {
            let tries = row.count("tell_tries")?;
            Ok(Untold { batch, tries })
        })
        .collect()
}

pub async fn told(
    tx: &mut PgConnection,
    batch: BatchNo,
    again_in: Option<Duration>,
) -> Result<(), Failure> {
    sqlx::query(
        "UPDATE batches SET tell_tries = tell_tries + 1, tell_at_us = rbee_now_us() + $2 \
         WHERE batch_no = $1",
    )
    .bind(batch.0)
    .bind(again_in.map(micros))
    .execute(&mut *tx)
    .await?;
    Ok(())
}

pub async fn free_key(tx: &mut PgConnection, batch: BatchNo) -> Result<(), Failure> {
    let done = sqlx::query("UPDATE batches SET idempotency_key = NULL WHERE batch_no = $1")
        .bind(batch.0)
        .execute(&mut *tx)
        .await?;
    one(done.rows_affected())
}

pub async fn pause(
    tx: &mut PgConnection,
    batch: BatchNo,
    reason: Option<&str>,
) -> Result<(), Failure> {
    let done = sqlx::query("UPDATE batches SET paused_reason = $2 WHERE batch_no = $1")
        .bind(batch.0)
        .bind(reason)
        .execute(&mut *tx)
        .await?;
    one(done.rows_affected())
}

fn one(updated: u64) -> Result<(), Failure> {
    match updated {
        0 => Err(StoreError::NoSuchBatch.into()),
        _ => Ok(()),
    }
}

pub async fn write_model(
    tx: &mut PgConnection,
    batch: BatchNo,
    model: &BatchModel,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO batch_models (batch_no, model_no, requested, sha256, revision, numerics) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (batch_no, model_no) DO UPDATE SET \
         requested = excluded.requested, sha256 = excluded.sha256, \
         revision = excluded.revision, numerics = excluded.numerics",
    )
    .bind(batch.0)
    .bind(i64::from(model.no.0))
    .bind(model.requested.as_bytes())
    .bind(model.sha256.as_ref().map(|sha| sha.0.as_slice()))
    .bind(&model.revision)
    .bind(&model.numerics)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Locks a batch's row and reads its state.
pub async fn lock_status(tx: &mut PgConnection, batch: BatchNo) -> Result<BatchStatus, Failure> {
    let row = sqlx::query("SELECT status FROM batches WHERE batch_no = $1 FOR UPDATE")
        .bind(batch.0)
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(StoreError::NoSuchBatch)?;
    Ok(rows::status(&row)?)
}

pub async fn set_status(
    tx: &mut PgConnection,
    batch: BatchNo,
    status: BatchStatus,
) -> Result<(), Failure> {
    let sql = format!(
        "UPDATE batches SET status = $2, \
         finished_at_us = CASE WHEN $3 THEN clock.now END, \
         idempotency_key = CASE WHEN $4 THEN NULL ELSE idempotency_key END, tell_tries = 0, \
         tell_at_us = CASE WHEN $3 AND on_done IS NOT NULL THEN clock.now END, {} \
         FROM (SELECT rbee_now_us() AS now OFFSET 0) clock \
         WHERE batch_no = $1",
        decide::times_sql("clock.now")
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(batch.0)
        .bind(status.as_str())
        .bind(status.is_terminal())
        .bind(status.frees_key())
        .execute(&mut *tx)
        .await?;
    let outputs = match status {
        status if status.is_terminal() => file_sql::OUTPUTS,
        BatchStatus::InProgress => file_sql::NO_OUTPUTS,
        _ => return Ok(()),
    };
    sqlx::query(outputs).bind(batch.0).execute(&mut *tx).await?;
    Ok(())
}

pub async fn unfinished(tx: &mut PgConnection) -> Result<u64, Failure> {
    let jobs: i64 = sqlx::query_scalar(file_sql::UNFINISHED)
        .fetch_one(&mut *tx)
        .await?;
    Ok(u64::try_from(jobs).unwrap_or(0))
}

impl PostgresStore {
    /// Begins the end of a batch, as `decided`, and ends its queued jobs.
    pub(super) async fn end_batch(
        &self,
        batch: BatchNo,
        decided: fn(BatchStatus) -> Result<BatchStatus, StoreError>,
    ) -> Result<u64, StoreError> {
        self.call(WHOLE, &(batch, decided), |tx, (batch, decided)| {
            Box::pin(begin_end(tx, *batch, *decided))
        })
        .await?;
        while self
            .call(WHOLE, &batch, |tx, batch| Box::pin(end_chunk(tx, *batch)))
            .await?
        {}
        self.call(PLAIN, &batch, |tx, batch| {
            Box::pin(count_placed(tx, *batch))
        })
        .await
    }
}

async fn begin_end(
    tx: &mut PgConnection,
    batch: BatchNo,
    decided: fn(BatchStatus) -> Result<BatchStatus, StoreError>,
) -> Result<(), Failure> {
    let status = lock_status(tx, batch).await?;
    let after = decided(status)?;
    if after != status {
        set_status(tx, batch, after).await?;
    }
    Ok(())
}

/// Gives some queued jobs of a batch that ends their error. False: none was left.
async fn end_chunk(tx: &mut PgConnection, batch: BatchNo) -> Result<bool, Failure> {
    let row = sqlx::query("SELECT status FROM batches WHERE batch_no = $1")
        .bind(batch.0)
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(StoreError::NoSuchBatch)?;
    let status = rows::status(&row)?;
    // Found by the index of queued jobs, locked in the order of all locks.
    let sql = format!(
        "SELECT {JOB_NOW} FROM ((SELECT batch_no, idx FROM jobs \
           WHERE batch_no = $1 AND model_no >= 0 AND state = 0 AND same_as IS NULL \
           ORDER BY batch_no, model_no, idx LIMIT $2) UNION ALL (SELECT batch_no, idx FROM jobs \
           WHERE batch_no = $1 AND same_as >= 0 AND state = 0 \
           ORDER BY batch_no, same_as, idx LIMIT $2)) found \
         JOIN jobs j ON j.batch_no = found.batch_no AND j.idx = found.idx \
         WHERE j.state = 0 ORDER BY j.idx FOR UPDATE OF j"
    );
    let queued = sqlx::query(AssertSqlSafe(sql))
        .bind(batch.0)
        .bind(ROWS_A_CHUNK)
        .fetch_all(&mut *tx)
        .await?;
    let ended = queued
        .iter()
        .map(|row| {
            let (job, now) = (rows::job_ref(row)?, rows::job_now(row)?);
            Ok(Ended::unfinished(job, &now, status))
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    end_jobs(tx, &ended).await?;
    if !ended.is_empty() {
        return Ok(true);
    }
    lock_status(tx, batch).await?;
    close_if_done(tx, batch).await?;
    // Those that were found may have been placed in this moment, and others may be queued.
    let left: Option<i32> = sqlx::query_scalar(
        "(SELECT 1 FROM jobs WHERE batch_no = $1 AND model_no >= 0 AND state = 0 \
           AND same_as IS NULL ORDER BY batch_no, model_no, idx LIMIT 1) \
         UNION ALL (SELECT 1 FROM jobs WHERE batch_no = $1 AND same_as >= 0 AND state = 0 \
           ORDER BY batch_no, same_as, idx LIMIT 1) LIMIT 1",
    )
    .bind(batch.0)
    .fetch_optional(&mut *tx)
    .await?;
    Ok(left.is_some())
}

async fn count_placed(tx: &mut PgConnection, batch: BatchNo) -> Result<u64, Failure> {
    let placed: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM jobs WHERE batch_no = $1 AND state = 1")
            .bind(batch.0)
            .fetch_one(&mut *tx)
            .await?;
    Ok(placed as u64)
}

/// Hides a batch. False: there is none.
pub async fn hide(tx: &mut PgConnection, batch: BatchNo) -> Result<bool, Failure> {
    let hidden = sqlx::query(
        "UPDATE batches SET visible = 0, idempotency_key = NULL, wanted_key = NULL, \
         touched_at_us = rbee_now_us() WHERE batch_no = $1",
    )
    .bind(batch.0)
    .execute(&mut *tx)
    .await?;
    Ok(hidden.rows_affected() > 0)
}

/// Deletes some jobs, lines and results of a batch, lowest first. False: none was left.
pub async fn delete_chunk(tx: &mut PgConnection, batch: BatchNo) -> Result<bool, Failure> {
    let mut deleted = 0;
    for sql in [
        "DELETE FROM jobs WHERE batch_no = $1 AND idx < $2 + \
           (SELECT idx FROM jobs WHERE batch_no = $1 ORDER BY idx LIMIT 1)",
        "DELETE FROM payloads WHERE batch_no = $1 AND idx < $2 + \
           (SELECT idx FROM payloads WHERE batch_no = $1 ORDER BY idx LIMIT 1)",
        "DELETE FROM results WHERE batch_no = $1 AND finish_no < $2 + \
           (SELECT finish_no FROM results WHERE batch_no = $1 ORDER BY finish_no LIMIT 1)",
    ] {
        let done = sqlx::query(sql)
            .bind(batch.0)
            .bind(ROWS_A_CHUNK)
            .execute(&mut *tx)
            .await?;
        deleted += done.rows_affected();
    }
    Ok(deleted > 0)
}

/// Deletes what a batch has beside jobs.
pub async fn delete_rest(tx: &mut PgConnection, batch: BatchNo) -> Result<(), Failure> {
    for sql in [
        file_sql::NO_OUTPUTS,
        "DELETE FROM batch_models WHERE batch_no = $1",
        "DELETE FROM batches WHERE batch_no = $1",
    ] {
        sqlx::query(sql).bind(batch.0).execute(&mut *tx).await?;
    }
    Ok(())
}

pub async fn count_rows(tx: &mut PgConnection, batch: BatchNo) -> Result<[u64; 5], Failure> {
    let found =
        sqlx::query("SELECT state, COUNT(*) AS jobs FROM jobs WHERE batch_no = $1 GROUP BY state")
            .bind(batch.0)
            .fetch_all(&mut *tx)
            .await?;
    let mut counts = [0; 5];
    for row in &found {
        let state: JobState = rows::job_state(row)?;
        counts[state.number() as usize] = row.count("jobs")?;
    }
    Ok(counts)
}
