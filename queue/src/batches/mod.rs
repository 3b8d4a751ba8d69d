//! Batches: the one place where store and queue are written together.
//!
//! Owns the order of those writes: the store first, then the queue; a result is committed, then
//! the inbox forgets it. Whatever is cut off in between, `resume` and `sweep` put right.

mod announce;
mod equal;
mod export;
mod purge;
mod submit;
mod take_over;
mod work;

pub use announce::AnnouncedInput;
pub use export::{Export, ExportLine, PageRenderer};
pub use purge::PurgeError;
pub use submit::{Input, Reserved, Submission, SubmitError, Submitted};
pub use work::{requests_of, work_of};

use crate::batch::Batch;
use crate::ids::{BatchId, NodeInstance};
use crate::owner::{BatchLock, LockDirectory, LockError};
use crate::queue::{Held, Queue};
use crate::store::{Finish, FinishOutcome, Release, ReleaseCause, Store, StoreError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Hidden batches of a shared store that were not written to for so long are orphans.
const ORPHAN_AFTER: Duration = Duration::from_secs(15 * 60);

/// Store and queue of one installation.
#[derive(Clone)]
pub struct Batches {
    store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
    locks: Option<LockDirectory>,
}

/// What was put right when a batch was taken up again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// Jobs that a dead process had placed.
    pub released: u64,
    /// Jobs that had failed by circumstance.
    pub retried: u64,
}

impl Batches {
    /// For a store that lies at `path` on this machine: its batches have owners by file lock.
    pub fn embedded(store: Arc<dyn Store>, queue: Arc<dyn Queue>, path: &Path) -> Batches {
        Batches {
            store,
            queue,
            locks: Some(LockDirectory::beside(path)),
        }
    }

    /// Names another process as the one that runs what this one takes: its parent, which users see.
    pub fn on_behalf_of(self, process: u32) -> Batches {
        let locks = self.locks.map(|locks| locks.on_behalf_of(process));
        Batches { locks, ..self }
    }

    /// For a store that many machines share: nodes have leases there, and no file lock counts.
    pub fn shared(store: Arc<dyn Store>, queue: Arc<dyn Queue>) -> Batches {
        Batches {
            store,
            queue,
            locks: None,
        }
    }

    /// The store, for reading.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The queue.
    pub fn queue(&self) -> &Arc<dyn Queue> {
        &self.queue
    }

    /// Takes the right to run a batch; `None` where the store is shared.
    pub fn take(&self, batch: &BatchId) -> Result<Option<BatchLock>, LockError> {
        self.locks
            .as_ref()
            .map(|locks| locks.take(batch))
            .transpose()
    }

    /// Deletes hidden batches that no live process loads or purges. Returns how many.
    pub async fn sweep(&self) -> Result<u64, StoreError> {
        let mut swept = 0;
        for hidden in self.store.batch_hidden().await? {
            // A held lock: a load under way. A shared store has no locks, and a load that goes on
            // writes often.
            let Ok(lock) = self.take(&hidden.id) else {
                continue;
            };
            if lock.is_some() || hidden.idle > ORPHAN_AFTER {
                swept += u64::from(self.store.batch_delete(hidden.no).await?);
            }
        }
        Ok(swept)
    }

    /// Takes up a batch that a dead process left: its placed jobs are queued again, and so are
    /// those that failed by circumstance. The caller holds the batch's lock.
    pub async fn resume(&self, batch: &Batch) -> Result<Resumed, StoreError> {
        Ok(Resumed {
            released: self.store.release_batch(batch.no, &[]).await?,
            retried: self.store.retry_failed(batch.no, true).await?,
        })
    }

    /// Stores results and then lets the node's inbox forget them. A result whose attempt does not
    /// hold any more changes nothing.
    pub async fn finish(
        &self,
        node: &NodeInstance,
        finishes: Vec<Finish>,
    ) -> Result<Vec<FinishOutcome>, StoreError> {
        let held: Vec<Held> = finishes
            .iter()
            .map(|finish| Held {
                job: finish.job,
                attempt: finish.attempt,
            })
            .collect();
        let outcomes = self.store.finish_many(finishes).await?;
        self.forget(node, &held).await;
        Ok(outcomes)
    }

    /// Ends attempts without a result and then lets the node's inbox forget them.
    pub async fn release(
        &self,
        node: &NodeInstance,
        jobs: &[Held],
        cause: ReleaseCause,
    ) -> Result<Vec<bool>, StoreError> {
        let releases = jobs
            .iter()
            .map(|held| Release {
                job: held.job,
                attempt: held.attempt,
                cause,
            })
            .collect();
        let outcomes = self.store.release_many(releases).await?;
        self.forget(node, jobs).await;
        Ok(outcomes)
    }

    /// Lets an inbox forget jobs whose end the store has. Where the queue cannot be reached,
    /// reconciling does it later.
    async fn forget(&self, node: &NodeInstance, jobs: &[Held]) {
        if let Err(error) = self.queue.done(node, jobs).await {
            tracing::debug!(%error, %node, "the inbox will forget its finished jobs later");
        }
    }

    /// A node leaves: its inbox is taken away and its unfinished jobs are queued again.
    pub async fn leave(&self, node: &NodeInstance) -> Result<u64, StoreError> {
        let left = self.release_all_of(node, ReleaseCause::Returned).await;
        // The inbox of a node that is gone is garbage, which its queue lets expire.
        if let Err(error) = self.queue.leave(node).await {
            tracing::debug!(%error, %node, "the inbox stays until it expires");
        }
        left
    }

    /// Ends all attempts of a node that has left or was lost. Returns how many.
    pub async fn release_all_of(
        &self,
        node: &NodeInstance,
        cause: ReleaseCause,
    ) -> Result<u64, StoreError> {
        let mut released = 0;
        loop {
            match self.store.release_node(node, cause).await? {
                0 => return Ok(released),
                some => released += some,
            }
        }
    }
}

#[cfg(test)]
mod tests;
