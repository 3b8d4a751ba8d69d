//! Finding queued jobs and placing them.

use super::super::decide::{self, BatchesNow, JobsNow, Placing, Slot};
use super::super::jobs::{JobSummary, MAX_COUNTED, Place, PlaceOutcome, QueuedJob, QueuedQuery};
use super::read::Reads;
use super::rows::{self, Fields};
use super::{SqliteStore, StoreError, Tx};
use crate::ids::{BatchNo, JobIndex, JobRef};
use crate::state::{BatchStatus, JobState};
use serde_json::json;
use std::collections::{BTreeSet, HashMap};

/// Bytes of lines in one answer of [`SqliteStore::queued`].
const QUEUED_BYTES: usize = 32 * 1024 * 1024;

impl SqliteStore {
    pub(super) async fn queued(&self, query: QueuedQuery) -> Result<Vec<QueuedJob>, StoreError> {
        let mut jobs: Vec<QueuedJob> = Vec::new();
        let mut reads = Reads::new(query.limit, QUEUED_BYTES);
        while let Some(rows) = reads.next_rows() {
            let next = jobs.last().map_or(0, |last| last.job.index.0 + 1);
            let found = sqlx::query(
                "SELECT j.idx, j.content, j.occurrence, j.blamed, j.losses, p.line \
                 FROM batches b CROSS JOIN jobs j INDEXED BY jobs_queued ON j.batch_no = b.batch_no \
                 JOIN payloads p ON p.batch_no = j.batch_no AND p.idx = j.idx \
                 WHERE b.batch_no = $1 AND b.visible = 1 AND b.status = $2 \
                 AND b.paused_reason IS NULL AND j.model_no = $3 AND j.state = 0 \
                 AND j.same_as IS NULL AND j.idx >= $4 ORDER BY j.idx LIMIT $5",
            )
            .bind(query.batch.0)
            .bind(BatchStatus::InProgress.as_str())
            .bind(i64::from(query.model.0))
            .bind(next as i64)
            .bind(rows as i64)
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
            for row in &found {
                let line = row.text("line")?.to_owned();
                let more = reads.took(line.len());
                jobs.push(QueuedJob {
                    job: JobRef {
                        batch: query.batch,
                        index: JobIndex(row.count("idx")?),
                    },
                    line,
                    key: rows::job_key(row)?,
                    model: query.model,
                    alone: rows::alone(row)?,
                });
                if !more {
                    break;
                }
            }
            if found.len() < rows {
                break;
            }
        }
        Ok(jobs)
    }

