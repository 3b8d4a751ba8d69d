//! Storing results: fenced, numbered, counted, in one transaction.

use super::super::decide::{self, BatchesNow, Ended, Tally};
use super::super::jobs::{Adoption, Finish, FinishOutcome};
use super::super::shared_answers;
use super::batches::set_status;
use super::place::{columns, lock_batches, lock_jobs, pins, read_batches, write_pin};
use super::rows::{self, Fields, JOB_NOW};
use super::{Failure, StoreError};
use crate::ids::{BatchNo, JobRef};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgRow};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

pub async fn finish(
    tx: &mut PgConnection,
    finishes: &[Finish],
) -> Result<Vec<FinishOutcome>, Failure> {
    let refs: Vec<JobRef> = finishes.iter().map(|finish| finish.job).collect();
    let jobs = lock_jobs(tx, &refs).await?;
    let stopped: Vec<JobRef> = (finishes.iter())
        .filter(|finish| decide::is_stopped(finish))
        .map(|finish| finish.job)
        .collect();
    let batches = match stopped.is_empty() {
        true => BatchesNow::default(),
        false => lock_batches(tx, &stopped).await?,
    };
    let finishing = decide::finish(finishes, jobs, &batches);
    let (numbers, done) = end_jobs(tx, &finishing.ended).await?;
    Ok(finishing.outcomes(&numbers, &done))
}

pub async fn adopt(tx: &mut PgConnection, adoption: &Adoption) -> Result<u64, Failure> {
    let refs: Vec<JobRef> = adoption.refs().collect();
    let jobs = lock_jobs(tx, &refs).await?;
    // Read after the jobs are locked: a cancel that this does not see waits for these jobs.
    let batches = read_batches(tx, &refs).await?;
    let pins = pins(tx, &batches).await?;
    let adopting = shared_answers::adopt(adoption, jobs, &batches, &pins);
    if let Some((slot, numerics)) = &adopting.pin {
        write_pin(tx, *slot, numerics).await?;
    }
    let (numbers, _) = end_jobs(tx, &adopting.ended).await?;
    Ok(numbers.len() as u64)
}

/// Writes states, results, finish numbers and counters of locked jobs, and moves batches on whose
/// last job this was. Returns the numbers, in order, and the batches that are done now.
pub async fn end_jobs(
    tx: &mut PgConnection,
    ended: &[Ended],
) -> Result<(Vec<i64>, BTreeSet<BatchNo>), Failure> {
    let ended = with_followers(tx, ended).await?;
    let ended = &*ended;
    let mut first = BTreeMap::new();
    let mut done = BTreeSet::new();
    // In the order of the batches' numbers, whose rows are locked by this until the commit.
    for (batch, tally) in decide::tallies(ended) {
        let row = add_tally(tx, batch, &tally).await?;
        first.insert(batch, row.int("last_finish_no")? - tally.finished() + 1);
        if close(tx, batch, &row).await? {
            done.insert(batch);
        }
    }
    let numbers = decide::number(ended, first);
    if !ended.is_empty() {
        write_states(tx, ended, &numbers).await?;
        write_results(tx, ended, &numbers).await?;
    }
    Ok((numbers, done))
}

/// The same jobs, and behind them those that wait for their answers, locked. Jobs that wait for an answer which will not
/// come are let go.
async fn with_followers<'e>(
    tx: &mut PgConnection,
    ended: &'e [Ended],
) -> Result<Cow<'e, [Ended]>, Failure> {
    let leaders = shared_answers::leaders(ended);
    if !leaders.lost.is_empty() {
        let (batches, indices) = columns(leaders.lost.iter().copied());
        sqlx::query(
            "UPDATE jobs SET same_as = NULL FROM UNNEST($1::BIGINT[], $2::BIGINT[]) AS v(b, i) \
             WHERE jobs.batch_no = v.b AND jobs.same_as = v.i AND jobs.state = 0",
        )
        .bind(batches)
        .bind(indices)
        .execute(&mut *tx)
        .await?;
    }
    if leaders.answered.is_empty() {
        return Ok(Cow::Borrowed(ended));
    }
    let sql = format!(
        "SELECT {JOB_NOW} FROM UNNEST($1::BIGINT[], $2::BIGINT[]) AS v(b, i) \
         JOIN jobs j ON j.batch_no = v.b AND j.same_as = v.i AND j.state = 0 \
         ORDER BY j.batch_no, j.idx FOR UPDATE OF j"
    );
    let (batches, indices) = columns(leaders.answered.iter().copied());
    let found = sqlx::query(AssertSqlSafe(sql))
        .bind(batches)
        .bind(indices)
        .fetch_all(&mut *tx)
        .await?;
    let followers = found.iter().map(rows::follower);
    let followers = followers.collect::<Result<_, StoreError>>()?;
    Ok(Cow::Owned(shared_answers::follow(ended, followers)))
}

