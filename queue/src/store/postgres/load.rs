//! Making batches: hidden, filled by COPY in chunks, checked, shown.
//!
//! Equal jobs and duplicate ids are found by SQL after loading, so that memory does not grow with
//! the batch.

use super::super::decide::{self, Duplicates};
use super::super::jobs::{NewBatch, NewJob, Refusal, Sealed};
use super::batches;
use super::copy::Copy;
use super::finish::close_if_done;
use super::rows::{self, Fields};
use super::{Failure, LONG, PLAIN, PostgresStore, StoreError, WHOLE};
use crate::batch::Batch;
use crate::ids::BatchNo;
use crate::jsonl::Shape;
use crate::state::{BatchEvent, BatchStatus, JobState, batch_after};
use futures_util::TryStreamExt;
use sqlx::postgres::PgConnection;

/// The checks read all rows of a batch once: sorting and hashing in memory, any plan.
const SCAN_SETTINGS: &str = "SET LOCAL work_mem = '128MB'; SET LOCAL enable_seqscan = on; \
     SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on; \
     SET LOCAL enable_bitmapscan = on; SET LOCAL max_parallel_workers_per_gather = 2";

pub async fn create(tx: &mut PgConnection, new: &NewBatch) -> Result<BatchNo, Failure> {
    let spec = serde_json::to_string(&new.spec)
        .expect("a spec has string keys only, so it is always JSON");
    let no: i64 = sqlx::query_scalar(
        "INSERT INTO batches (id, owner, name, wanted_key, status, spec, any_numerics, \
         created_at_us, touched_at_us, priority, pinned_node, on_done) \
         SELECT $1, $2, $3, $4, $5, $6, $7, now, now, $8, $9, $10 \
         FROM (SELECT rbee_now_us() AS now) clock RETURNING batch_no",
    )
    .bind(new.id.as_str())
    .bind(&new.owner)
    .bind(&new.name)
    .bind(&new.idempotency_key)
    .bind(BatchStatus::Validating.as_str())
    .bind(spec)
    .bind(i16::from(new.spec.any_numerics))
    .bind(new.priority.as_str())
    .bind(&new.pinned_node)
    .bind(&new.on_done)
    .fetch_one(&mut *tx)
    .await?;
    for model in &new.models {
        batches::write_model(tx, BatchNo(no), model).await?;
    }
    Ok(BatchNo(no))
}

pub async fn fill(tx: &mut PgConnection, batch: BatchNo, jobs: &[NewJob]) -> Result<(), Failure> {
    // The last update shows the batch and waits for the disk, and with it for all that came before.
    sqlx::raw_sql("SET LOCAL synchronous_commit = off")
        .execute(&mut *tx)
        .await?;
    let shape = jobs.iter().find_map(|job| job.shape);
    let bad = jobs.iter().filter(|job| job.verdict.is_err()).count() as i64;
    let row = sqlx::query(
        "UPDATE batches SET total = total + $2, failed = failed + $3, \
         last_finish_no = last_finish_no + $3, shape = COALESCE(shape, $4), \
         touched_at_us = rbee_now_us() WHERE batch_no = $1 AND visible = 0 \
         RETURNING last_finish_no, total, touched_at_us",
    )
    .bind(batch.0)
    .bind(jobs.len() as i64)
    .bind(bad)
    .bind(shape.map(rows::shape_word))
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(StoreError::NoSuchBatch)?;
    // A server that lost power may have lost chunks which nobody waited for.
    let before = row.count("total")? - jobs.len() as u64;
    if jobs.first().is_some_and(|job| job.index.0 != before) {
        return Err(StoreError::damaged("a part of the batch is missing: load it again").into());
    }
    let first_bad = row.int("last_finish_no")? - bad + 1;
    copy_jobs(tx, batch, jobs, first_bad).await?;
    copy_payloads(tx, batch, jobs).await?;
    if bad > 0 {
        copy_errors(tx, batch, jobs, first_bad, row.int("touched_at_us")?).await?;
    }
    Ok(())
}

