//! Making batches: hidden, filled by COPY in chunks.

use super::super::decide;
use super::super::jobs::{NewBatch, NewJob};
use super::batches;
use super::copy::Copy;
use super::rows::{self, Fields};
use super::{CHUNK, Failure, PostgresStore, StoreError};
use crate::ids::BatchNo;
use crate::state::{BatchStatus, JobState};
use sqlx::postgres::PgConnection;

pub async fn create(tx: &mut PgConnection, new: &NewBatch) -> Result<BatchNo, Failure> {
    let spec = serde_json::to_string(&new.spec)
        .expect("a spec has string keys only, so it is always JSON");
    let no: i64 = sqlx::query_scalar(
        "INSERT INTO batches (id, owner, name, wanted_key, status, spec, any_numerics, \
         created_at_us, touched_at_us, priority, pinned_node, on_done, asked, expires_at_us, \
         outputs_kept_us) \
         SELECT $1, $2, $3, $4, $5, $6, $7, now, now, $8, $9, $10, $11, now + $12, $13 \
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
    .bind(new.asked_json())
    .bind(new.window_us())
    .bind(new.outputs_kept_us())
    .fetch_one(&mut *tx)
    .await?;
    for model in &new.models {
        batches::write_model(tx, BatchNo(no), model).await?;
    }
    Ok(BatchNo(no))
}

impl PostgresStore {
    /// Writes jobs and lines by two connections at once. Each checks that what came before is
    /// there, so that neither goes on where a server lost a chunk that nobody waited for.
    pub(super) async fn fill(&self, batch: BatchNo, jobs: Vec<NewJob>) -> Result<(), StoreError> {
        self.loads.add(batch, &jobs);
        let input = (batch, jobs);
        let states = self.call(CHUNK, &input, |tx, (batch, jobs)| {
            Box::pin(fill_jobs(tx, *batch, jobs))
        });
        let lines = self.call(CHUNK, &input, |tx, (batch, jobs)| {
            Box::pin(fill_lines(tx, *batch, jobs))
        });
        // Both to their ends: a load that is cut in the middle would hold its connections.
        let (states, lines) = futures_util::future::join(states, lines).await;
        states.and(lines)
    }
}

/// The last update shows the batch and waits for the disk, and with it for all that came before.
async fn no_wait_for_disk(tx: &mut PgConnection) -> Result<(), Failure> {
    sqlx::raw_sql("SET LOCAL synchronous_commit = off")
        .execute(&mut *tx)
        .await?;
    Ok(())
}

fn lost_a_part() -> Failure {
    StoreError::damaged("a part of the batch is missing: load it again").into()
}

async fn fill_jobs(tx: &mut PgConnection, batch: BatchNo, jobs: &[NewJob]) -> Result<(), Failure> {
    no_wait_for_disk(tx).await?;
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
    let before = row.count("total")? - jobs.len() as u64;
    if jobs.first().is_some_and(|job| job.index.0 != before) {
        return Err(lost_a_part());
    }
    let first_bad = row.int("last_finish_no")? - bad + 1;
    copy_jobs(tx, batch, jobs, first_bad).await?;
    if bad > 0 {
        copy_errors(tx, batch, jobs, first_bad, row.int("touched_at_us")?).await?;
    }
    Ok(())
}

async fn fill_lines(tx: &mut PgConnection, batch: BatchNo, jobs: &[NewJob]) -> Result<(), Failure> {
    let Some(first) = jobs.first() else {
        return Ok(());
    };
    no_wait_for_disk(tx).await?;
    // Against a purge, and not against the update of the counters.
    let hidden = "SELECT 1 FROM batches WHERE batch_no = $1 AND visible = 0 FOR KEY SHARE";
    let hidden: Option<i32> = sqlx::query_scalar(hidden)
        .bind(batch.0)
        .fetch_optional(&mut *tx)
        .await?;
    hidden.ok_or(StoreError::NoSuchBatch)?;
    check_lines_below(tx, batch, first.index.0).await?;
    // A first try may have left lines and no jobs.
    sqlx::query("DELETE FROM payloads WHERE batch_no = $1 AND idx >= $2")
        .bind(batch.0)
        .bind(first.index.0 as i64)
        .execute(&mut *tx)
        .await?;
    copy_payloads(tx, batch, jobs).await
}

/// Lines come in whole chunks, so the last one stands for all below it.
pub async fn check_lines_below(
    tx: &mut PgConnection,
    batch: BatchNo,
    count: u64,
) -> Result<(), Failure> {
    let last: Option<i32> =
        sqlx::query_scalar("SELECT 1 FROM payloads WHERE batch_no = $1 AND idx = $2")
            .bind(batch.0)
            .bind(count as i64 - 1)
            .fetch_optional(&mut *tx)
            .await?;
    match last {
        None if count > 0 => Err(lost_a_part()),
        _ => Ok(()),
    }
}

async fn copy_jobs(
    tx: &mut PgConnection,
    batch: BatchNo,
    jobs: &[NewJob],
    first_bad: i64,
) -> Result<(), Failure> {
    let mut copy = Copy::begin(
        tx,
        "COPY jobs (batch_no, idx, finish_no, model_no, state, same_as) \
         FROM STDIN (FORMAT binary)",
    )
    .await?;
    let mut finish_no = first_bad;
    for job in jobs {
        copy.row(6).await?;
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
        match job.same_as {
            Some(leader) => copy.bigint(leader.0 as i64),
            None => copy.null(),
        }
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