/// Raises the counters; returns them.
async fn add_tally(tx: &mut PgConnection, batch: BatchNo, tally: &Tally) -> Result<PgRow, Failure> {
    let row = sqlx::query(
        "UPDATE batches SET succeeded = succeeded + $2, failed = failed + $3, \
         input_tokens = input_tokens + $4, output_tokens = output_tokens + $5, \
         last_finish_no = last_finish_no + $6 WHERE batch_no = $1 \
         RETURNING last_finish_no, status, total, succeeded, failed",
    )
    .bind(batch.0)
    .bind(tally.succeeded)
    .bind(tally.failed)
    .bind(tally.input_tokens)
    .bind(tally.output_tokens)
    .bind(tally.finished())
    .fetch_one(&mut *tx)
    .await?;
    Ok(row)
}

async fn write_states(
    tx: &mut PgConnection,
    ended: &[Ended],
    numbers: &[i64],
) -> Result<(), Failure> {
    let (batches, indices) = columns(ended.iter().map(|end| end.job));
    let states: Vec<i16> = ended.iter().map(|end| end.state.number() as i16).collect();
    sqlx::query(
        "UPDATE jobs SET state = v.after, finish_no = v.number, node = NULL \
         FROM UNNEST($1::BIGINT[], $2::BIGINT[], $3::SMALLINT[], $4::BIGINT[]) \
           AS v(b, i, after, number) \
         WHERE jobs.batch_no = v.b AND jobs.idx = v.i",
    )
    .bind(batches)
    .bind(indices)
    .bind(states)
    .bind(numbers)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn write_results(
    tx: &mut PgConnection,
    ended: &[Ended],
    numbers: &[i64],
) -> Result<(), Failure> {
    // A retried job's answer takes the place of its error.
    let replaced = ended
        .iter()
        .filter_map(|end| Some((end.job.batch.0, end.replaces?)));
    let (batches, old): (Vec<i64>, Vec<i64>) = replaced.unzip();
    if !old.is_empty() {
        sqlx::query(
            "DELETE FROM results USING UNNEST($1::BIGINT[], $2::BIGINT[]) AS v(b, n) \
             WHERE results.batch_no = v.b AND results.finish_no = v.n",
        )
        .bind(batches)
        .bind(old)
        .execute(&mut *tx)
        .await?;
    }
    let (batches, indices) = columns(ended.iter().map(|end| end.job));
    let attempts: Vec<i64> = ended.iter().map(|end| end.attempt).collect();
    let records: Vec<&str> = ended.iter().map(|end| end.record.as_str()).collect();
    let codes: Vec<Option<&str>> = ended.iter().map(|end| end.error_code.as_deref()).collect();
    let stats: Vec<Option<&str>> = ended.iter().map(|end| end.stats.as_deref()).collect();
    sqlx::query(
        "INSERT INTO results \
           (batch_no, idx, finish_no, attempt, record, error_code, stats, finished_at_us) \
         SELECT v.*, clock.now FROM UNNEST($1::BIGINT[], $2::BIGINT[], $3::BIGINT[], \
           $4::BIGINT[], $5::TEXT[], $6::TEXT[], $7::TEXT[]) AS v, \
           (SELECT rbee_now_us() AS now OFFSET 0) clock",
    )
    .bind(batches)
    .bind(indices)
    .bind(numbers)
    .bind(attempts)
    .bind(records)
    .bind(codes)
    .bind(stats)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Moves a batch on once its last job has a result. True: it is terminal now.
pub async fn close_if_done(tx: &mut PgConnection, batch: BatchNo) -> Result<bool, Failure> {
    let row = sqlx::query(
        "SELECT status, total, succeeded, failed FROM batches WHERE batch_no = $1 FOR UPDATE",
    )
    .bind(batch.0)
    .fetch_one(&mut *tx)
    .await?;
    close(tx, batch, &row).await
}

async fn close(tx: &mut PgConnection, batch: BatchNo, row: &PgRow) -> Result<bool, Failure> {
    let finished = row.count("succeeded")? + row.count("failed")?;
    let Some(after) = decide::close(rows::status(row)?, row.count("total")?, finished) else {
        return Ok(false);
    };
    set_status(tx, batch, after).await?;
    Ok(true)
}