async fn copy_jobs(
    tx: &mut PgConnection,
    batch: BatchNo,
    jobs: &[NewJob],
    first_bad: i64,
) -> Result<(), Failure> {
    let mut copy = Copy::begin(
        tx,
        "COPY jobs (batch_no, idx, finish_no, model_no, state) FROM STDIN (FORMAT binary)",
    )
    .await?;
    let mut finish_no = first_bad;
    for job in jobs {
        copy.row(5).await?;
        copy.bigint(batch.0);
        copy.bigint(job.index.0 as i64);
        let state = match &job.verdict {
            Ok(model) => {
                copy.null();
                copy.integer(i32::try_from(model.0).unwrap_or(i32::MAX));
                JobState::Queued
            }
            Err(_) => {
                copy.bigint(finish_no);
                finish_no += 1;
                copy.null();
                JobState::Failed
            }
        };
        copy.smallint(state.number() as i16);
    }
    copy.finish().await
}

async fn copy_payloads(
    tx: &mut PgConnection,
    batch: BatchNo,
    jobs: &[NewJob],
) -> Result<(), Failure> {
    let mut copy = Copy::begin(
        tx,
        "COPY payloads (batch_no, idx, line_no, content, custom_id, line) \
         FROM STDIN (FORMAT binary)",
    )
    .await?;
    for job in jobs {
        copy.row(6).await?;
        copy.bigint(batch.0);
        copy.bigint(job.index.0 as i64);
        copy.bigint(job.line_number as i64);
        copy.bytes(&job.content.0);
        match &job.custom_id {
            Some(id) => copy.bytes(id.as_bytes()),
            None => copy.null(),
        }
        copy.bytes(job.line.as_bytes());
    }
    copy.finish().await
}

async fn copy_errors(
    tx: &mut PgConnection,
    batch: BatchNo,
    jobs: &[NewJob],
    first_bad: i64,
    now_us: i64,
) -> Result<(), Failure> {
    let mut copy = Copy::begin(
        tx,
        "COPY results (batch_no, finish_no, idx, attempt, finished_at_us, error_code, record) \
         FROM STDIN (FORMAT binary)",
    )
    .await?;
    let errors = jobs
        .iter()
        .filter_map(|job| Some((job.index, job.verdict.as_ref().err()?)));
    for ((index, error), finish_no) in errors.zip(first_bad..) {
        copy.row(7).await?;
        copy.bigint(batch.0);
        copy.bigint(finish_no);
        copy.bigint(index.0 as i64);
        copy.bigint(0);
        copy.bigint(now_us);
        copy.bytes(error.code.as_bytes());
        copy.bytes(decide::bad_line(error.clone()).to_json().as_bytes());
    }
    copy.finish().await
}

/// What became of the try to show a batch.
enum Shown {
    Batch(Box<Batch>),
    /// Another batch holds the key.
    Taken(Box<Batch>),
}

