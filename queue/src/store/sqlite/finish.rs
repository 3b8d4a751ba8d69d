//! Storing results: fenced, numbered, counted, in one transaction.

use super::super::jobs::{Finish, FinishOutcome};
use super::load::insert_sql;
use super::rows::{self};
use super::{SqliteStore, StoreError, Tx, now_us};
use crate::ids::{BatchNo, JobRef};
use crate::record::{JobStats, Outcome, ResultRecord};
use crate::state::{BatchEvent, JobEvent, JobState, batch_after, job_after};
use serde_json::json;
use sqlx::AssertSqlSafe;
use std::collections::{BTreeMap, BTreeSet};

/// Results of one INSERT.
const RESULTS_A_STATEMENT: usize = 128;

/// A job that gets its result in the running transaction, which has already checked that it may.
pub(super) struct Ended {
    pub job: JobRef,
    pub attempt: i64,
    pub state: JobState,
    pub record: ResultRecord,
    pub stats: Option<JobStats>,
}

#[derive(Default)]
struct Tally {
    succeeded: i64,
    failed: i64,
    input_tokens: i64,
    output_tokens: i64,
}

impl SqliteStore {
    pub(super) async fn finish_jobs(
        &self,
        finishes: Vec<Finish>,
    ) -> Result<Vec<FinishOutcome>, StoreError> {
        let mut tx = self.begin().await?;
        let refs: Vec<JobRef> = finishes.iter().map(|finish| finish.job).collect();
        let mut now = self.jobs_now(&mut tx, &refs).await?;
        let mut ended = Vec::new();
        let mut accepted = Vec::with_capacity(finishes.len());
        for finish in finishes {
            let after = now
                .get_mut(&finish.job)
                .filter(|job| job.attempt as u64 == finish.attempt.0)
                .and_then(|job| {
                    let after = job_after(job.state, event_of(&finish.record))?;
                    job.state = after;
                    Some((after, job.attempt))
                });
            accepted.push(after.is_some());
            if let Some((state, attempt)) = after {
                ended.push(Ended {
                    job: finish.job,
                    attempt,
                    state,
                    record: finish.record,
                    stats: Some(finish.stats),
                });
            }
        }
        let touched: BTreeSet<BatchNo> = ended.iter().map(|end| end.job.batch).collect();
        let batches: Vec<BatchNo> = ended.iter().map(|end| end.job.batch).collect();
        let numbers = self.end_jobs(&mut tx, ended).await?;
        let mut done = BTreeSet::new();
        for batch in touched {
            if self.close_if_done(&mut tx, batch).await? {
                done.insert(batch);
            }
        }
        self.commit(tx).await?;
        let mut stored = numbers.into_iter().zip(batches);
        Ok(accepted
            .into_iter()
            .map(|accepted| match accepted.then(|| stored.next()).flatten() {
                Some((finish_no, batch)) => FinishOutcome::Stored {
                    finish_no,
                    batch_done: done.contains(&batch),
                },
                None => FinishOutcome::Fenced,
            })
            .collect())
    }

    /// Writes states, results, finish numbers and counters. Returns the numbers, in order.
    pub(super) async fn end_jobs(
        &self,
        tx: &mut Tx,
        ended: Vec<Ended>,
    ) -> Result<Vec<u64>, StoreError> {
        let mut tallies: BTreeMap<BatchNo, Tally> = BTreeMap::new();
        for end in &ended {
            let tally = tallies.entry(end.job.batch).or_default();
            match &end.record.outcome {
                Outcome::Completed(completed) => {
                    tally.succeeded += 1;
                    tally.input_tokens += i64::from(completed.usage.prompt_tokens);
                    tally.output_tokens += i64::from(completed.usage.completion_tokens);
                }
                Outcome::Failed(_) => tally.failed += 1,
            }
        }
        let mut next = BTreeMap::new();
        for (batch, tally) in tallies {
            next.insert(batch, self.add_tally(tx, batch, &tally).await?);
        }
        let mut numbers = Vec::with_capacity(ended.len());
        let mut changes = Vec::with_capacity(ended.len());
        for end in &ended {
            let number = next
                .get_mut(&end.job.batch)
                .expect("every batch has a tally");
            numbers.push(*number as u64);
            let (batch, index) = (end.job.batch.0, end.job.index.0);
            changes.push(json!([batch, index, end.state.number(), *number]));
            *number += 1;
        }
        sqlx::query(
            "UPDATE jobs SET state = v.after, finish_no = v.number, node = NULL FROM \
               (SELECT value ->> 0 AS b, value ->> 1 AS i, value ->> 2 AS after, \
                value ->> 3 AS number FROM json_each($1)) AS v \
             WHERE jobs.batch_no = v.b AND jobs.idx = v.i",
        )
        .bind(serde_json::Value::Array(changes).to_string())
        .execute(&mut **tx)
        .await
        .map_err(|error| self.error(error))?;
        let mut ended = ended;
        while !ended.is_empty() {
            let rest = ended.split_off(ended.len().min(RESULTS_A_STATEMENT));
            self.insert_results(tx, ended).await?;
            ended = rest;
        }
        Ok(numbers)
    }

