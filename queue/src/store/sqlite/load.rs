//! Making batches: hidden, filled in chunks, checked, shown.
//!
//! Statements insert many rows each; equal jobs and duplicate ids are found by SQL after loading,
//! so that memory does not grow with the batch.

use super::super::decide::{self, Duplicates};
use super::super::jobs::{NewBatch, NewJob, Refusal, Sealed};
use super::rows::{self, Fields};
use super::{SqliteStore, StoreError, Tx, now_us};
use crate::ids::{BatchId, BatchNo};
use crate::jsonl::Shape;
use crate::record::JobError;
use crate::state::{BatchEvent, BatchStatus, JobState, batch_after};
use futures_util::TryStreamExt;
use sqlx::AssertSqlSafe;

/// Rows of one INSERT: far below SQLite's limit of parameters, and enough that the cost of a
/// statement is shared by many.
const ROWS_A_STATEMENT: usize = 256;

impl SqliteStore {
    pub(super) async fn create(&self, new: NewBatch) -> Result<(BatchId, BatchNo), StoreError> {
        let mut tx = self.begin().await?;
        let made = self.create_in(&mut tx, new).await?;
        self.commit(tx).await?;
        Ok(made)
    }

    /// The same in the transaction of something larger.
    pub(super) async fn create_in(
        &self,
        tx: &mut Tx,
        new: NewBatch,
    ) -> Result<(BatchId, BatchNo), StoreError> {
        let asked = new.asked_json();
        let (window_us, outputs_kept_us) = (new.window_us(), new.outputs_kept_us());
        let id = new.id;
        let spec = serde_json::to_string(&new.spec)
            .expect("a spec has string keys only, so it is always JSON");
        let no: i64 = sqlx::query_scalar(
            "INSERT INTO batches (id, owner, name, wanted_key, status, spec, any_numerics, \
             created_at_us, touched_at_us, priority, pinned_node, on_done, asked, expires_at_us, \
             outputs_kept_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10, $11, $12, \
             $8 + $13, $14) RETURNING batch_no",
        )
        .bind(id.as_str())
        .bind(new.owner)
        .bind(new.name)
        .bind(new.idempotency_key)
        .bind(BatchStatus::Validating.as_str())
        .bind(spec)
        .bind(i64::from(new.spec.any_numerics))
        .bind(now_us())
        .bind(new.priority.as_str())
        .bind(new.pinned_node)
        .bind(new.on_done)
        .bind(asked)
        .bind(window_us)
        .bind(outputs_kept_us)
        .fetch_one(&mut **tx)
        .await
        .map_err(|error| self.error(error))?;
        for model in new.models {
            self.write_model(tx, BatchNo(no), model).await?;
        }
        Ok((id, BatchNo(no)))
    }

    pub(super) async fn fill(&self, batch: BatchNo, jobs: Vec<NewJob>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let shape = jobs.iter().find_map(|job| job.shape);
        let bad = jobs.iter().filter(|job| job.verdict.is_err()).count();
        let updated = sqlx::query(
            "UPDATE batches SET total = total + $2, failed = failed + $3, \
             last_finish_no = last_finish_no + $3, shape = COALESCE(shape, $4), \
             touched_at_us = $5 WHERE batch_no = $1 AND visible = 0",
        )
        .bind(batch.0)
        .bind(jobs.len() as i64)
        .bind(bad as i64)
        .bind(shape.map(rows::shape_word))
        .bind(now_us())
        .execute(&mut *tx)
        .await
        .map_err(|error| self.error(error))?;
        if updated.rows_affected() == 0 {
            return Err(StoreError::NoSuchBatch);
        }
        let mut finish_no = self.last_finish_no(&mut tx, batch).await? - bad as i64;
        let mut jobs = jobs;
        while !jobs.is_empty() {
            let rest = jobs.split_off(jobs.len().min(ROWS_A_STATEMENT));
            self.insert_jobs(&mut tx, batch, jobs, &mut finish_no)
                .await?;
            jobs = rest;
        }
        self.commit(tx).await
    }

