//! Finding queued jobs and placing them.

use super::super::decide::{self, BatchesNow, JobsNow, Placing, Slot};
use super::super::jobs::{JobSummary, MAX_COUNTED, Place, PlaceOutcome, QueuedJob, QueuedQuery};
use super::rows::{self, Fields, JOB_NOW};
use super::{Failure, limit};
use crate::ids::{BatchNo, JobIndex, JobRef};
use crate::state::{BatchStatus, JobState};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use std::collections::{BTreeSet, HashMap};

/// Bytes of lines in one answer of [`queued`], but for its last line.
const QUEUED_BYTES: i64 = 32 * 1024 * 1024;

pub async fn queued(tx: &mut PgConnection, query: &QueuedQuery) -> Result<Vec<QueuedJob>, Failure> {
    // The length of a line is known without reading it: the server sends no more than is taken.
    // BETWEEN: in this order only the index of queued jobs gives them, and no other is chosen, since
    // the others would lead over all jobs that are done.
    let found = sqlx::query(
        "SELECT idx, content, occurrence, blamed, losses, line FROM \
           (SELECT j.idx, p.content, p.occurrence, j.blamed, j.losses, p.line, \
              SUM(octet_length(p.line)) OVER (ORDER BY j.idx \
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before \
            FROM (SELECT batch_no, idx, blamed, losses FROM jobs \
              WHERE batch_no = $1 AND model_no BETWEEN $3 AND $3 AND state = 0 \
              AND same_as IS NULL \
              AND EXISTS (SELECT 1 FROM batches WHERE batch_no = $1 AND visible = 1 \
                AND status = $2 AND paused_reason IS NULL) \
              ORDER BY batch_no, model_no, idx LIMIT $4) j \
            LEFT JOIN payloads p ON p.batch_no = j.batch_no AND p.idx = j.idx) summed \
         WHERE before IS NULL OR before <= $5 ORDER BY idx",
    )
    .bind(query.batch.0)
    .bind(BatchStatus::InProgress.as_str())
    .bind(i32::try_from(query.model.0).unwrap_or(i32::MAX))
    .bind(limit(query.limit))
    .bind(QUEUED_BYTES)
    .fetch_all(&mut *tx)
    .await?;
    found
        .iter()
        .map(|row| {
            Ok(QueuedJob {
                job: JobRef {
                    batch: query.batch,
                    index: JobIndex(row.count("idx")?),
                },
                line: row.text("line")?.to_owned(),
                key: rows::job_key(row)?,
                model: query.model,
                alone: rows::alone(row)?,
            })
        })
        .collect()
}

pub async fn waiting(tx: &mut PgConnection, batch: BatchNo) -> Result<Vec<JobSummary>, Failure> {
    let found = sqlx::query(
        "SELECT m.model_no, (SELECT COUNT(*) FROM (SELECT 1 FROM jobs j \
           WHERE j.batch_no = m.batch_no AND j.model_no BETWEEN m.model_no AND m.model_no \
           AND j.state = 0 AND j.same_as IS NULL \
           ORDER BY j.batch_no, j.model_no, j.idx LIMIT $2) q) AS queued, (SELECT COUNT(*) FROM (SELECT 1 FROM jobs j \
           WHERE j.batch_no = m.batch_no AND j.state = 1 AND j.model_no = m.model_no \
           LIMIT $2) q) AS placed \
         FROM batch_models m WHERE m.batch_no = $1 ORDER BY m.model_no",
    )
    .bind(batch.0)
    .bind(MAX_COUNTED as i64)
    .fetch_all(&mut *tx)
    .await?;
    let mut summaries = Vec::new();
    for row in &found {
        let summary = JobSummary {
            model: rows::model_no(row.int("model_no")?)?,
            queued: row.count("queued")?,
            placed: row.count("placed")?,
        };
        if summary.queued + summary.placed > 0 {
            summaries.push(summary);
        }
    }
    Ok(summaries)
}

pub async fn place(tx: &mut PgConnection, places: &[Place]) -> Result<Vec<PlaceOutcome>, Failure> {
    let refs: Vec<JobRef> = places.iter().map(|place| place.job).collect();
    let jobs = lock_jobs(tx, &refs).await?;
    // Read after the jobs are locked: a cancel that this does not see waits for these jobs.
    let batches = read_batches(tx, &refs).await?;
    let pins = pins(tx, &batches).await?;
    let placing = decide::place(places, jobs, &batches, pins);
    write_places(tx, &placing).await?;
    Ok(placing.outcomes)
}