    /// Raises the counters; returns the first finish number of these results.
    async fn add_tally(
        &self,
        tx: &mut Tx,
        batch: BatchNo,
        tally: &Tally,
    ) -> Result<i64, StoreError> {
        let finished = tally.succeeded + tally.failed;
        let last: i64 = sqlx::query_scalar(
            "UPDATE batches SET succeeded = succeeded + $2, failed = failed + $3, \
             input_tokens = input_tokens + $4, output_tokens = output_tokens + $5, \
             last_finish_no = last_finish_no + $6 WHERE batch_no = $1 RETURNING last_finish_no",
        )
        .bind(batch.0)
        .bind(tally.succeeded)
        .bind(tally.failed)
        .bind(tally.input_tokens)
        .bind(tally.output_tokens)
        .bind(finished)
        .fetch_one(&mut **tx)
        .await
        .map_err(|error| self.error(error))?;
        Ok(last - finished + 1)
    }

    async fn insert_results(&self, tx: &mut Tx, ended: Vec<Ended>) -> Result<(), StoreError> {
        let prefix = "INSERT INTO results \
             (batch_no, idx, attempt, record, error_code, stats, finished_at_us)";
        let mut sql = insert_sql(prefix, 7, ended.len());
        // A retried job's answer takes the place of its error.
        sql.push_str(
            " ON CONFLICT (batch_no, idx) DO UPDATE SET attempt = excluded.attempt, \
             record = excluded.record, error_code = excluded.error_code, \
             stats = excluded.stats, finished_at_us = excluded.finished_at_us",
        );
        let keep = ended.len() == RESULTS_A_STATEMENT || ended.len() == 1;
        let now = now_us();
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(keep);
        for end in ended {
            let code = match &end.record.outcome {
                Outcome::Failed(error) => Some(error.code.clone()),
                Outcome::Completed(_) => None,
            };
            let stats = end
                .stats
                .map(|stats| serde_json::to_string(&stats).expect("statistics are plain numbers"));
            query = query
                .bind(end.job.batch.0)
                .bind(end.job.index.0 as i64)
                .bind(end.attempt)
                .bind(end.record.to_json())
                .bind(code)
                .bind(stats)
                .bind(now);
        }
        query
            .execute(&mut **tx)
            .await
            .map(drop)
            .map_err(|error| self.error(error))
    }

    /// Moves a batch on once its last job has a result. True: it is terminal now.
    pub(super) async fn close_if_done(
        &self,
        tx: &mut Tx,
        batch: BatchNo,
    ) -> Result<bool, StoreError> {
        let row =
            sqlx::query("SELECT status, total, succeeded, failed FROM batches WHERE batch_no = $1")
                .bind(batch.0)
                .fetch_one(&mut **tx)
                .await
                .map_err(|error| self.error(error))?;
        let finished = rows::count(&row, "succeeded")? + rows::count(&row, "failed")?;
        if finished < rows::count(&row, "total")? {
            return Ok(false);
        }
        let Some(mut after) = batch_after(rows::status(&row)?, BatchEvent::LastJobFinished) else {
            return Ok(false);
        };
        // Results are rendered at export, so there is nothing to make before it is complete.
        after = batch_after(after, BatchEvent::Finalized).unwrap_or(after);
        self.set_status(tx, batch, after).await?;
        Ok(true)
    }
}

fn event_of(record: &ResultRecord) -> JobEvent {
    match &record.outcome {
        Outcome::Completed(_) => JobEvent::Succeed,
        Outcome::Failed(error) if error.code == "cancelled" => JobEvent::Cancel,
        Outcome::Failed(_) => JobEvent::Fail,
    }
}