impl PostgresStore {
    pub(super) async fn seal(&self, batch: BatchNo) -> Result<Sealed, StoreError> {
        let refusal = self
            .call(LONG, &batch, |tx, batch| Box::pin(check(tx, *batch)))
            .await?;
        if let Some(refusal) = refusal {
            self.delete(batch).await?;
            return Ok(Sealed::Refused(refusal));
        }
        loop {
            let shown = self
                .call(WHOLE, &batch, |tx, batch| Box::pin(show(tx, *batch)))
                .await;
            match shown {
                Ok(Shown::Batch(batch)) => return Ok(Sealed::Shown(batch)),
                Ok(Shown::Taken(other)) => {
                    self.delete(batch).await?;
                    return Ok(Sealed::Existing(other));
                }
                // Another process took the key in this moment: look again.
                Err(StoreError::Database { source, .. }) if is_taken(&source) => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) async fn delete(&self, batch: BatchNo) -> Result<bool, StoreError> {
        // Hidden first: a purge that is cut off leaves an orphan, which the sweeper takes.
        let hidden = self
            .call(PLAIN, &batch, |tx, batch| {
                Box::pin(batches::hide(tx, *batch))
            })
            .await?;
        while self
            .call(LONG, &batch, |tx, batch| {
                Box::pin(batches::delete_chunk(tx, *batch))
            })
            .await?
        {}
        self.call(WHOLE, &batch, |tx, batch| {
            Box::pin(batches::delete_rest(tx, *batch))
        })
        .await?;
        Ok(hidden)
    }
}

fn is_taken(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.is_unique_violation())
}

/// Refuses a batch as a whole, or numbers its equal jobs.
async fn check(tx: &mut PgConnection, batch: BatchNo) -> Result<Option<Refusal>, Failure> {
    let total: Option<i64> =
        sqlx::query_scalar("SELECT total FROM batches WHERE batch_no = $1 AND visible = 0")
            .bind(batch.0)
            .fetch_optional(&mut *tx)
            .await?;
    if total.ok_or(StoreError::NoSuchBatch)? == 0 {
        return Ok(Some(Refusal::Empty));
    }
    sqlx::raw_sql(SCAN_SETTINGS).execute(&mut *tx).await?;
    if let Some(refusal) = duplicates(tx, batch).await? {
        return Ok(Some(refusal));
    }
    number_equal_jobs(tx, batch).await?;
    Ok(None)
}

/// Ids that more than one line shows, defaulted ones included.
async fn duplicates(tx: &mut PgConnection, batch: BatchNo) -> Result<Option<Refusal>, Failure> {
    let explicit: Option<i32> = sqlx::query_scalar(
        "SELECT 1 FROM payloads WHERE batch_no = $1 AND custom_id IS NOT NULL LIMIT 1",
    )
    .bind(batch.0)
    .fetch_optional(&mut *tx)
    .await?;
    if explicit.is_none() {
        return Ok(None);
    }
    let mut found = sqlx::query(
        "WITH shown AS (SELECT COALESCE(custom_id, convert_to(idx::TEXT, 'UTF8')) AS shown, \
           line_no, idx FROM payloads WHERE batch_no = $1) \
         SELECT shown, line_no FROM shown WHERE shown IN \
           (SELECT shown FROM shown GROUP BY shown HAVING COUNT(*) > 1) ORDER BY shown, idx",
    )
    .bind(batch.0)
    .fetch(&mut *tx);
    let mut duplicates = Duplicates::default();
    while let Some(row) = found.try_next().await? {
        duplicates.add(row.text("shown")?, row.count("line_no")?);
    }
    Ok(duplicates.refusal())
}

/// Numbers jobs of equal content and model in input order, from 0. Most batches have none.
async fn number_equal_jobs(tx: &mut PgConnection, batch: BatchNo) -> Result<(), Failure> {
    let equal: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT content FROM payloads WHERE batch_no = $1 GROUP BY content HAVING COUNT(*) > 1",
    )
    .bind(batch.0)
    .fetch_all(&mut *tx)
    .await?;
    if equal.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE payloads SET occurrence = equal.n FROM \
           (SELECT p.idx, ROW_NUMBER() OVER (PARTITION BY p.content, j.model_no ORDER BY p.idx) - 1 \
            AS n FROM payloads p JOIN jobs j ON j.batch_no = p.batch_no AND j.idx = p.idx \
            WHERE p.batch_no = $1 AND p.content = ANY($2)) AS equal \
         WHERE payloads.batch_no = $1 AND payloads.idx = equal.idx AND equal.n > 0",
    )
    .bind(batch.0)
    .bind(equal)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn show(tx: &mut PgConnection, batch: BatchNo) -> Result<Shown, Failure> {
    let existing: Option<String> = sqlx::query_scalar(
        "SELECT other.id FROM batches mine JOIN batches other ON mine.owner = other.owner \
         AND mine.wanted_key = other.idempotency_key WHERE mine.batch_no = $1",
    )
    .bind(batch.0)
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(id) = existing {
        let other = batches::get(tx, &rows::batch_id(&id)?).await?;
        let other = other.ok_or(StoreError::NoSuchBatch)?;
        return Ok(Shown::Taken(Box::new(other)));
    }
    let shown = batch_after(BatchStatus::Validating, BatchEvent::Show)
        .expect("a validating batch can be shown");
    let id: Option<String> = sqlx::query_scalar(
        "UPDATE batches SET visible = 1, status = $2, idempotency_key = wanted_key, \
         shape = COALESCE(shape, $3) WHERE batch_no = $1 AND visible = 0 RETURNING id",
    )
    .bind(batch.0)
    .bind(shown.as_str())
    .bind(rows::shape_word(Shape::Short))
    .fetch_optional(&mut *tx)
    .await?;
    let id = rows::batch_id(&id.ok_or(StoreError::NoSuchBatch)?)?;
    // A batch of bad lines only has nothing left to do.
    close_if_done(tx, batch).await?;
    let batch = batches::get(tx, &id).await?;
    Ok(Shown::Batch(Box::new(
        batch.ok_or(StoreError::NoSuchBatch)?,
    )))
}
