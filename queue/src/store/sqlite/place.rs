//! Finding queued jobs and placing them.

use super::super::jobs::{JobSummary, MAX_COUNTED, Place, PlaceOutcome, QueuedJob, QueuedQuery};
use super::rows::{self, get};
use super::{SqliteStore, StoreError, Tx};
use crate::ids::{Attempt, BatchNo, JobIndex, JobRef};
use crate::state::{BatchStatus, JobEvent, JobState, job_after};
use futures_util::TryStreamExt;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};

/// Bytes of lines in one answer of [`SqliteStore::queued`].
const QUEUED_BYTES: usize = 32 * 1024 * 1024;

/// What the transaction knows of a job before it decides.
pub(super) struct JobNow {
    pub state: JobState,
    pub attempt: i64,
    pub crashes: i64,
    model: Option<i64>,
}

impl SqliteStore {
    pub(super) async fn queued(&self, query: QueuedQuery) -> Result<Vec<QueuedJob>, StoreError> {
        let mut found = sqlx::query(
            "SELECT j.idx, j.content, j.occurrence, j.blamed, j.losses, p.line \
             FROM batches b CROSS JOIN jobs j ON j.batch_no = b.batch_no \
             JOIN payloads p ON p.batch_no = j.batch_no AND p.idx = j.idx \
             WHERE b.batch_no = $1 AND b.visible = 1 AND b.status = $2 \
             AND b.paused_reason IS NULL AND j.model_no = $3 AND j.state = 0 \
             ORDER BY j.idx LIMIT $4",
        )
        .bind(query.batch.0)
        .bind(BatchStatus::InProgress.as_str())
        .bind(i64::from(query.model.0))
        .bind(i64::try_from(query.limit).unwrap_or(i64::MAX))
        .fetch(&self.readers);
        let mut jobs = Vec::new();
        let mut bytes = 0;
        while let Some(row) = found.try_next().await.map_err(|error| self.error(error))? {
            let line: String = get(&row, "line")?;
            bytes += line.len();
            jobs.push(QueuedJob {
                job: JobRef {
                    batch: query.batch,
                    index: JobIndex(rows::count(&row, "idx")?),
                },
                line,
                key: rows::job_key(&row)?,
                model: query.model,
                alone: rows::alone(&row)?,
            });
            if bytes > QUEUED_BYTES {
                break;
            }
        }
        Ok(jobs)
    }

    pub(super) async fn waiting(&self, batch: BatchNo) -> Result<Vec<JobSummary>, StoreError> {
        let found: Vec<(i64, i64, i64)> = sqlx::query_as(
            "SELECT m.model_no, (SELECT COUNT(*) FROM (SELECT 1 FROM jobs j \
               WHERE j.batch_no = m.batch_no AND j.model_no = m.model_no AND j.state = 0 \
               LIMIT $2)) AS queued, (SELECT COUNT(*) FROM (SELECT 1 FROM jobs j \
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
        let mut now = self.jobs_now(&mut tx, &refs).await?;
        let batches = self.batches_now(&mut tx, &refs).await?;
        let mut pins = self.pins(&mut tx, &batches).await?;
        let mut outcomes = Vec::with_capacity(places.len());
        let mut changes = Vec::new();
        let mut new_pins = Vec::new();
        for place in places {
            let runs = batches.get(&place.job.batch).filter(|batch| batch.runs());
            let (Some(batch), Some(job)) = (runs, now.get_mut(&place.job)) else {
                outcomes.push(PlaceOutcome::NotQueued);
                continue;
            };
            let Some(state) = job_after(job.state, JobEvent::Place) else {
                outcomes.push(PlaceOutcome::NotQueued);
                continue;
            };
            let slot = (place.job.batch, job.model.unwrap_or(-1));
            if let Some(numerics) = place.numerics.filter(|_| !batch.any_numerics) {
                match pins.get(&slot) {
                    Some(pinned) if *pinned != numerics => {
                        outcomes.push(PlaceOutcome::OtherNumerics);
                        continue;
                    }
                    Some(_) => {}
                    None => {
                        pins.insert(slot, numerics.clone());
                        new_pins.push((slot, numerics));
                    }
                }
            }
            job.state = state;
            job.attempt += 1;
            outcomes.push(PlaceOutcome::Placed(Attempt(job.attempt as u64)));
            changes.push(json!([
                place.job.batch.0,
                place.job.index.0,
                place.node.as_str()
            ]));
        }
        self.write_places(&mut tx, changes, new_pins).await?;
        self.commit(tx).await?;
        Ok(outcomes)
    }

    async fn write_places(
        &self,
        tx: &mut Tx,
        changes: Vec<serde_json::Value>,
        pins: Vec<((BatchNo, i64), String)>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE jobs SET state = $2, attempt = jobs.attempt + 1, node = v.holder FROM \
               (SELECT value ->> 0 AS b, value ->> 1 AS i, value ->> 2 AS holder \
                FROM json_each($1)) AS v \
             WHERE jobs.batch_no = v.b AND jobs.idx = v.i",
        )
        .bind(serde_json::Value::Array(changes).to_string())
        .bind(JobState::Placed.number())
        .execute(&mut **tx)
        .await
        .map_err(|error| self.error(error))?;
        for ((batch, model), numerics) in pins {
            sqlx::query(
                "UPDATE batch_models SET numerics = $3 WHERE batch_no = $1 AND model_no = $2",
            )
            .bind(batch.0)
            .bind(model)
            .bind(numerics)
            .execute(&mut **tx)
            .await
            .map_err(|error| self.error(error))?;
        }
        Ok(())
    }

