//! Ending attempts without a result, and queueing failed jobs again.

use super::super::decide::{self, Released};
use super::super::jobs::{Release, ReleaseCause};
use super::rows::Fields;
use super::{SqliteStore, StoreError, Tx};
use crate::ids::{Attempt, BatchNo, JobIndex, JobRef, NodeInstance};
use crate::state::JobState;
use serde_json::json;

impl SqliteStore {
    pub(super) async fn release_jobs(
        &self,
        releases: Vec<Release>,
    ) -> Result<Vec<bool>, StoreError> {
        let mut tx = self.begin().await?;
        let refs: Vec<JobRef> = releases.iter().map(|release| release.job).collect();
        let jobs = self.jobs_now(&mut tx, &refs).await?;
        let batches = self.batches_now(&mut tx, &refs).await?;
        let releasing = decide::release(&releases, jobs, &batches);
        self.write_releases(&mut tx, &releasing.released).await?;
        self.end_jobs(&mut tx, &releasing.ended).await?;
        self.commit(tx).await?;
        Ok(releasing.held)
    }

    async fn write_releases(&self, tx: &mut Tx, released: &[Released]) -> Result<(), StoreError> {
        let changes = released
            .iter()
            .map(|now| {
                let JobRef { batch, index } = now.job;
                json!([
                    batch.0,
                    index.0,
                    now.state.number(),
                    now.blamed,
                    now.crashes,
                    now.losses
                ])
            })
            .collect();
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

    /// Jobs that wait for one which has ended without them.
    pub(super) async fn let_go(&self, batch: BatchNo) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let freed = sqlx::query(
            "UPDATE jobs SET same_as = NULL WHERE batch_no = $1 AND same_as >= 0 AND state = 0 \
             AND EXISTS (SELECT 1 FROM jobs l WHERE l.batch_no = jobs.batch_no AND l.idx = jobs.same_as \
               AND l.state NOT IN ($2, $3))",
        )
        .bind(batch.0)
        .bind(JobState::Queued.number())
        .bind(JobState::Placed.number())
        .execute(&mut *tx)
        .await
        .map_err(|error| self.error(error))?
        .rows_affected();
        self.commit(tx).await?;
        Ok(freed)
    }

    pub(super) async fn release_all(
        &self,
        batch: BatchNo,
        keep: &[NodeInstance],
    ) -> Result<u64, StoreError> {
        let placed = sqlx::query(
            "SELECT idx, attempt, node FROM jobs INDEXED BY jobs_placed \
             WHERE batch_no = $1 AND state = 1 ORDER BY idx",
        )
        .bind(batch.0)
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.error(error))?;
        let mut releases = Vec::new();
        for row in &placed {
            let node = row.text_or_null("node")?;
            if keep.iter().any(|kept| Some(kept.as_str()) == node) {
                continue;
            }
            releases.push(Release {
                job: JobRef {
                    batch,
                    index: JobIndex(row.count("idx")?),
                },
                attempt: Attempt(row.count("attempt")?),
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
        let after = decide::retry(status)?;
        let retried = sqlx::query(
            "UPDATE jobs SET state = $2, blamed = 0, crashes = 0, losses = 0, same_as = NULL \
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
            if after != status {
                self.set_status(&mut tx, batch, after).await?;
            }
        }
        self.commit(tx).await?;
        Ok(retried)
    }
}
