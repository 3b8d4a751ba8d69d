//! Deleting batches that nobody needs any more: one by one, or all that ended long ago.
//!
//! Owns who may be deleted when. How rows go is the store's.

use super::Batches;
use crate::batch::Batch;
use crate::owner::{BatchLock, LockError};
use crate::state::BatchStatus;
use crate::store::StoreError;
use std::time::Duration;
use tokio::time::Instant;

/// Batches of one look for those that ended long ago.
const LOOK: usize = 100;

/// How long the lock of a finished batch is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// How often it is asked for meanwhile.
const LOCK_LOOK: Duration = Duration::from_millis(50);

/// Why a batch was not purged.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// A process runs it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Its jobs run, or would if a node were there.
    #[error("the batch is {status}: cancel it first")]
    Open {
        /// What it is.
        status: BatchStatus,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Batches {
    /// Deletes a batch and all that belongs to it. Refused while it runs: in a shared store that is until it is
    /// terminal, in an embedded one as long as a process holds its lock.
    pub async fn purge(&self, batch: &Batch) -> Result<(), PurgeError> {
        let lock = self.lock_to_purge(batch).await?;
        // Read under the lock: a retry may have taken it up again.
        let Some(now) = self.store.batch_get(&batch.id).await? else {
            return Ok(());
        };
        if lock.is_none() && !now.status.is_terminal() {
            return Err(PurgeError::Open { status: now.status });
        }
        self.store.batch_delete(now.no).await?;
        Ok(())
    }

    /// Who ran a batch to its end has its lock for a moment longer.
    async fn lock_to_purge(&self, batch: &Batch) -> Result<Option<BatchLock>, LockError> {
        let began = Instant::now();
        loop {
            match self.take(&batch.id) {
                Err(LockError::Held { .. })
                    if batch.status.is_terminal() && began.elapsed() < LOCK_PATIENCE =>
                {
                    tokio::time::sleep(LOCK_LOOK).await;
                }
                taken => return taken,
            }
        }
    }

    /// Deletes all batches of an owner (`None`: of all owners) that ended longer ago than `keep`. Returns how many.
    /// One that cannot be deleted now is left for the next time.
    pub async fn purge_ended(
        &self,
        owner: Option<&str>,
        keep: Duration,
    ) -> Result<u64, StoreError> {
        let mut purged = 0;
        loop {
            let ended = self.store.batch_ended(owner, keep, LOOK).await?;
            let before = purged;
            for batch in &ended {
                match self.purge(batch).await {
                    Ok(()) => purged += 1,
                    Err(PurgeError::Store(error)) => return Err(error),
                    Err(error) => {
                        tracing::debug!(%error, batch = %batch.id, "the batch is kept for now")
                    }
                }
            }
            if ended.len() < LOOK || purged == before {
                return Ok(purged);
            }
        }
    }
}
