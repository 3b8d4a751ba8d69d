//! Nodes that were lost: their leases are judged, and their jobs are queued again.

use super::Shared;
use rbee_queue::store::{PlacedQuery, ReleaseCause};
use rbee_queue::{BatchStatus, StoreError};
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;

/// How long a lost node is remembered, for people who ask.
const LOST_KEPT: Duration = Duration::from_secs(3_600);

/// Judges leases and releases what lost nodes had.
pub(super) async fn rescue(shared: &Shared) -> Result<(), StoreError> {
    if !shared.sight().may_judge(Instant::now()) {
        return Ok(());
    }
    let lost = shared.batches.store().node_judge(LOST_KEPT).await?;
    for node in &lost {
        let batches = &shared.batches;
        let released = batches.release_all_of(node, ReleaseCause::Lost).await?;
        // So that a node which only slept finds no work when it wakes.
        if let Err(error) = batches.queue().leave(node).await {
            tracing::debug!(%error, %node, "the lost node's inbox stays until it expires");
        }
        tracing::warn!(%node, released, "a node was lost, its jobs are queued again");
        shared.status.send_modify(|status| {
            status.lost += 1;
            status.released += released;
        });
    }
    if !lost.is_empty() {
        shared.woken.notify_one();
    }
    Ok(())
}

/// Releases placed jobs of nodes that the store does not know any more: they left, and were cut off
/// before all was given back.
pub(super) async fn release_strays(shared: &Shared) -> Result<(), StoreError> {
    let store = shared.batches.store();
    let mut nodes = HashSet::new();
    for batch in store.batch_open().await? {
        let ours = shared.options.skip_owner.as_ref() != Some(&batch.owner);
        if ours && batch.status == BatchStatus::InProgress {
            let placed = store.job_placed(&PlacedQuery::Batch(batch.no)).await?;
            nodes.extend(placed.into_iter().map(|placed| placed.node));
        }
    }
    if nodes.is_empty() {
        return Ok(());
    }
    // Asked after the jobs: whoever holds one has joined before.
    let known: HashSet<_> = (store.node_list().await?.into_iter())
        .map(|node| node.instance)
        .collect();
    for node in nodes.difference(&known) {
        if shared.placer.is_name(node) {
            continue;
        }
        let cause = ReleaseCause::Returned;
        let released = shared.batches.release_all_of(node, cause).await?;
        tracing::info!(%node, released, "jobs of a node that has left are queued again");
    }
    Ok(())
}
