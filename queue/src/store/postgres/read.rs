//! Reading results: in input order, in the order they came, by name.
//!
//! A page is bounded in bytes by the server: lengths are summed without reading the texts, so that
//! no more is sent than is taken.

use super::super::jobs::{Finished, ResultsPage, StoredJob};
use super::place::columns;
use super::rows::{self, Fields, JOB_COLUMNS, JOB_JOINS};
use super::{Failure, StoreError, limit};
use crate::ids::{BatchNo, JobIndex, JobRef};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use std::collections::HashMap;

/// Lines and records that one page may hold, but for its last job.
const PAGE_BYTES: i64 = 8 * 1024 * 1024;

pub async fn page(
    tx: &mut PgConnection,
    batch: BatchNo,
    from: JobIndex,
    most: usize,
) -> Result<ResultsPage, Failure> {
    let sql = format!(
        "SELECT * FROM (SELECT page.*, \
           SUM(octet_length(line) + COALESCE(octet_length(record), 0)) \
             OVER (ORDER BY idx ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before \
           FROM (SELECT {JOB_COLUMNS} FROM (SELECT * FROM jobs \
               WHERE batch_no = $1 AND idx >= $2 ORDER BY idx LIMIT $3) j {JOB_JOINS}) page) summed \
         WHERE before IS NULL OR before <= $4 ORDER BY idx"
    );
    let found = sqlx::query(AssertSqlSafe(sql))
        .bind(batch.0)
        .bind(from.0 as i64)
        .bind(limit(most))
        .bind(PAGE_BYTES)
        .fetch_all(&mut *tx)
        .await?;
    let jobs = found
        .iter()
        .map(rows::stored_job)
        .collect::<Result<Vec<StoredJob>, StoreError>>()?;
    let bytes = |row: &sqlx::postgres::PgRow| -> Result<usize, StoreError> {
        let record = row.bytes_or_null("record")?.map_or(0, <[u8]>::len);
        Ok(row.bytes("line")?.len() + record)
    };
    let mut total = 0;
    for row in &found {
        total += bytes(row)?;
    }
    let full = jobs.len() >= most || total as i64 > PAGE_BYTES;
    let next = jobs
        .last()
        .filter(|_| full)
        .map(|last| JobIndex(last.index.0 + 1));
    Ok(ResultsPage { jobs, next })
}

/// Which results are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    Failed,
}

pub async fn since(
    tx: &mut PgConnection,
    batch: BatchNo,
    which: Which,
    after: u64,
    most: usize,
) -> Result<Vec<Finished>, Failure> {
    let only = match which {
        Which::All => "",
        Which::Failed => "AND r.error_code IS NOT NULL",
    };
    let sql = format!(
        "SELECT * FROM (SELECT page.*, SUM(octet_length(record)) \
             OVER (ORDER BY finish_no ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before \
           FROM (SELECT r.finish_no, r.idx, j.state, r.record, r.stats, r.finished_at_us \
             FROM results r CROSS JOIN LATERAL (SELECT state FROM jobs \
               WHERE batch_no = r.batch_no AND idx = r.idx AND finish_no = r.finish_no \
               AND state >= 2 OFFSET 0) j \
             WHERE r.batch_no = $1 AND r.finish_no > $2 {only} ORDER BY r.finish_no LIMIT $3) page) summed \
         WHERE before IS NULL OR before <= $4 ORDER BY finish_no"
    );
    let found = sqlx::query(AssertSqlSafe(sql))
        .bind(batch.0)
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(limit(most))
        .bind(PAGE_BYTES)
        .fetch_all(&mut *tx)
        .await?;
    found
        .iter()
        .map(|row| {
            Ok(Finished {
                finish_no: row.count("finish_no")?,
                index: JobIndex(row.count("idx")?),
                state: rows::job_state(row)?,
                result: rows::stored_result(row)?,
            })
        })
        .collect()
}

pub async fn failed_before_last(
    tx: &mut PgConnection,
    batch: BatchNo,
    count: usize,
) -> Result<u64, Failure> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT finish_no FROM results WHERE batch_no = $1 AND error_code IS NOT NULL \
         ORDER BY finish_no DESC LIMIT 1 OFFSET $2",
    )
    .bind(batch.0)
    .bind(limit(count))
    .fetch_optional(&mut *tx)
    .await?;
    Ok(found.and_then(|no| u64::try_from(no).ok()).unwrap_or(0))
}

pub async fn jobs(
    tx: &mut PgConnection,
    jobs: &[JobRef],
) -> Result<Vec<Option<StoredJob>>, Failure> {
    let sql = format!(
        "SELECT {JOB_COLUMNS} FROM UNNEST($1::BIGINT[], $2::BIGINT[]) AS v(b, i) \
         JOIN jobs j ON j.batch_no = v.b AND j.idx = v.i {JOB_JOINS}"
    );
    let (batches, indices) = columns(jobs.iter().copied());
    let found = sqlx::query(AssertSqlSafe(sql))
        .bind(batches)
        .bind(indices)
        .fetch_all(&mut *tx)
        .await?;
    let mut by_name = HashMap::new();
    for row in &found {
        by_name.insert(rows::job_ref(row)?, rows::stored_job(row)?);
    }
    Ok(jobs.iter().map(|job| by_name.get(job).cloned()).collect())
}