    /// The present state of jobs, by name.
    pub(super) async fn jobs_now(
        &self,
        tx: &mut Tx,
        jobs: &[JobRef],
    ) -> Result<HashMap<JobRef, JobNow>, StoreError> {
        let found = sqlx::query(
            "SELECT j.batch_no, j.idx, j.state, j.attempt, j.model_no, j.crashes \
             FROM json_each($1) v CROSS JOIN jobs j \
             WHERE j.batch_no = v.value ->> 0 AND j.idx = v.value ->> 1",
        )
        .bind(refs_json(jobs))
        .fetch_all(&mut **tx)
        .await
        .map_err(|error| self.error(error))?;
        found
            .iter()
            .map(|row| {
                let job = JobRef {
                    batch: BatchNo(get(row, "batch_no")?),
                    index: JobIndex(rows::count(row, "idx")?),
                };
                let now = JobNow {
                    state: rows::job_state(row)?,
                    attempt: get(row, "attempt")?,
                    model: get(row, "model_no")?,
                    crashes: get(row, "crashes")?,
                };
                Ok((job, now))
            })
            .collect()
    }

    pub(super) async fn batches_now(
        &self,
        tx: &mut Tx,
        jobs: &[JobRef],
    ) -> Result<HashMap<BatchNo, BatchNow>, StoreError> {
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
                let paused: Option<&str> = get(&row, "paused_reason")?;
                let batch = BatchNow {
                    status: rows::status(&row)?,
                    paused: paused.is_some(),
                    any_numerics: get::<i64>(&row, "any_numerics")? != 0,
                };
                batches.insert(number, batch);
            }
        }
        Ok(batches)
    }

    async fn pins(
        &self,
        tx: &mut Tx,
        batches: &HashMap<BatchNo, BatchNow>,
    ) -> Result<HashMap<(BatchNo, i64), String>, StoreError> {
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
                pins.insert((*number, get(&row, "model_no")?), get(&row, "numerics")?);
            }
        }
        Ok(pins)
    }
}

/// What the transaction knows of a batch before it decides.
pub(super) struct BatchNow {
    pub status: BatchStatus,
    paused: bool,
    any_numerics: bool,
}

impl BatchNow {
    fn runs(&self) -> bool {
        self.status == BatchStatus::InProgress && !self.paused
    }
}

/// `[[batch, index], …]`
pub(super) fn refs_json(jobs: &[JobRef]) -> String {
    let pairs: Vec<(i64, u64)> = jobs.iter().map(|job| (job.batch.0, job.index.0)).collect();
    serde_json::to_string(&pairs).expect("a list of numbers is JSON")
}
