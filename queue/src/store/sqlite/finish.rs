//! Storing results: fenced, numbered, counted, in one transaction.

use super::super::decide::{self, Ended, Tally};
use super::super::jobs::{Adoption, Finish, FinishOutcome};
use super::super::shared_answers;
use super::load::insert_sql;
use super::place::refs_json;
use super::rows::{self, Fields};
use super::{SqliteStore, StoreError, Tx, now_us};
use crate::ids::{BatchNo, JobRef};
use serde_json::json;
use sqlx::AssertSqlSafe;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Results of one INSERT.
const RESULTS_A_STATEMENT: usize = 128;

impl SqliteStore {
    pub(super) async fn finish_jobs(
        &self,
        finishes: Vec<Finish>,
    ) -> Result<Vec<FinishOutcome>, StoreError> {
        let mut tx = self.begin().await?;
        let refs: Vec<JobRef> = finishes.iter().map(|finish| finish.job).collect();
        let jobs = self.jobs_now(&mut tx, &refs).await?;
        let stopped: Vec<JobRef> = (finishes.iter())
            .filter(|finish| decide::is_stopped(finish))
            .map(|finish| finish.job)
            .collect();
        let batches = self.batches_now(&mut tx, &stopped).await?;
        let finishing = decide::finish(&finishes, jobs, &batches);
        let (numbers, done) = self.end_jobs(&mut tx, &finishing.ended).await?;
        self.commit(tx).await?;
        Ok(finishing.outcomes(&numbers, &done))
    }

    pub(super) async fn adopt(&self, adoption: Adoption) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let refs: Vec<JobRef> = adoption.refs().collect();
        let jobs = self.jobs_now(&mut tx, &refs).await?;
        let batches = self.batches_now(&mut tx, &refs).await?;
        let pins = self.pins(&mut tx, &batches).await?;
        let adopting = shared_answers::adopt(&adoption, jobs, &batches, &pins);
        if let Some((slot, numerics)) = &adopting.pin {
            self.write_pin(&mut tx, *slot, numerics).await?;
        }
        let (numbers, _) = self.end_jobs(&mut tx, &adopting.ended).await?;
        self.commit(tx).await?;
        Ok(numbers.len() as u64)
    }

    /// Writes states, results, finish numbers and counters, and moves batches on whose last job
    /// this was. Returns the numbers, in order, and the batches that are done now.
    pub(super) async fn end_jobs(
        &self,
        tx: &mut Tx,
        ended: &[Ended],
    ) -> Result<(Vec<i64>, BTreeSet<BatchNo>), StoreError> {
        let ended = self.with_followers(tx, ended).await?;
        let ended = &*ended;
        let mut first = BTreeMap::new();
        for (batch, tally) in decide::tallies(ended) {
            first.insert(batch, self.add_tally(tx, batch, &tally).await?);
        }
        let touched: Vec<BatchNo> = first.keys().copied().collect();
        let numbers = decide::number(ended, first);
        let changes = ended
            .iter()
            .zip(&numbers)
            .map(|(end, number)| {
                let JobRef { batch, index } = end.job;
                json!([batch.0, index.0, end.state.number(), number])
            })
            .collect();
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
        for some in ended.chunks(RESULTS_A_STATEMENT) {
            self.insert_results(tx, some).await?;
        }
        let mut done = BTreeSet::new();
        for batch in touched {
            if self.close_if_done(tx, batch).await? {
                done.insert(batch);
            }
        }
        Ok((numbers, done))
    }

    /// The same jobs, and behind them those that wait for their answers. Jobs that wait for an answer which will not
    /// come are let go.
    async fn with_followers<'e>(
        &self,
        tx: &mut Tx,
        ended: &'e [Ended],
    ) -> Result<Cow<'e, [Ended]>, StoreError> {
        let leaders = shared_answers::leaders(ended);
        if !leaders.lost.is_empty() {
            sqlx::query(
                "UPDATE jobs INDEXED BY jobs_same SET same_as = NULL FROM \
                   (SELECT value ->> 0 AS b, value ->> 1 AS i FROM json_each($1)) AS v \
                 WHERE jobs.batch_no = v.b AND jobs.same_as = v.i AND jobs.state = 0",
            )
            .bind(refs_json(&leaders.lost))
            .execute(&mut **tx)
            .await
            .map_err(|error| self.error(error))?;
        }
        if leaders.answered.is_empty() {
            return Ok(Cow::Borrowed(ended));
        }
        let found = sqlx::query(
            "SELECT j.batch_no, j.idx, j.state, j.attempt, j.model_no, j.crashes, j.finish_no, \
             0 AS leads, j.same_as FROM json_each($1) v CROSS JOIN jobs j INDEXED BY jobs_same \
             WHERE j.batch_no = v.value ->> 0 AND j.same_as = v.value ->> 1 AND j.state = 0 \
             ORDER BY j.batch_no, j.idx",
        )
        .bind(refs_json(&leaders.answered))
        .fetch_all(&mut **tx)
        .await
        .map_err(|error| self.error(error))?;
        let followers = found.iter().map(rows::follower);
        let followers = followers.collect::<Result<_, StoreError>>()?;
        Ok(Cow::Owned(shared_answers::follow(ended, followers)))
    }

    /// Raises the counters; returns the first finish number of these results.
    async fn add_tally(
        &self,
        tx: &mut Tx,
        batch: BatchNo,
        tally: &Tally,
    ) -> Result<i64, StoreError> {
        let finished = tally.finished();
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

    async fn insert_results(&self, tx: &mut Tx, ended: &[Ended]) -> Result<(), StoreError> {
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
            query = query
                .bind(end.job.batch.0)
                .bind(end.job.index.0 as i64)
                .bind(end.attempt)
                .bind(end.record.as_str())
                .bind(end.error_code.as_deref())
                .bind(end.stats.as_deref())
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
        let finished = row.count("succeeded")? + row.count("failed")?;
        let Some(after) = decide::close(rows::status(&row)?, row.count("total")?, finished) else {
            return Ok(false);
        };
        self.set_status(tx, batch, after).await?;
        Ok(true)
    }
}
