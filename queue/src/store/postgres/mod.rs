//! The store of a cluster: a Postgres database that many processes share.
//!
//! Owns which calls are one transaction. Rows are locked in one order everywhere, so that calls wait
//! for each other and never in a circle: jobs by batch and index, then models, then batches by
//! number. What a call decides it decides on locked rows. All times are the server's. The
//! connections are in `connection`.

mod announced;
mod batches;
mod connection;
mod copy;
mod files;
mod finish;
mod load;
mod nodes;
mod place;
mod pool;
mod probe;
mod read;
mod release;
mod rows;
mod schedule_store;
mod schedules;
mod schema;
mod seal;
mod tokens;

use super::jobs::*;
use super::{MAX_JOBS_A_CALL, Store, StoreError, decide};
use crate::batch::{Batch, BatchModel};
use crate::ids::{BatchId, BatchNo, JobIndex, JobRef, NodeInstance};
use crate::node::{NodeReport, Renewal, StoredNode};
use async_trait::async_trait;
pub use connection::PostgresStore;
use connection::{CHUNK, Failure, LONG, PAGE, PLAIN, WHOLE};
use read::Which;
use std::time::Duration;

fn check_count(count: usize) -> Result<(), StoreError> {
    if count > MAX_JOBS_A_CALL {
        return Err(StoreError::TooMany {
            count,
            limit: MAX_JOBS_A_CALL,
        });
    }
    Ok(())
}

/// As SQL counts.
fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
}

#[async_trait]
impl Store for PostgresStore {
    async fn batch_create(&self, new: NewBatch) -> Result<(BatchId, BatchNo), StoreError> {
        let no = self
            .call(WHOLE, &new, |tx, new| Box::pin(load::create(tx, new)))
            .await?;
        self.loads.begin(no);
        Ok((new.id, no))
    }

    async fn batch_fill(&self, batch: BatchNo, jobs: Vec<NewJob>) -> Result<(), StoreError> {
        check_count(jobs.len())?;
        self.fill(batch, jobs).await
    }

    async fn batch_seal(&self, batch: BatchNo) -> Result<Sealed, StoreError> {
        self.seal(batch).await
    }

    async fn batch_delete(&self, batch: BatchNo) -> Result<bool, StoreError> {
        self.delete(batch).await
    }

    async fn batch_hidden(&self) -> Result<Vec<HiddenBatch>, StoreError> {
        self.call(PLAIN, &(), |tx, ()| Box::pin(batches::hidden(tx)))
            .await
    }

    async fn batch_get(&self, id: &BatchId) -> Result<Option<Batch>, StoreError> {
        self.call(PLAIN, id, |tx, id| Box::pin(batches::get(tx, id)))
            .await
    }

    async fn batch_by_no(&self, batch: BatchNo) -> Result<Option<Batch>, StoreError> {
        self.call(PLAIN, &batch, |tx, batch| {
            Box::pin(batches::by_no(tx, *batch))
        })
        .await
    }

    async fn batch_by_key(&self, owner: &str, key: &str) -> Result<Option<Batch>, StoreError> {
        self.call(PLAIN, &(owner, key), |tx, (owner, key)| {
            Box::pin(batches::by_key(tx, owner, key))
        })
        .await
    }

    async fn batch_free_key(&self, batch: BatchNo) -> Result<(), StoreError> {
        self.call(PLAIN, &batch, |tx, batch| {
            Box::pin(batches::free_key(tx, *batch))
        })
        .await
    }

    async fn batch_list(
        &self,
        owner: Option<&str>,
        after: Option<&BatchId>,
        limit: usize,
    ) -> Result<Vec<Batch>, StoreError> {
        self.call(
            PLAIN,
            &(owner, after, limit),
            |tx, (owner, after, limit)| Box::pin(batches::list(tx, *owner, *after, *limit)),
        )
        .await
    }

    async fn batch_open(&self) -> Result<Vec<Batch>, StoreError> {
        self.call(PLAIN, &(), |tx, ()| Box::pin(batches::open(tx)))
            .await
    }

    async fn batch_ended(
        &self,
        owner: Option<&str>,
        age: Duration,
        limit: usize,
    ) -> Result<Vec<Batch>, StoreError> {
        self.call(PLAIN, &(owner, age, limit), |tx, (owner, age, limit)| {
            Box::pin(batches::ended(tx, *owner, *age, *limit))
        })
        .await
    }

