//! Batches: reading, listing, pausing, cancelling, deleting.

use super::super::decide::{self, Ended};
use super::super::file_sql;
use super::super::jobs::HiddenBatch;
use super::rows::{self, BATCH_COLUMNS, Fields, OLDER};
use super::{SqliteStore, StoreError, Tx, now_us};
use crate::batch::{Batch, BatchModel, INTERACTIVE_OWNER};
use crate::ids::{BatchId, BatchNo};
use crate::state::{BatchStatus, JobState};
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteRow;
use std::time::Duration;

/// Rows that one transaction of a large change touches.
const ROWS_A_CHUNK: i64 = 5_000;

impl SqliteStore {
    pub(super) async fn get(&self, id: &BatchId) -> Result<Option<Batch>, StoreError> {
        let sql = format!("SELECT {BATCH_COLUMNS} FROM batches WHERE id = $1 AND visible = 1");
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(id.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        self.with_models(row).await
    }

    pub(super) async fn by_no(&self, batch: BatchNo) -> Result<Option<Batch>, StoreError> {
        let sql =
            format!("SELECT {BATCH_COLUMNS} FROM batches WHERE batch_no = $1 AND visible = 1");
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(batch.0)
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        self.with_models(row).await
    }

    pub(super) async fn by_key(&self, owner: &str, key: &str) -> Result<Option<Batch>, StoreError> {
        let sql = format!(
            "SELECT {BATCH_COLUMNS} FROM batches \
             WHERE owner = $1 AND idempotency_key = $2 AND visible = 1"
        );
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(owner)
            .bind(key)
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        self.with_models(row).await
    }

    pub(super) async fn list(
        &self,
        owner: Option<&str>,
        after: Option<&BatchId>,
        limit: usize,
    ) -> Result<Vec<Batch>, StoreError> {
        let sql = format!(
            "SELECT {BATCH_COLUMNS} FROM batches WHERE visible = 1 \
             AND (owner = $1 OR $1 IS NULL AND owner <> '{INTERACTIVE_OWNER}') \
             AND {OLDER} ORDER BY created_at_us DESC, id DESC LIMIT $3"
        );
        let found = sqlx::query(AssertSqlSafe(sql))
            .bind(owner)
            .bind(after.map(BatchId::as_str))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        let mut batches = Vec::with_capacity(found.len());
        for row in found {
            batches.extend(self.with_models(Some(row)).await?);
        }
        Ok(batches)
    }

    pub(super) async fn with_models(
        &self,
        row: Option<SqliteRow>,
    ) -> Result<Option<Batch>, StoreError> {
        let Some(row) = row else {
            return Ok(None);
        };
        let models = sqlx::query(
            "SELECT model_no, requested, sha256, revision, numerics FROM batch_models \
             WHERE batch_no = $1 ORDER BY model_no",
        )
        .bind(row.int("batch_no")?)
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.error(error))?;
        let models = models.iter().map(rows::model).collect::<Result<_, _>>()?;
        rows::batch(&row, models).map(Some)
    }

    pub(super) async fn hidden(&self) -> Result<Vec<HiddenBatch>, StoreError> {
        let found = sqlx::query(
            "SELECT id, batch_no, touched_at_us FROM batches WHERE visible = 0 ORDER BY batch_no",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.error(error))?;
        let now = now_us();
        found
            .iter()
            .map(|row| {
                let idle_us = now - row.int("touched_at_us")?;
                Ok(HiddenBatch {
                    id: rows::batch_id(row.text("id")?)?,
                    no: BatchNo(row.int("batch_no")?),
                    idle: Duration::from_micros(u64::try_from(idle_us).unwrap_or(0)),
                })
            })
            .collect()
    }

    pub(super) async fn free_key(&self, batch: BatchNo) -> Result<(), StoreError> {
        self.update_one(
            sqlx::query("UPDATE batches SET idempotency_key = NULL WHERE batch_no = $1")
                .bind(batch.0),
        )
        .await
    }

    pub(super) async fn pause(
        &self,
        batch: BatchNo,
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        self.update_one(
            sqlx::query("UPDATE batches SET paused_reason = $2 WHERE batch_no = $1")
                .bind(batch.0)
                .bind(reason.map(str::to_owned)),
        )
        .await
    }

    async fn update_one(
        &self,
        query: sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
    ) -> Result<(), StoreError> {
        let done = query
            .execute(&self.writer)
            .await
            .map_err(|error| self.error(error))?;
        if done.rows_affected() == 0 {
            return Err(StoreError::NoSuchBatch);
        }
        Ok(())
    }

    pub(super) async fn resolve(
        &self,
        batch: BatchNo,
        model: BatchModel,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        self.write_model(&mut tx, batch, model).await?;
        self.commit(tx).await
    }

