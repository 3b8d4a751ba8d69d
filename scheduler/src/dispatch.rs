//! Feeding this process's own node with one batch.
//!
//! Owns the loop; a cluster's is in `coordinator`. Inboxes are kept only a little deeper than the nodes' slots, so a
//! batch of any size passes through bounded memory.

use crate::placement::{DISPATCH_INTERVAL, Decision, Hold, NodeSnapshot, decide};
use crate::placer::Placer;
use crate::waiting::waiting_models;
use rbee_queue::{Batch, BatchId, BatchNo, Batches, ModelNo, ModelSha, NodeInstance, StoreError};
use tokio::sync::{mpsc, watch};

/// A wish to a node: bring this model into memory, in place of what it does not need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// The node.
    pub node: NodeInstance,
    /// The model.
    pub model: ModelSha,
}

/// What one look did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tick {
    /// Jobs that were placed.
    pub placed: usize,
    /// Jobs that failed without a node, since their model could not be resolved.
    pub failed: usize,
    /// Jobs that still wait.
    pub waiting: u64,
    /// Models that nodes should load.
    pub loads: Vec<Load>,
    /// Models whose jobs got no place, with the reason.
    pub holds: Vec<(BatchNo, ModelNo, Hold)>,
}

/// How a dispatch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatched {
    /// Every job of the batch has its result.
    Done,
    /// The nodes are gone, or nobody takes the wishes to load any more.
    Stopped,
}

/// Feeds nodes from the store.
pub struct Dispatcher {
    batches: Batches,
    placer: Placer,
}

impl Dispatcher {
    /// A dispatcher over store and queue.
    pub fn new(batches: Batches) -> Dispatcher {
        Dispatcher {
            placer: Placer::new(batches.clone()),
            batches,
        }
    }

    /// Feeds the nodes until every job of the batch has its result. `nodes` are the snapshots as
    /// they change (their `held` is filled in here); wishes to load go to `loads`.
    pub async fn run(
        &self,
        batch: &BatchId,
        mut nodes: watch::Receiver<Vec<NodeSnapshot>>,
        loads: mpsc::Sender<Load>,
    ) -> Result<Dispatched, StoreError> {
        let mut asked: Vec<Load> = Vec::new();
        loop {
            let snapshots = nodes.borrow_and_update().clone();
            let batch = self.fresh(batch).await?;
            if batch.status.is_terminal() {
                return Ok(Dispatched::Done);
            }
            let tick = self.tick(std::slice::from_ref(&batch), snapshots).await?;
            for load in &tick.loads {
                // A wish is said once; the node's snapshot shows what becomes of it.
                if !asked.contains(load) && loads.send(load.clone()).await.is_err() {
                    return Ok(Dispatched::Stopped);
                }
            }
            asked = tick.loads;
            tokio::select! {
                () = self.batches.queue().room_made() => {}
                changed = nodes.changed() => if changed.is_err() {
                    return Ok(Dispatched::Stopped);
                },
                () = tokio::time::sleep(DISPATCH_INTERVAL) => {}
            }
        }
    }

    /// Looks once: at what waits and at the nodes, decides, and does it.
    pub async fn tick(
        &self,
        batches: &[Batch],
        mut nodes: Vec<NodeSnapshot>,
    ) -> Result<Tick, StoreError> {
        let mut tick = Tick::default();
        let mut waiting = Vec::new();
        for batch in batches {
            let summaries = self.batches.store().job_waiting(batch.no).await?;
            for (no, found) in waiting_models(batch, &summaries) {
                match found {
                    Ok(found) => {
                        tick.waiting += found.queued;
                        waiting.push(found);
                    }
                    Err(error) => {
                        tick.failed += self.placer.fail(batch, no, &error).await?;
                    }
                }
            }
        }
        for node in &mut nodes {
            match self.batches.queue().depth(&node.node).await {
                Ok(depth) => node.held = depth.waiting + depth.running,
                // A node without an inbox cannot be given anything.
                Err(_) => node.draining = true,
            }
        }
        let plan = decide(&nodes, &waiting);
        tick.holds = plan.holds;
        for decision in &plan.decisions {
            if let Decision::Load { node, model, .. } = decision {
                tick.loads.push(Load {
                    node: node.clone(),
                    model: *model,
                });
            }
        }
        let (given, done) = self
            .placer
            .carry_out(&plan.decisions, batches, &nodes)
            .await;
        done?;
        tick.placed = given.iter().map(|given| given.jobs.len()).sum();
        tick.waiting -= (tick.placed as u64).min(tick.waiting);
        Ok(tick)
    }

    async fn fresh(&self, batch: &BatchId) -> Result<Batch, StoreError> {
        let batch = self.batches.store().batch_get(batch).await?;
        batch.ok_or(StoreError::NoSuchBatch)
    }
}

#[cfg(test)]
#[path = "dispatch_tests.rs"]
mod tests;