    async fn batch_untold(&self, limit: usize) -> Result<Vec<Untold>, StoreError> {
        self.call(PLAIN, &limit, |tx, limit| {
            Box::pin(batches::untold(tx, *limit))
        })
        .await
    }

    async fn batch_told(
        &self,
        batch: BatchNo,
        again_in: Option<Duration>,
    ) -> Result<(), StoreError> {
        self.call(PLAIN, &(batch, again_in), |tx, (batch, again_in)| {
            Box::pin(batches::told(tx, *batch, *again_in))
        })
        .await
    }

    async fn batch_pause(&self, batch: BatchNo, reason: Option<&str>) -> Result<(), StoreError> {
        self.call(PLAIN, &(batch, reason), |tx, (batch, reason)| {
            Box::pin(batches::pause(tx, *batch, *reason))
        })
        .await
    }

    async fn batch_cancel(&self, batch: BatchNo) -> Result<u64, StoreError> {
        self.end_batch(batch, decide::cancel).await
    }

    async fn batch_expire(&self, batch: BatchNo) -> Result<u64, StoreError> {
        self.end_batch(batch, decide::expire).await
    }

    async fn jobs_open(&self) -> Result<u64, StoreError> {
        self.call(PLAIN, &(), |tx, ()| Box::pin(batches::unfinished(tx)))
            .await
    }

    async fn model_resolve(&self, batch: BatchNo, model: BatchModel) -> Result<(), StoreError> {
        self.call(PLAIN, &(batch, model), |tx, (batch, model)| {
            Box::pin(batches::write_model(tx, *batch, model))
        })
        .await
    }

    async fn job_queued(&self, query: QueuedQuery) -> Result<Vec<QueuedJob>, StoreError> {
        self.call(PAGE, &query, |tx, query| Box::pin(place::queued(tx, query)))
            .await
    }

    async fn job_waiting(&self, batch: BatchNo) -> Result<Vec<JobSummary>, StoreError> {
        self.call(PLAIN, &batch, |tx, batch| {
            Box::pin(place::waiting(tx, *batch))
        })
        .await
    }

    async fn place_many(&self, places: Vec<Place>) -> Result<Vec<PlaceOutcome>, StoreError> {
        check_count(places.len())?;
        self.call(WHOLE, &places, |tx, places| {
            Box::pin(place::place(tx, places))
        })
        .await
    }

    async fn finish_many(&self, finishes: Vec<Finish>) -> Result<Vec<FinishOutcome>, StoreError> {
        check_count(finishes.len())?;
        self.call(WHOLE, &finishes, |tx, finishes| {
            Box::pin(finish::finish(tx, finishes))
        })
        .await
    }

    async fn adopt_many(&self, adoption: Adoption) -> Result<u64, StoreError> {
        check_count(adoption.jobs.len())?;
        self.call(WHOLE, &adoption, |tx, adoption| {
            Box::pin(finish::adopt(tx, adoption))
        })
        .await
    }

    async fn job_let_go(&self, batch: BatchNo) -> Result<u64, StoreError> {
        self.call(WHOLE, &batch, |tx, batch| {
            Box::pin(release::let_go(tx, *batch))
        })
        .await
    }

    async fn release_many(&self, releases: Vec<Release>) -> Result<Vec<bool>, StoreError> {
        check_count(releases.len())?;
        self.call(WHOLE, &releases, |tx, releases| {
            Box::pin(release::release(tx, releases))
        })
        .await
    }

    async fn release_batch(
        &self,
        batch: BatchNo,
        keep: &[NodeInstance],
    ) -> Result<u64, StoreError> {
        self.release_all(batch, keep).await
    }

    async fn job_placed(&self, query: &PlacedQuery) -> Result<Vec<PlacedJob>, StoreError> {
        self.call(PLAIN, query, |tx, query| {
            Box::pin(release::placed(tx, query, 0))
        })
        .await
    }

    async fn release_node(
        &self,
        node: &NodeInstance,
        cause: ReleaseCause,
    ) -> Result<u64, StoreError> {
        self.release_of_node(node, cause).await
    }

