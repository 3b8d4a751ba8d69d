//! Reading results: in input order, in the order they came, by name. Short reads only, so that the
//! WAL can be folded in between.

use super::super::jobs::{Finished, ResultsPage, StoredJob};
use super::place::refs_json;
use super::rows::{self, Fields, JOB_COLUMNS, JOB_TABLES};
use super::{SqliteStore, StoreError};
use crate::ids::{BatchNo, JobIndex, JobRef};
use futures_util::TryStreamExt;
use sqlx::AssertSqlSafe;
use std::collections::HashMap;

/// Lines and records that one page may hold, but for its last job.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

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
        let mut found = sqlx::query(AssertSqlSafe(sql))
            .bind(batch.0)
            .bind(from.0 as i64)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch(&self.readers);
        let (mut jobs, mut bytes) = (Vec::new(), 0);
        while let Some(row) = found.try_next().await.map_err(|error| self.error(error))? {
            let record = row.text_or_null("record")?;
            let job = rows::stored_job(&row)?;
            bytes += job.line.len() + record.map_or(0, str::len);
            jobs.push(job);
            if bytes > PAGE_BYTES {
                break;
            }
        }
        let full = jobs.len() >= limit || bytes > PAGE_BYTES;
        let next = jobs
            .last()
            .filter(|_| full)
            .map(|last: &StoredJob| JobIndex(last.index.0 + 1));
        Ok(ResultsPage { jobs, next })
    }

    pub(super) async fn since(
        &self,
        batch: BatchNo,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Finished>, StoreError> {
        let mut found = sqlx::query(
            "SELECT j.finish_no, j.idx, j.state, r.record, r.stats, r.finished_at_us \
             FROM jobs j JOIN results r ON r.batch_no = j.batch_no AND r.idx = j.idx \
             WHERE j.batch_no = $1 AND j.finish_no > $2 AND j.state >= 2 \
             ORDER BY j.finish_no LIMIT $3",
        )
        .bind(batch.0)
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch(&self.readers);
        let (mut finished, mut bytes) = (Vec::new(), 0);
        while let Some(row) = found.try_next().await.map_err(|error| self.error(error))? {
            let record = row.text("record")?;
            bytes += record.len();
            finished.push(Finished {
                finish_no: row.count("finish_no")?,
                index: JobIndex(row.count("idx")?),
                state: rows::job_state(&row)?,
                result: rows::stored_result(&row)?,
            });
            if bytes > PAGE_BYTES {
                break;
            }
        }
        Ok(finished)
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
