//! What a store does for batches that are announced: shown before their lines are known.
//!
//! Owns the trait. An announced batch is a row without a job. Its lines are loaded into a hidden batch beside it, which
//! takes its place, with its id and its times, in the transaction that shows it: until then whoever cancels, refuses or
//! purges the announced one has nothing else to undo, and a load that was cut off is an orphan like every other.

use super::{NewBatch, Sealed, StoreError};
use crate::batch::Batch;
use crate::file::RefusedLine;
use crate::ids::BatchNo;
use async_trait::async_trait;

/// What every store can do for batches that are shown before their lines are known.
#[async_trait]
pub trait AnnouncedStore: Send + Sync {
    /// Shows a batch whose lines are yet to be read: validating, and without a job.
    async fn batch_announce(&self, new: NewBatch) -> Result<Batch, StoreError>;

    /// The announced batches, oldest first.
    async fn batch_announced(&self, limit: usize) -> Result<Vec<Batch>, StoreError>;

    /// Checks a filled batch as `batch_seal` does, and shows it in the place of an announced one, with its id and its times.
    /// Its number is its own. One that is not shown is deleted: `Existing` is the announced one as it is by now, where it is
    /// not validating any more.
    async fn batch_seal_as(&self, batch: BatchNo, announced: BatchNo)
    -> Result<Sealed, StoreError>;

    /// Refuses an announced batch as a whole: failed, with the reasons.
    async fn batch_refuse(
        &self,
        announced: BatchNo,
        reasons: Vec<RefusedLine>,
    ) -> Result<(), StoreError>;
}