async fn write_places(tx: &mut PgConnection, placing: &Placing<'_>) -> Result<(), Failure> {
    if placing.placed.is_empty() {
        return Ok(());
    }
    let refs = placing.placed.iter().map(|(place, _)| place.job);
    let (batches, indices) = columns(refs);
    let attempts: Vec<i64> = placing.placed.iter().map(|(_, attempt)| *attempt).collect();
    let nodes: Vec<&str> = placing
        .placed
        .iter()
        .map(|(place, _)| place.node.as_str())
        .collect();
    sqlx::query(
        "UPDATE jobs SET state = $5, attempt = v.attempt, node = v.holder \
         FROM UNNEST($1::BIGINT[], $2::BIGINT[], $3::BIGINT[], $4::TEXT[]) \
           AS v(b, i, attempt, holder) \
         WHERE jobs.batch_no = v.b AND jobs.idx = v.i",
    )
    .bind(batches)
    .bind(indices)
    .bind(attempts)
    .bind(nodes)
    .bind(JobState::Placed.number() as i16)
    .execute(&mut *tx)
    .await?;
    for (slot, numerics) in &placing.pins {
        write_pin(tx, *slot, numerics).await?;
    }
    Ok(())
}

/// Pins a batch's model to numerics.
pub async fn write_pin(
    tx: &mut PgConnection,
    (batch, model): Slot,
    numerics: &str,
) -> Result<(), Failure> {
    sqlx::query("UPDATE batch_models SET numerics = $3 WHERE batch_no = $1 AND model_no = $2")
        .bind(batch.0)
        .bind(model)
        .bind(numerics)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// Jobs' batches and indices, as SQL takes them.
pub fn columns(jobs: impl Iterator<Item = JobRef>) -> (Vec<i64>, Vec<i64>) {
    jobs.map(|job| (job.batch.0, job.index.0 as i64)).unzip()
}

/// Locks jobs in the order of batch and index, and reads their present state.
pub async fn lock_jobs(tx: &mut PgConnection, jobs: &[JobRef]) -> Result<JobsNow, Failure> {
    let sql = format!(
        "SELECT {JOB_NOW} FROM UNNEST($1::BIGINT[], $2::BIGINT[]) AS v(b, i) \
         JOIN jobs j ON j.batch_no = v.b AND j.idx = v.i \
         ORDER BY j.batch_no, j.idx FOR UPDATE OF j"
    );
    let (batches, indices) = columns(jobs.iter().copied());
    let found = sqlx::query(AssertSqlSafe(sql))
        .bind(batches)
        .bind(indices)
        .fetch_all(&mut *tx)
        .await?;
    found
        .iter()
        .map(|row| Ok((rows::job_ref(row)?, rows::job_now(row)?)))
        .collect()
}

pub async fn read_batches(tx: &mut PgConnection, jobs: &[JobRef]) -> Result<BatchesNow, Failure> {
    let found = sqlx::query(
        "SELECT batch_no, status, paused_reason, any_numerics FROM batches \
         WHERE batch_no = ANY($1) AND visible = 1",
    )
    .bind(batch_numbers(jobs))
    .fetch_all(&mut *tx)
    .await?;
    found
        .iter()
        .map(|row| Ok((BatchNo(row.int("batch_no")?), rows::batch_now(row)?)))
        .collect()
}

/// Locks batches in the order of their numbers, and reads their present state.
pub async fn lock_batches(tx: &mut PgConnection, jobs: &[JobRef]) -> Result<BatchesNow, Failure> {
    let found = sqlx::query(
        "SELECT batch_no, status, paused_reason, any_numerics FROM batches \
         WHERE batch_no = ANY($1) AND visible = 1 ORDER BY batch_no FOR UPDATE",
    )
    .bind(batch_numbers(jobs))
    .fetch_all(&mut *tx)
    .await?;
    found
        .iter()
        .map(|row| Ok((BatchNo(row.int("batch_no")?), rows::batch_now(row)?)))
        .collect()
}

fn batch_numbers(jobs: &[JobRef]) -> Vec<i64> {
    let numbers: BTreeSet<i64> = jobs.iter().map(|job| job.batch.0).collect();
    numbers.into_iter().collect()
}

/// The numerics that the batches' models are pinned to. Models that are not pinned yet are locked:
/// the first placement pins them, and others wait for it.
pub async fn pins(
    tx: &mut PgConnection,
    batches: &BatchesNow,
) -> Result<HashMap<Slot, String>, Failure> {
    let numbers: Vec<i64> = batches.keys().map(|batch| batch.0).collect();
    let mut found = sqlx::query(
        "SELECT batch_no, model_no, numerics FROM batch_models WHERE batch_no = ANY($1)",
    )
    .bind(&numbers)
    .fetch_all(&mut *tx)
    .await?;
    let mut free = false;
    for row in &found {
        free |= row.text_or_null("numerics")?.is_none();
    }
    if free {
        found = sqlx::query(
            "SELECT batch_no, model_no, numerics FROM batch_models WHERE batch_no = ANY($1) \
             ORDER BY batch_no, model_no FOR UPDATE",
        )
        .bind(&numbers)
        .fetch_all(&mut *tx)
        .await?;
    }
    let mut pins = HashMap::new();
    for row in &found {
        if let Some(numerics) = row.text_or_null("numerics")? {
            let slot = (BatchNo(row.int("batch_no")?), row.int("model_no")?);
            pins.insert(slot, numerics.to_owned());
        }
    }
    Ok(pins)
}
