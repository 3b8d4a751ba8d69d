//! Ending attempts without a result, and queueing failed jobs again.

use super::super::jobs::{Release, ReleaseCause};
use super::finish::Ended;
use super::place::JobNow;
use super::rows::{self, get};
use super::{SqliteStore, StoreError, Tx};
use crate::ids::{Attempt, BatchNo, JobIndex, JobRef, NodeInstance};
use crate::record::ResultRecord;
use crate::state::{BatchEvent, BatchStatus, JobEvent, JobState, batch_after, job_after};
use serde_json::json;
use std::collections::BTreeSet;

/// Solo crashes after which a job fails.
const MAX_SOLO_CRASHES: i64 = 3;

impl SqliteStore {
    pub(super) async fn release_jobs(
        &self,
        releases: Vec<Release>,
    ) -> Result<Vec<bool>, StoreError> {
        let mut tx = self.begin().await?;
        let refs: Vec<JobRef> = releases.iter().map(|release| release.job).collect();
        let mut now = self.jobs_now(&mut tx, &refs).await?;
        let batches = self.batches_now(&mut tx, &refs).await?;
        let mut held = Vec::with_capacity(releases.len());
        let (mut ended, mut changes) = (Vec::new(), Vec::new());
        for release in releases {
            let job = now
                .get_mut(&release.job)
                .filter(|job| job.attempt as u64 == release.attempt.0);
            let Some((job, after)) =
                job.and_then(|job| job_after(job.state, JobEvent::Release).map(|s| (job, s)))
            else {
                held.push(false);
                continue;
            };
            held.push(true);
            let (blamed, crashes, losses) = match release.cause {
                ReleaseCause::Returned => (0, 0, 0),
                ReleaseCause::Lost => (0, 0, 1),
                ReleaseCause::Blamed { alone } => (1, i64::from(alone), 0),
            };
            changes.push(json!([
                release.job.batch.0,
                release.job.index.0,
                after.number(),
                blamed,
                crashes,
                losses
            ]));
            job.state = after;
            let cancelling = batches
                .get(&release.job.batch)
                .is_some_and(|batch| batch.status == BatchStatus::Cancelling);
            ended.extend(end_of_released(&release, job, crashes, cancelling));
        }
        self.write_releases(&mut tx, changes).await?;
        let touched: BTreeSet<BatchNo> = ended.iter().map(|end| end.job.batch).collect();
        self.end_jobs(&mut tx, ended).await?;
        for batch in touched {
            self.close_if_done(&mut tx, batch).await?;
        }
        self.commit(tx).await?;
        Ok(held)
    }

    async fn write_releases(
        &self,
        tx: &mut Tx,
        changes: Vec<serde_json::Value>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE jobs SET state = v.after, node = NULL, \
             blamed = CASE WHEN v.blame > 0 THEN 1 ELSE jobs.blamed END, \
             crashes = jobs.crashes + v.crash, losses = jobs.losses + v.loss FROM \
               (SELECT value ->> 0 AS b, value ->> 1 AS i, value ->> 2 AS after, \
                value ->> 3 AS blame, value ->> 4 AS crash, value ->> 5 AS loss \
                FROM json_each($1)) AS v \
             WHERE jobs.batch_no = v.b AND jobs.idx = v.i",
        )
        .bind(serde_json::Value::Array(changes).to_string())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(|error| self.error(error))
    }

    pub(super) async fn release_all(
        &self,
        batch: BatchNo,
        keep: &[NodeInstance],
    ) -> Result<u64, StoreError> {
        let placed = sqlx::query(
            "SELECT idx, attempt, node FROM jobs WHERE batch_no = $1 AND state = 1 ORDER BY idx",
        )
        .bind(batch.0)
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.error(error))?;
        let mut releases = Vec::new();
        for row in &placed {
            let node: Option<&str> = get(row, "node")?;
            if keep.iter().any(|kept| Some(kept.as_str()) == node) {
                continue;
            }
            releases.push(Release {
                job: JobRef {
                    batch,
                    index: JobIndex(rows::count(row, "idx")?),
                },
                attempt: Attempt(rows::count(row, "attempt")?),
                cause: ReleaseCause::Returned,
            });
        }
        let mut released = 0;
        for chunk in releases.chunks(super::MAX_JOBS_A_CALL) {
            let held = self.release_jobs(chunk.to_vec()).await?;
            released += held.into_iter().filter(|held| *held).count() as u64;
        }
        Ok(released)
    }

    pub(super) async fn retry(
        &self,
        batch: BatchNo,
        circumstance_only: bool,
    ) -> Result<u64, StoreError> {
        let codes = serde_json::to_string(&crate::record::CIRCUMSTANCE_CODES)
            .expect("a list of words is JSON");
        let mut tx = self.begin().await?;
        let status = self.status_of(&mut tx, batch).await?;
        let retried = sqlx::query(
            "UPDATE jobs SET state = $2, blamed = 0, crashes = 0, losses = 0 \
             WHERE batch_no = $1 AND state IN ($3, $4) AND model_no IS NOT NULL \
             AND ($5 = 0 OR EXISTS (SELECT 1 FROM results r WHERE r.batch_no = jobs.batch_no \
               AND r.idx = jobs.idx AND r.error_code IN (SELECT value FROM json_each($6))))",
        )
        .bind(batch.0)
        .bind(JobState::Queued.number())
        .bind(JobState::Failed.number())
        .bind(JobState::Cancelled.number())
        .bind(i64::from(circumstance_only))
        .bind(codes)
        .execute(&mut *tx)
        .await
        .map_err(|error| self.error(error))?
        .rows_affected();
        if retried > 0 {
            sqlx::query("UPDATE batches SET failed = failed - $2 WHERE batch_no = $1")
                .bind(batch.0)
                .bind(retried as i64)
                .execute(&mut *tx)
                .await
                .map_err(|error| self.error(error))?;
            if status.is_terminal() {
                let after = batch_after(status, BatchEvent::Retry).ok_or_else(|| {
                    StoreError::WrongState {
                        status: status.to_string(),
                        what: "so its jobs cannot run again",
                    }
                })?;
                self.set_status(&mut tx, batch, after).await?;
            }
        }
        self.commit(tx).await?;
        Ok(retried)
    }
}

/// The end of a released job that does not run again.
fn end_of_released(
    release: &Release,
    job: &mut JobNow,
    new_crashes: i64,
    cancelling: bool,
) -> Option<Ended> {
    let (state, record) = if job.crashes + new_crashes >= MAX_SOLO_CRASHES && new_crashes > 0 {
        let message = format!("the job brought its node down {MAX_SOLO_CRASHES} times, alone");
        (
            JobState::Failed,
            ResultRecord::failed("worker_crashed", message),
        )
    } else if cancelling {
        (JobState::Cancelled, super::batches::cancelled_record())
    } else {
        return None;
    };
    job.state = state;
    Some(Ended {
        job: release.job,
        attempt: job.attempt,
        state,
        record,
        stats: None,
    })
}
