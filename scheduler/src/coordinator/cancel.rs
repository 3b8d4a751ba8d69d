//! Ending what nodes still have of batches that are cancelled or whose time is up.
//!
//! The store has ended what waited. Placed jobs end here: those that lie in an inbox at once, those
//! that run when their node has heard of it.

use super::told_of_end;
use rbee_queue::queue::Held;
use rbee_queue::store::{PlacedQuery, ReleaseCause};
use rbee_queue::{Batch, BatchNo, BatchStatus, Batches, NodeInstance, StoreError};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// A node that still has jobs of a batch that ends is told again after this long.
const TOLD_AGAIN: Duration = Duration::from_secs(2);

/// The batches that end and whose jobs nodes still have.
#[derive(Default)]
pub(super) struct Cancelled {
    told: HashMap<BatchNo, Instant>,
}

impl Cancelled {
    /// Ends what can be ended now. `known` are all nodes of the store, lost ones included.
    pub async fn end(
        &mut self,
        batches: &Batches,
        open: &[Batch],
        known: &[NodeInstance],
    ) -> Result<(), StoreError> {
        let ending = |no: &BatchNo| {
            let mut open = open.iter();
            open.any(|batch| batch.no == *no && is_ending(batch))
        };
        self.told.retain(|no, _| ending(no));
        for batch in open {
            let told = self.told.get(&batch.no);
            let waits = told.is_some_and(|at| at.elapsed() < TOLD_AGAIN);
            if is_ending(batch) && !waits {
                end_placed(batches, batch, known).await?;
                told_of_end(batches, &batch.id).await;
                self.told.insert(batch.no, Instant::now());
            }
        }
        Ok(())
    }
}

fn is_ending(batch: &Batch) -> bool {
    matches!(
        batch.status,
        BatchStatus::Cancelling | BatchStatus::Finalizing
    )
}

async fn end_placed(
    batches: &Batches,
    batch: &Batch,
    known: &[NodeInstance],
) -> Result<(), StoreError> {
    // An end that its maker did not finish leaves queued jobs: going on with it ends those.
    match batch.status {
        BatchStatus::Finalizing => batches.store().batch_expire(batch.no).await?,
        _ => batches.store().batch_cancel(batch.no).await?,
    };
    let mut by_node: HashMap<NodeInstance, Vec<Held>> = HashMap::new();
    let query = PlacedQuery::Batch(batch.no);
    for placed in batches.store().job_placed(&query).await? {
        by_node.entry(placed.node).or_default().push(placed.held);
    }
    for (node, jobs) in by_node {
        if !known.contains(&node) {
            // It left without giving them back.
            let cause = ReleaseCause::Returned;
            batches.release(&node, &jobs, cause).await?;
            continue;
        }
        match batches.queue().cancel(&node, &jobs).await {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => {
                let cause = ReleaseCause::Returned;
                batches.release(&node, &removed, cause).await?;
            }
            Err(error) => tracing::debug!(%error, %node, "the node was not told of the cancel"),
        }
    }
    Ok(())
}