    pub(super) async fn waiting(&self, batch: BatchNo) -> Result<Vec<JobSummary>, StoreError> {
        let found: Vec<(i64, i64, i64)> = sqlx::query_as(
            "SELECT m.model_no, (SELECT COUNT(*) FROM (SELECT 1 FROM jobs j INDEXED BY jobs_queued \
               WHERE j.batch_no = m.batch_no AND j.model_no = m.model_no AND j.state = 0 \
               AND j.same_as IS NULL LIMIT $2)) AS queued, (SELECT COUNT(*) FROM (SELECT 1 FROM jobs j INDEXED BY jobs_placed \
               WHERE j.batch_no = m.batch_no AND j.state = 1 AND j.model_no = m.model_no \
               LIMIT $2)) AS placed \
             FROM batch_models m WHERE m.batch_no = $1 ORDER BY m.model_no",
        )
        .bind(batch.0)
        .bind(MAX_COUNTED as i64)
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.error(error))?;
        found
            .into_iter()
            .filter(|(_, queued, placed)| queued + placed > 0)
            .map(|(model, queued, placed)| {
                Ok(JobSummary {
                    model: rows::model_no(model)?,
                    queued: queued as u64,
                    placed: placed as u64,
                })
            })
            .collect()
    }

    pub(super) async fn place_jobs(
        &self,
        places: Vec<Place>,
    ) -> Result<Vec<PlaceOutcome>, StoreError> {
        let mut tx = self.begin().await?;
        let refs: Vec<JobRef> = places.iter().map(|place| place.job).collect();
        let jobs = self.jobs_now(&mut tx, &refs).await?;
        let batches = self.batches_now(&mut tx, &refs).await?;
        let pins = self.pins(&mut tx, &batches).await?;
        let placing = decide::place(&places, jobs, &batches, pins);
        self.write_places(&mut tx, &placing).await?;
        self.commit(tx).await?;
        Ok(placing.outcomes)
    }

    async fn write_places(&self, tx: &mut Tx, placing: &Placing<'_>) -> Result<(), StoreError> {
        let changes = placing
            .placed
            .iter()
            .map(|(place, attempt)| {
                let JobRef { batch, index } = place.job;
                json!([batch.0, index.0, place.node.as_str(), attempt])
            })
            .collect();
        sqlx::query(
            "UPDATE jobs SET state = $2, attempt = v.attempt, node = v.holder FROM \
               (SELECT value ->> 0 AS b, value ->> 1 AS i, value ->> 2 AS holder, \
                value ->> 3 AS attempt FROM json_each($1)) AS v \
             WHERE jobs.batch_no = v.b AND jobs.idx = v.i",
        )
        .bind(serde_json::Value::Array(changes).to_string())
        .bind(JobState::Placed.number())
        .execute(&mut **tx)
        .await
        .map_err(|error| self.error(error))?;
        for (slot, numerics) in &placing.pins {
            self.write_pin(tx, *slot, numerics).await?;
        }
        Ok(())
    }

    pub(super) async fn write_pin(
        &self,
        tx: &mut Tx,
        (batch, model): Slot,
        numerics: &str,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE batch_models SET numerics = $3 WHERE batch_no = $1 AND model_no = $2")
            .bind(batch.0)
            .bind(model)
            .bind(numerics.to_owned())
            .execute(&mut **tx)
            .await
            .map(drop)
            .map_err(|error| self.error(error))
    }

    /// The present state of jobs, by name.
    pub(super) async fn jobs_now(
        &self,
        tx: &mut Tx,
        jobs: &[JobRef],
    ) -> Result<JobsNow, StoreError> {
        let found = sqlx::query(
            "SELECT j.batch_no, j.idx, j.state, j.attempt, j.model_no, j.crashes, \
             j.finish_no, EXISTS (SELECT 1 FROM jobs f INDEXED BY jobs_same WHERE f.batch_no = j.batch_no \
               AND f.same_as = j.idx AND f.state = 0) AS leads \
             FROM json_each($1) v CROSS JOIN jobs j \
             WHERE j.batch_no = v.value ->> 0 AND j.idx = v.value ->> 1",
        )
        .bind(refs_json(jobs))
        .fetch_all(&mut **tx)
        .await
        .map_err(|error| self.error(error))?;
        found
            .iter()
            .map(|row| Ok((rows::job_ref(row)?, rows::job_now(row)?)))
            .collect()
    }

    pub(super) async fn batches_now(
        &self,
        tx: &mut Tx,
        jobs: &[JobRef],
    ) -> Result<BatchesNow, StoreError> {
        let numbers: BTreeSet<BatchNo> = jobs.iter().map(|job| job.batch).collect();
        let mut batches = HashMap::new();
        for number in numbers {
            let row = sqlx::query(
                "SELECT status, paused_reason, any_numerics FROM batches \
                 WHERE batch_no = $1 AND visible = 1",
            )
            .bind(number.0)
            .fetch_optional(&mut **tx)
            .await
            .map_err(|error| self.error(error))?;
            if let Some(row) = row {
                batches.insert(number, rows::batch_now(&row)?);
            }
        }
        Ok(batches)
    }

    pub(super) async fn pins(
        &self,
        tx: &mut Tx,
        batches: &BatchesNow,
    ) -> Result<HashMap<Slot, String>, StoreError> {
        let mut pins = HashMap::new();
        for number in batches.keys() {
            let found = sqlx::query(
                "SELECT model_no, numerics FROM batch_models \
                 WHERE batch_no = $1 AND numerics IS NOT NULL",
            )
            .bind(number.0)
            .fetch_all(&mut **tx)
            .await
            .map_err(|error| self.error(error))?;
            for row in found {
                let slot = (*number, row.int("model_no")?);
                pins.insert(slot, row.text("numerics")?.to_owned());
            }
        }
        Ok(pins)
    }
}

/// `[[batch, index], …]`
pub(super) fn refs_json(jobs: &[JobRef]) -> String {
    let pairs: Vec<(i64, u64)> = jobs.iter().map(|job| (job.batch.0, job.index.0)).collect();
    serde_json::to_string(&pairs).expect("a list of numbers is JSON")
}
