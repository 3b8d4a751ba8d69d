//! Ending attempts without a result, and queueing failed jobs again.

use super::super::decide::{self, Released};
use super::super::jobs::{PlacedJob, PlacedQuery, Release, ReleaseCause};
use super::batches::{lock_status, set_status};
use super::finish::end_jobs;
use super::place::{columns, lock_batches, lock_jobs};
use super::rows;
use super::{Failure, MAX_JOBS_A_CALL, PLAIN, PostgresStore, StoreError, WHOLE};
use crate::ids::{BatchNo, JobRef, NodeInstance};
use crate::record::CIRCUMSTANCE_CODES;
use crate::state::JobState;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

pub async fn release(tx: &mut PgConnection, releases: &[Release]) -> Result<Vec<bool>, Failure> {
    let refs: Vec<JobRef> = releases.iter().map(|release| release.job).collect();
    let jobs = lock_jobs(tx, &refs).await?;
    // Locked: a cancel either is seen here, or comes later and finds these jobs queued.
    let batches = lock_batches(tx, &refs).await?;
    let releasing = decide::release(releases, jobs, &batches);
    write_releases(tx, &releasing.released).await?;
    end_jobs(tx, &releasing.ended).await?;
    Ok(releasing.held)
}

async fn write_releases(tx: &mut PgConnection, released: &[Released]) -> Result<(), Failure> {
    if released.is_empty() {
        return Ok(());
    }
    let (batches, indices) = columns(released.iter().map(|now| now.job));
    let states: Vec<i64> = released.iter().map(|now| now.state.number()).collect();
    let blamed: Vec<i64> = released.iter().map(|now| now.blamed).collect();
    let crashes: Vec<i64> = released.iter().map(|now| now.crashes).collect();
    let losses: Vec<i64> = released.iter().map(|now| now.losses).collect();
    sqlx::query(
        "UPDATE jobs SET state = v.after, node = NULL, \
         blamed = CASE WHEN v.blame > 0 THEN 1 ELSE jobs.blamed END, \
         crashes = jobs.crashes + v.crash, losses = jobs.losses + v.loss \
         FROM UNNEST($1::BIGINT[], $2::BIGINT[], $3::BIGINT[], $4::BIGINT[], $5::BIGINT[], \
           $6::BIGINT[]) AS v(b, i, after, blame, crash, loss) \
         WHERE jobs.batch_no = v.b AND jobs.idx = v.i",
    )
    .bind(batches)
    .bind(indices)
    .bind(states)
    .bind(blamed)
    .bind(crashes)
    .bind(losses)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Placed jobs, at most [`MAX_JOBS_A_CALL`], from the `skip`th on.
pub async fn placed(
    tx: &mut PgConnection,
    query: &PlacedQuery,
    skip: u64,
) -> Result<Vec<PlacedJob>, Failure> {
    let whose = match query {
        PlacedQuery::Node(_) => "node = $1",
        PlacedQuery::Batch(_) => "batch_no = $1",
    };
    let asked = sqlx::query(AssertSqlSafe(format!(
        "SELECT batch_no, idx, attempt, node FROM jobs WHERE state = 1 AND {whose} \
         ORDER BY batch_no, idx LIMIT $2 OFFSET $3"
    )));
    let asked = match query {
        PlacedQuery::Node(node) => asked.bind(node.as_str()),
        PlacedQuery::Batch(batch) => asked.bind(batch.0),
    };
    let found = asked
        .bind(MAX_JOBS_A_CALL as i64)
        .bind(skip as i64)
        .fetch_all(&mut *tx)
        .await?;
    let placed = found.iter().map(rows::placed_job);
    Ok(placed.collect::<Result<_, StoreError>>()?)
}

impl PostgresStore {
    pub(super) async fn release_of_node(
        &self,
        node: &NodeInstance,
        cause: ReleaseCause,
    ) -> Result<u64, StoreError> {
        let query = PlacedQuery::Node(node.clone());
        let placed = self
            .call(PLAIN, &query, |tx, query| Box::pin(placed(tx, query, 0)))
            .await?;
        self.release_placed(&placed, cause).await
    }

    pub(super) async fn release_all(
        &self,
        batch: BatchNo,
        keep: &[NodeInstance],
    ) -> Result<u64, StoreError> {
        let (mut released, mut kept) = (0, 0);
        loop {
            let query = (PlacedQuery::Batch(batch), kept);
            let found = self
                .call(PLAIN, &query, |tx, (query, kept)| {
                    Box::pin(placed(tx, query, *kept))
                })
                .await?;
            let (stay, go): (Vec<_>, Vec<_>) = found
                .into_iter()
                .partition(|placed| keep.contains(&placed.node));
            kept += stay.len() as u64;
            if stay.is_empty() && go.is_empty() {
                return Ok(released);
            }
            released += self.release_placed(&go, ReleaseCause::Returned).await?;
        }
    }

    async fn release_placed(
        &self,
        placed: &[PlacedJob],
        cause: ReleaseCause,
    ) -> Result<u64, StoreError> {
        let releases: Vec<Release> = placed
            .iter()
            .map(|placed| Release {
                job: placed.held.job,
                attempt: placed.held.attempt,
                cause,
            })
            .collect();
        let held = self
            .call(WHOLE, &releases, |tx, releases| {
                Box::pin(release(tx, releases))
            })
            .await?;
        Ok(held.into_iter().filter(|held| *held).count() as u64)
    }
}

/// Jobs that wait for one which has ended without them.
pub async fn let_go(tx: &mut PgConnection, batch: BatchNo) -> Result<u64, Failure> {
    let freed = sqlx::query(
        "UPDATE jobs SET same_as = NULL WHERE batch_no = $1 AND same_as >= 0 AND state = 0 \
         AND EXISTS (SELECT 1 FROM jobs l WHERE l.batch_no = jobs.batch_no AND l.idx = jobs.same_as \
           AND l.state NOT IN ($2, $3))",
    )
    .bind(batch.0)
    .bind(JobState::Queued.number() as i16)
    .bind(JobState::Placed.number() as i16)
    .execute(&mut *tx)
    .await?;
    Ok(freed.rows_affected())
}

pub async fn retry(
    tx: &mut PgConnection,
    batch: BatchNo,
    circumstance_only: bool,
) -> Result<u64, Failure> {
    let retried = sqlx::query(
        "WITH failed AS (SELECT idx FROM jobs WHERE batch_no = $1 AND state IN ($3, $4) \
           AND model_no IS NOT NULL \
           AND (NOT $5 OR EXISTS (SELECT 1 FROM results r WHERE r.batch_no = jobs.batch_no \
             AND r.finish_no = jobs.finish_no AND r.error_code = ANY($6))) \
           ORDER BY idx FOR UPDATE) \
         UPDATE jobs SET state = $2, blamed = 0, crashes = 0, losses = 0, same_as = NULL \
         FROM failed WHERE jobs.batch_no = $1 AND jobs.idx = failed.idx",
    )
    .bind(batch.0)
    .bind(JobState::Queued.number() as i16)
    .bind(JobState::Failed.number() as i16)
    .bind(JobState::Cancelled.number() as i16)
    .bind(circumstance_only)
    .bind(CIRCUMSTANCE_CODES.as_slice())
    .execute(&mut *tx)
    .await?
    .rows_affected();
    let status = lock_status(tx, batch).await?;
    let after = decide::retry(status)?;
    if retried > 0 {
        sqlx::query("UPDATE batches SET failed = failed - $2 WHERE batch_no = $1")
            .bind(batch.0)
            .bind(retried as i64)
            .execute(&mut *tx)
            .await?;
        if after != status {
            set_status(tx, batch, after).await?;
        }
    }
    Ok(retried)
}