    async fn retry_failed(
        &self,
        batch: BatchNo,
        circumstance_only: bool,
    ) -> Result<u64, StoreError> {
        self.call(LONG, &(batch, circumstance_only), |tx, (batch, some)| {
            Box::pin(release::retry(tx, *batch, *some))
        })
        .await
    }

    async fn results_page(
        &self,
        batch: BatchNo,
        from: JobIndex,
        limit: usize,
    ) -> Result<ResultsPage, StoreError> {
        self.call(PAGE, &(batch, from, limit), |tx, (batch, from, limit)| {
            Box::pin(read::page(tx, *batch, *from, *limit))
        })
        .await
    }

    async fn finished_since(
        &self,
        batch: BatchNo,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Finished>, StoreError> {
        self.call(PAGE, &(batch, after, limit), |tx, (batch, after, limit)| {
            Box::pin(read::since(tx, *batch, Which::All, *after, *limit))
        })
        .await
    }

    async fn failed_since(
        &self,
        batch: BatchNo,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Finished>, StoreError> {
        self.call(PAGE, &(batch, after, limit), |tx, (batch, after, limit)| {
            Box::pin(read::since(tx, *batch, Which::Failed, *after, *limit))
        })
        .await
    }

    async fn failed_before_last(&self, batch: BatchNo, count: usize) -> Result<u64, StoreError> {
        self.call(PAGE, &(batch, count), |tx, (batch, count)| {
            Box::pin(read::failed_before_last(tx, *batch, *count))
        })
        .await
    }

    async fn job_get(&self, jobs: &[JobRef]) -> Result<Vec<Option<StoredJob>>, StoreError> {
        check_count(jobs.len())?;
        self.call(PAGE, &jobs, |tx, jobs| Box::pin(read::jobs(tx, jobs)))
            .await
    }

    async fn recount(&self, batch: BatchNo) -> Result<[u64; 5], StoreError> {
        self.call(LONG, &batch, |tx, batch| {
            Box::pin(batches::count_rows(tx, *batch))
        })
        .await
    }

    async fn node_join(
        &self,
        node: &NodeInstance,
        report: &NodeReport,
        lease: Duration,
    ) -> Result<(), StoreError> {
        self.call(
            PLAIN,
            &(node, report, lease),
            |tx, (node, report, lease)| Box::pin(nodes::join(tx, node, report, *lease)),
        )
        .await
    }

    async fn node_renew(
        &self,
        node: &NodeInstance,
        report: &NodeReport,
        lease: Duration,
    ) -> Result<Renewal, StoreError> {
        self.call(
            PLAIN,
            &(node, report, lease),
            |tx, (node, report, lease)| Box::pin(nodes::renew(tx, node, report, *lease)),
        )
        .await
    }

    async fn node_leave(&self, node: &NodeInstance) -> Result<(), StoreError> {
        self.call(PLAIN, node, |tx, node| Box::pin(nodes::leave(tx, node)))
            .await
    }

    async fn node_list(&self) -> Result<Vec<StoredNode>, StoreError> {
        self.call(PLAIN, &(), |tx, ()| Box::pin(nodes::list(tx)))
            .await
    }

    async fn node_judge(&self, keep: Duration) -> Result<Vec<NodeInstance>, StoreError> {
        self.call(WHOLE, &keep, |tx, keep| Box::pin(nodes::judge(tx, *keep)))
            .await
    }

    async fn node_drain(&self, name: &str, drain: bool) -> Result<(), StoreError> {
        self.call(PLAIN, &(name, drain), |tx, (name, drain)| {
            Box::pin(nodes::drain(tx, name, *drain))
        })
        .await
    }

    async fn lead(&self, holder: &str, lease: Duration) -> Result<Option<u64>, StoreError> {
        self.call(PLAIN, &(holder, lease), |tx, (holder, lease)| {
            Box::pin(nodes::lead(tx, holder, *lease))
        })
        .await
    }

    async fn lead_end(&self, holder: &str) -> Result<(), StoreError> {
        self.call(PLAIN, &holder, |tx, holder| {
            Box::pin(nodes::lead_end(tx, holder))
        })
        .await
    }
}

#[cfg(test)]
mod tests;