    pub(super) async fn write_model(
        &self,
        tx: &mut Tx,
        batch: BatchNo,
        model: BatchModel,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO batch_models (batch_no, model_no, requested, sha256, revision, numerics) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (batch_no, model_no) DO UPDATE SET \
             requested = excluded.requested, sha256 = excluded.sha256, \
             revision = excluded.revision, numerics = excluded.numerics",
        )
        .bind(batch.0)
        .bind(i64::from(model.no.0))
        .bind(model.requested)
        .bind(model.sha256.map(|sha| sha.0.to_vec()))
        .bind(model.revision)
        .bind(model.numerics)
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(|error| self.error(error))
    }

    pub(super) async fn status_of(
        &self,
        tx: &mut Tx,
        batch: BatchNo,
    ) -> Result<BatchStatus, StoreError> {
        let row = sqlx::query("SELECT status FROM batches WHERE batch_no = $1")
            .bind(batch.0)
            .fetch_optional(&mut **tx)
            .await
            .map_err(|error| self.error(error))?
            .ok_or(StoreError::NoSuchBatch)?;
        rows::status(&row)
    }

    pub(super) async fn set_status(
        &self,
        tx: &mut Tx,
        batch: BatchNo,
        status: BatchStatus,
    ) -> Result<(), StoreError> {
        let now = now_us();
        let sql = format!(
            "UPDATE batches SET status = $2, finished_at_us = $3, \
             idempotency_key = CASE WHEN $4 THEN NULL ELSE idempotency_key END, \
             tell_tries = 0, \
             tell_at_us = CASE WHEN on_done IS NULL THEN NULL ELSE $3 END, {} \
             WHERE batch_no = $1",
            decide::times_sql("$5")
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(batch.0)
            .bind(status.as_str())
            .bind(status.is_terminal().then_some(now))
            .bind(status.frees_key())
            .bind(now)
            .execute(&mut **tx)
            .await
            .map_err(|error| self.error(error))?;
        let outputs = match status {
            status if status.is_terminal() => file_sql::OUTPUTS,
            BatchStatus::InProgress => file_sql::NO_OUTPUTS,
            _ => return Ok(()),
        };
        sqlx::query(outputs)
            .bind(batch.0)
            .execute(&mut **tx)
            .await
            .map(drop)
            .map_err(|error| self.error(error))
    }

    pub(super) async fn unfinished(&self) -> Result<u64, StoreError> {
        let jobs: i64 = sqlx::query_scalar(file_sql::UNFINISHED)
            .fetch_one(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        Ok(u64::try_from(jobs).unwrap_or(0))
    }

    /// Begins the end of a batch, as `decided`, and ends its queued jobs.
    pub(super) async fn end_batch(
        &self,
        batch: BatchNo,
        decided: fn(BatchStatus) -> Result<BatchStatus, StoreError>,
    ) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let status = self.status_of(&mut tx, batch).await?;
        let after = decided(status)?;
        if after != status {
            self.set_status(&mut tx, batch, after).await?;
        }
        self.commit(tx).await?;
        while self.end_chunk(batch).await? {}
        let counts = self.count_rows(batch).await?;
        Ok(counts[JobState::Placed.number() as usize])
    }

    /// Gives some queued jobs of a batch that ends their error. False: none was left.
    async fn end_chunk(&self, batch: BatchNo) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let status = self.status_of(&mut tx, batch).await?;
        let queued = sqlx::query(
            "SELECT batch_no, idx, state, attempt, model_no, crashes, finish_no, \
             0 AS leads FROM jobs WHERE batch_no = $1 AND state = 0 ORDER BY idx LIMIT $2",
        )
        .bind(batch.0)
        .bind(ROWS_A_CHUNK)
        .fetch_all(&mut *tx)
        .await
        .map_err(|error| self.error(error))?;
        let more = !queued.is_empty();
        let ended = queued
            .iter()
            .map(|row| {
                let (job, now) = (rows::job_ref(row)?, rows::job_now(row)?);
                Ok(Ended::unfinished(job, &now, status))
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        self.end_jobs(&mut tx, &ended).await?;
        self.close_if_done(&mut tx, batch).await?;
        self.commit(tx).await?;
        Ok(more)
    }

    pub(super) async fn delete(&self, batch: BatchNo) -> Result<bool, StoreError> {
        // Hidden first: a purge that is cut off leaves an orphan, which the sweeper takes.
        let hidden = sqlx::query(
            "UPDATE batches SET visible = 0, idempotency_key = NULL, wanted_key = NULL \
             WHERE batch_no = $1",
        )
        .bind(batch.0)
        .execute(&self.writer)
        .await
        .map_err(|error| self.error(error))?;
        let top: Option<i64> = sqlx::query_scalar("SELECT MAX(idx) FROM jobs WHERE batch_no = $1")
            .bind(batch.0)
            .fetch_one(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        let mut below = 0;
        while top.is_some_and(|top| below <= top) {
            below += ROWS_A_CHUNK;
            let mut tx = self.begin().await?;
            for sql in [
                "DELETE FROM payloads WHERE batch_no = $1 AND idx < $2",
                "DELETE FROM results WHERE batch_no = $1 AND idx < $2",
                "DELETE FROM jobs WHERE batch_no = $1 AND idx < $2",
            ] {
                sqlx::query(sql)
                    .bind(batch.0)
                    .bind(below)
                    .execute(&mut *tx)
                    .await
                    .map_err(|error| self.error(error))?;
            }
            self.commit(tx).await?;
        }
        let mut tx = self.begin().await?;
        for sql in [
            file_sql::NO_OUTPUTS,
            "DELETE FROM batch_models WHERE batch_no = $1",
            "DELETE FROM batches WHERE batch_no = $1",
        ] {
            sqlx::query(sql)
                .bind(batch.0)
                .execute(&mut *tx)
                .await
                .map_err(|error| self.error(error))?;
        }
        self.commit(tx).await?;
        Ok(hidden.rows_affected() > 0)
    }

    pub(super) async fn count_rows(&self, batch: BatchNo) -> Result<[u64; 5], StoreError> {
        let found: Vec<(i64, i64)> =
            sqlx::query_as("SELECT state, COUNT(*) FROM jobs WHERE batch_no = $1 GROUP BY state")
                .bind(batch.0)
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.error(error))?;
        let mut counts = [0; 5];
        for (state, count) in found {
            if JobState::from_number(state).is_none() {
                return Err(StoreError::damaged(format!(
                    "a job is in the unknown state {state}"
                )));
            }
            counts[state as usize] = count as u64;
        }
        Ok(counts)
    }
}