    async fn last_finish_no(&self, tx: &mut Tx, batch: BatchNo) -> Result<i64, StoreError> {
        sqlx::query_scalar("SELECT last_finish_no FROM batches WHERE batch_no = $1")
            .bind(batch.0)
            .fetch_one(&mut **tx)
            .await
            .map_err(|error| self.error(error))
    }

    async fn insert_jobs(
        &self,
        tx: &mut Tx,
        batch: BatchNo,
        jobs: Vec<NewJob>,
        finish_no: &mut i64,
    ) -> Result<(), StoreError> {
        let count = jobs.len();
        let keep = count == ROWS_A_STATEMENT;
        let jobs_sql = insert_sql(
            "INSERT INTO jobs (batch_no, idx, line_no, model_no, state, custom_id, content, finish_no, \
             same_as)",
            9,
            count,
        );
        let lines_sql = insert_sql("INSERT INTO payloads (batch_no, idx, line)", 3, count);
        let mut insert_jobs = sqlx::query(AssertSqlSafe(jobs_sql)).persistent(keep);
        let mut insert_lines = sqlx::query(AssertSqlSafe(lines_sql)).persistent(keep);
        let mut errors = Vec::new();
        for job in jobs {
            let index = job.index.0 as i64;
            let (model, state, number) = match job.verdict {
                Ok(model) => (Some(i64::from(model.0)), JobState::Queued, None),
                Err(error) => {
                    *finish_no += 1;
                    errors.push((index, error));
                    (None, JobState::Failed, Some(*finish_no))
                }
            };
            insert_jobs = insert_jobs
                .bind(batch.0)
                .bind(index)
                .bind(job.line_number as i64)
                .bind(model)
                .bind(state.number())
                .bind(job.custom_id)
                .bind(job.content.0.to_vec())
                .bind(number)
                .bind(job.same_as.map(|leader| leader.0 as i64));
            insert_lines = insert_lines.bind(batch.0).bind(index).bind(job.line);
        }
        insert_jobs
            .execute(&mut **tx)
            .await
            .map_err(|error| self.error(error))?;
        insert_lines
            .execute(&mut **tx)
            .await
            .map_err(|error| self.error(error))?;
        for (index, error) in errors {
            self.insert_error(tx, batch, index, error).await?;
        }
        Ok(())
    }

    async fn insert_error(
        &self,
        tx: &mut Tx,
        batch: BatchNo,
        index: i64,
        error: JobError,
    ) -> Result<(), StoreError> {
        let code = error.code.clone();
        let record = decide::bad_line(error);
        sqlx::query(
            "INSERT INTO results (batch_no, idx, attempt, record, error_code, finished_at_us) \
             VALUES ($1, $2, 0, $3, $4, $5)",
        )
        .bind(batch.0)
        .bind(index)
        .bind(record.to_json())
        .bind(code)
        .bind(now_us())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(|error| self.error(error))
    }

    pub(super) async fn seal(&self, batch: BatchNo) -> Result<Sealed, StoreError> {
        if let Some(refusal) = self.refusal(batch).await? {
            self.delete(batch).await?;
            return Ok(Sealed::Refused(refusal));
        }
        self.show(batch).await
    }

