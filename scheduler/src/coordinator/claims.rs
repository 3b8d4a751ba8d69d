//! Which batches this process runs.
//!
//! Owns the file locks of embedded batches: each is held from before its first placement until the
//! batch is terminal. In a shared store every batch is the leader's.

use super::Shared;
use rbee_queue::owner::{BatchLock, LockError};
use rbee_queue::{Batch, BatchId, Batches, NodeInstance, StoreError};
use std::collections::HashMap;

/// The batches that this process may run.
pub(super) struct Claims {
    batches: Batches,
    skip_owner: Option<String>,
    held: HashMap<BatchId, Option<BatchLock>>,
}

impl Claims {
    pub fn new(shared: &Shared) -> Claims {
        Claims {
            batches: shared.batches.clone(),
            skip_owner: shared.options.skip_owner.clone(),
            held: HashMap::new(),
        }
    }

    /// Of the open batches those that are run here. `alive` are the nodes whose attempts go on
    /// when a batch is taken over from a process that died.
    pub async fn of(
        &mut self,
        open: Vec<Batch>,
        alive: &[NodeInstance],
    ) -> Result<Vec<Batch>, StoreError> {
        self.held
            .retain(|id, _| open.iter().any(|batch| batch.id == *id));
        let mut ours = Vec::with_capacity(open.len());
        for batch in open {
            let skipped = self.skip_owner.as_ref() == Some(&batch.owner);
            if !skipped && self.claim(&batch, alive).await? {
                ours.push(batch);
            }
        }
        Ok(ours)
    }

    async fn claim(&mut self, batch: &Batch, alive: &[NodeInstance]) -> Result<bool, StoreError> {
        if self.held.contains_key(&batch.id) {
            return Ok(true);
        }
        let lock = match self.batches.take(&batch.id) {
            Ok(lock) => lock,
            Err(error @ LockError::Held { .. }) => {
                // Its maker still has it, or another process runs it.
                tracing::trace!(%error, "the batch is left to its owner");
                return Ok(false);
            }
            Err(error) => {
                tracing::warn!(%error, batch = %batch.id, "the batch cannot be run");
                return Ok(false);
            }
        };
        if lock.is_some() {
            let store = self.batches.store();
            let released = store.release_batch(batch.no, alive).await?;
            tracing::debug!(batch = %batch.id, released, "took the batch up");
        }
        self.held.insert(batch.id.clone(), lock);
        Ok(true)
    }
}
