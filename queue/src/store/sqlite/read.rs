//! Reading results: in input order, in the order they came, by name. Short reads only, so that the
//! WAL can be folded in between.

use super::super::jobs::{Finished, ResultsPage, StoredJob};
use super::place::refs_json;
use super::rows::{self, Fields, JOB_COLUMNS, JOB_TABLES};
use super::{ROWS_AHEAD, SqliteStore, StoreError};
use crate::ids::{BatchNo, JobIndex, JobRef};
use sqlx::AssertSqlSafe;
use std::collections::HashMap;

/// Lines and records that one page may hold, but for its last job.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// Rows of a first read, while their length is unknown.
const FIRST_ROWS: usize = 32;

/// Which results are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// All.
    Finished,
    /// Errors.
    Failed,
}

/// How many rows to read at once, so that an answer is bounded in rows and bytes and its reading
/// in memory: the connection's thread reads ahead without regard to lengths.
pub(super) struct Reads {
    rows_left: usize,
    most_bytes: usize,
    rows: usize,
    bytes: usize,
}

impl Reads {
    pub(super) fn new(most_rows: usize, most_bytes: usize) -> Reads {
        Reads {
            rows_left: most_rows,
            most_bytes,
            rows: 0,
            bytes: 0,
        }
    }

    /// Rows of the next read; `None`: the answer is full.
    pub(super) fn next_rows(&self) -> Option<usize> {
        if self.rows_left == 0 || self.bytes > self.most_bytes {
            return None;
        }
        let rows = match self.rows {
            0 => FIRST_ROWS,
            rows => self.most_bytes / (self.bytes / rows + 1) + 1,
        };
        Some(rows.min(ROWS_AHEAD).min(self.rows_left))
    }

    /// Notes a row. False: the answer is full.
    pub(super) fn took(&mut self, bytes: usize) -> bool {
        self.rows_left -= 1;
        self.rows += 1;
        self.bytes += bytes;
        self.bytes <= self.most_bytes
    }
}

impl SqliteStore {
    pub(super) async fn page(
        &self,
        batch: BatchNo,
        from: JobIndex,
        limit: usize,
    ) -> Result<ResultsPage, StoreError> {
        let sql = format!(
            "SELECT {JOB_COLUMNS} FROM {JOB_TABLES} \
             WHERE j.batch_no = $1 AND j.idx >= $2 ORDER BY j.idx LIMIT $3"
        );
        let sql = sql.as_str();
        let (mut jobs, mut next) = (Vec::new(), from.0 as i64);
        let mut reads = Reads::new(limit, PAGE_BYTES);
        while let Some(rows) = reads.next_rows() {
            let found = sqlx::query(AssertSqlSafe(sql))
                .bind(batch.0)
                .bind(next)
                .bind(rows as i64)
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.error(error))?;
            for row in &found {
                let record = row.text_or_null("record")?;
                let job = rows::stored_job(row)?;
                next = job.index.0 as i64 + 1;
                let more = reads.took(job.line.len() + record.map_or(0, str::len));
                jobs.push(job);
                if !more {
                    break;
                }
            }
            if found.len() < rows {
                break;
            }
        }
        let full = reads.next_rows().is_none();
        let next = jobs
            .last()
            .filter(|_| full)
            .map(|last: &StoredJob| JobIndex(last.index.0 + 1));
        Ok(ResultsPage { jobs, next })
    }

    pub(super) async fn since(
        &self,
        batch: BatchNo,
        state: State,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Finished>, StoreError> {
        let state = match state {
            State::Finished => "j.state >= 2",
            State::Failed => "j.state > 2",
        };
        let sql = format!(
            "SELECT j.finish_no, j.idx, j.state, r.record, r.stats, r.finished_at_us \
             FROM jobs j JOIN results r ON r.batch_no = j.batch_no AND r.idx = j.idx \
             WHERE j.batch_no = $1 AND j.finish_no > $2 AND {state} \
             ORDER BY j.finish_no LIMIT $3"
        );
        let sql = sql.as_str();
        let mut finished: Vec<Finished> = Vec::new();
        let mut reads = Reads::new(limit, PAGE_BYTES);
        while let Some(rows) = reads.next_rows() {
            let after = finished.last().map_or(after, |last| last.finish_no);
            let found = sqlx::query(AssertSqlSafe(sql))
                .bind(batch.0)
                .bind(i64::try_from(after).unwrap_or(i64::MAX))
                .bind(rows as i64)
                .fetch_all(&self.readers)
                .await
                .map_err(|error| self.error(error))?;
            for row in &found {
                finished.push(Finished {
                    finish_no: row.count("finish_no")?,
                    index: JobIndex(row.count("idx")?),
                    state: rows::job_state(row)?,
                    result: rows::stored_result(row)?,
                });
                if !reads.took(row.text("record")?.len()) {
                    break;
                }
            }
            if found.len() < rows {
                break;
            }
        }
        Ok(finished)
    }

    pub(super) async fn before_last_failed(
        &self,
        batch: BatchNo,
        count: usize,
    ) -> Result<u64, StoreError> {
        let found: Option<i64> = sqlx::query_scalar(
            "SELECT finish_no FROM jobs WHERE batch_no = $1 AND state > 2 \
             ORDER BY finish_no DESC LIMIT 1 OFFSET $2",
        )
        .bind(batch.0)
        .bind(i64::try_from(count).unwrap_or(i64::MAX))
        .fetch_optional(&self.readers)
        .await
        .map_err(|error| self.error(error))?;
        Ok(found.and_then(|no| u64::try_from(no).ok()).unwrap_or(0))
    }

    pub(super) async fn get_jobs(
        &self,
        jobs: &[JobRef],
    ) -> Result<Vec<Option<StoredJob>>, StoreError> {
        let sql = format!(
            "SELECT {JOB_COLUMNS}, j.batch_no FROM json_each($1) v CROSS JOIN {JOB_TABLES} \
             WHERE j.batch_no = v.value ->> 0 AND j.idx = v.value ->> 1"
        );
        let found = sqlx::query(AssertSqlSafe(sql))
            .bind(refs_json(jobs))
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        let mut by_name = HashMap::new();
        for row in &found {
            let job = rows::stored_job(row)?;
            let batch = BatchNo(row.int("batch_no")?);
            by_name.insert(
                JobRef {
                    batch,
                    index: job.index,
                },
                job,
            );
        }
        Ok(jobs.iter().map(|job| by_name.get(job).cloned()).collect())
    }
}
