//! Checking filled batches and showing them; deleting.
//!
//! Equal jobs and duplicate ids are found by SQL after loading, so that memory does not grow with
//! the batch, and only where the load saw that there may be some.

use super::super::decide::Duplicates;
use super::super::jobs::{Refusal, Sealed};
use super::super::seen::Seen;
use super::batches;
use super::finish::close_if_done;
use super::load::check_lines_below;
use super::rows::{self, Fields};
use super::{Failure, LONG, PLAIN, PostgresStore, StoreError, WHOLE};
use crate::batch::Batch;
use crate::ids::BatchNo;
use crate::jsonl::Shape;
use crate::state::{BatchEvent, BatchStatus, batch_after};
use futures_util::TryStreamExt;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

/// The checks read all rows of a batch once: sorting and hashing in memory, any plan.
const SCAN_SETTINGS: &str = "SET LOCAL work_mem = '128MB'; SET LOCAL enable_seqscan = on; \
     SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on; \
     SET LOCAL enable_bitmapscan = on; SET LOCAL max_parallel_workers_per_gather = 2";

/// What became of the try to show a batch.
enum Shown {
    Batch(Box<Batch>),
    /// Another batch holds the key.
    Taken(Box<Batch>),
}

impl PostgresStore {
    pub(super) async fn seal(&self, batch: BatchNo) -> Result<Sealed, StoreError> {
        if let Some(refusal) = self.refusal(batch).await? {
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

    /// Why a filled batch is refused as a whole, where it is.
    pub(super) async fn refusal(&self, batch: BatchNo) -> Result<Option<Refusal>, StoreError> {
        let total = self
            .call(PLAIN, &batch, |tx, batch| {
                Box::pin(count_loaded(tx, *batch))
            })
            .await?;
        let seen = self.loads.end(batch, total);
        if total == 0 {
            return Ok(Some(Refusal::Empty));
        }
        self.call(LONG, &(batch, seen), |tx, (batch, seen)| {
            Box::pin(check(tx, *batch, *seen))
        })
        .await
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

/// How many jobs a hidden batch has, all with their lines.
async fn count_loaded(tx: &mut PgConnection, batch: BatchNo) -> Result<u64, Failure> {
    let row = sqlx::query("SELECT total FROM batches WHERE batch_no = $1 AND visible = 0")
        .bind(batch.0)
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(StoreError::NoSuchBatch)?;
    let total = row.count("total")?;
    check_lines_below(tx, batch, total).await?;
    Ok(total)
}

/// Refuses a batch as a whole, or numbers its equal jobs; looks only for what there may be.
async fn check(
    tx: &mut PgConnection,
    batch: BatchNo,
    seen: Seen,
) -> Result<Option<Refusal>, Failure> {
    sqlx::raw_sql(SCAN_SETTINGS).execute(&mut *tx).await?;
    if seen.maybe_duplicate
        && let Some(refusal) = duplicates(tx, batch).await?
    {
        return Ok(Some(refusal));
    }
    if seen.maybe_equal {
        number_equal_jobs(tx, batch).await?;
    }
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
    const EQUAL: &str =
        "SELECT content FROM payloads WHERE batch_no = $1 GROUP BY content HAVING COUNT(*) > 1";
    let equal: Option<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(format!("{EQUAL} LIMIT 1")))
        .bind(batch.0)
        .fetch_optional(&mut *tx)
        .await?;
    if equal.is_none() {
        return Ok(());
    }
    let number = format!(
        "UPDATE payloads SET occurrence = equal.n FROM \
           (SELECT p.idx, ROW_NUMBER() OVER (PARTITION BY p.content, j.model_no ORDER BY p.idx) - 1 \
            AS n FROM payloads p JOIN jobs j ON j.batch_no = p.batch_no AND j.idx = p.idx \
            WHERE p.batch_no = $1 AND p.content IN ({EQUAL})) AS equal \
         WHERE payloads.batch_no = $1 AND payloads.idx = equal.idx AND equal.n > 0"
    );
    sqlx::query(AssertSqlSafe(number))
        .bind(batch.0)
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
         shape = COALESCE(shape, $3), in_progress_at_us = rbee_now_us() \
         WHERE batch_no = $1 AND visible = 0 RETURNING id",
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