    /// Why a filled batch is refused as a whole, where it is. Equal jobs of one that is not are numbered.
    pub(super) async fn refusal(&self, batch: BatchNo) -> Result<Option<Refusal>, StoreError> {
        let row =
            sqlx::query("SELECT total, shape FROM batches WHERE batch_no = $1 AND visible = 0")
                .bind(batch.0)
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| self.error(error))?
                .ok_or(StoreError::NoSuchBatch)?;
        let total = row.count("total")?;
        let seen = self.loads.end(batch, total);
        let refusal = match total {
            0 => Some(Refusal::Empty),
            _ if seen.maybe_duplicate => self.duplicates(batch).await?,
            _ => None,
        };
        if refusal.is_none() && seen.maybe_equal {
            self.number_equal_jobs(batch).await?;
        }
        Ok(refusal)
    }

    /// Ids that more than one line shows, defaulted ones included.
    async fn duplicates(&self, batch: BatchNo) -> Result<Option<Refusal>, StoreError> {
        let explicit: Option<i64> = sqlx::query_scalar(
            "SELECT 1 FROM jobs WHERE batch_no = $1 AND custom_id IS NOT NULL LIMIT 1",
        )
        .bind(batch.0)
        .fetch_optional(&self.readers)
        .await
        .map_err(|error| self.error(error))?;
        if explicit.is_none() {
            return Ok(None);
        }
        let mut rows = sqlx::query(
            "SELECT COALESCE(custom_id, CAST(idx AS TEXT)) AS shown, line_no FROM jobs \
             WHERE batch_no = $1 AND COALESCE(custom_id, CAST(idx AS TEXT)) IN \
               (SELECT COALESCE(custom_id, CAST(idx AS TEXT)) FROM jobs WHERE batch_no = $1 \
                GROUP BY 1 HAVING COUNT(*) > 1) \
             ORDER BY shown, idx",
        )
        .bind(batch.0)
        .fetch(&self.readers);
        let mut duplicates = Duplicates::default();
        while let Some(row) = rows.try_next().await.map_err(|error| self.error(error))? {
            duplicates.add(row.text("shown")?, row.count("line_no")?);
        }
        Ok(duplicates.refusal())
    }

    /// Numbers jobs of equal content and model in input order, from 0.
    async fn number_equal_jobs(&self, batch: BatchNo) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "UPDATE jobs SET occurrence = equal.n FROM \
               (SELECT idx, ROW_NUMBER() OVER (PARTITION BY content, model_no ORDER BY idx) - 1 \
                AS n FROM jobs WHERE batch_no = $1 AND content IN \
                  (SELECT content FROM jobs WHERE batch_no = $1 \
                   GROUP BY content HAVING COUNT(*) > 1)) AS equal \
             WHERE jobs.batch_no = $1 AND jobs.idx = equal.idx AND equal.n > 0",
        )
        .bind(batch.0)
        .execute(&mut *tx)
        .await
        .map_err(|error| self.error(error))?;
        self.commit(tx).await
    }

    async fn show(&self, batch: BatchNo) -> Result<Sealed, StoreError> {
        let mut tx = self.begin().await?;
        let existing: Option<String> = sqlx::query_scalar(
            "SELECT other.id FROM batches other JOIN batches mine ON mine.owner = other.owner \
             AND mine.wanted_key = other.idempotency_key WHERE mine.batch_no = $1",
        )
        .bind(batch.0)
        .fetch_optional(&mut *tx)
        .await
        .map_err(|error| self.error(error))?;
        if let Some(id) = existing {
            drop(tx);
            self.delete(batch).await?;
            let id = rows::batch_id(&id)?;
            let other = self.get(&id).await?.ok_or(StoreError::NoSuchBatch)?;
            return Ok(Sealed::Existing(Box::new(other)));
        }
        let shown = batch_after(BatchStatus::Validating, BatchEvent::Show)
            .expect("a validating batch can be shown");
        sqlx::query(
            "UPDATE batches SET visible = 1, status = $2, idempotency_key = wanted_key, \
             shape = COALESCE(shape, $3), in_progress_at_us = $4 \
             WHERE batch_no = $1 AND visible = 0",
        )
        .bind(batch.0)
        .bind(shown.as_str())
        .bind(rows::shape_word(Shape::Short))
        .bind(now_us())
        .execute(&mut *tx)
        .await
        .map_err(|error| self.error(error))?;
        // A batch of bad lines only has nothing left to do.
        self.close_if_done(&mut tx, batch).await?;
        let id: String = sqlx::query_scalar("SELECT id FROM batches WHERE batch_no = $1")
            .bind(batch.0)
            .fetch_one(&mut *tx)
            .await
            .map_err(|error| self.error(error))?;
        self.commit(tx).await?;
        let id = rows::batch_id(&id)?;
        let batch = self.get(&id).await?.ok_or(StoreError::NoSuchBatch)?;
        Ok(Sealed::Shown(Box::new(batch)))
    }
}

/// `prefix VALUES (?,?),(?,?)…`
pub(super) fn insert_sql(prefix: &str, columns: usize, rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    format!("{prefix} VALUES {}", vec![row.as_str(); rows].join(","))
}
