//! Doing what placement decides: queued jobs get an attempt in the store, then lie in an inbox.
//!
//! Owns the loop and its I/O. Inboxes are kept only a little deeper than the nodes' slots, so a
//! batch of any size passes through bounded memory.

use crate::placement::{
    DISPATCH_INTERVAL, Decision, Hold, NodeSnapshot, Numerics, WaitingModel, decide,
};
use rbee_queue::batches::work_of;
use rbee_queue::queue::Held;
use rbee_queue::queue::{QueueError, Work};
use rbee_queue::record::{JobError, JobStats, Outcome, RECORD_VERSION, ResultRecord};
use rbee_queue::store::ReleaseCause;
use rbee_queue::store::{Finish, Place, PlaceOutcome, QueuedQuery};
use rbee_queue::{
    Attempt, Batch, BatchId, BatchModel, BatchNo, Batches, JobRef, ModelNo, ModelSha, NodeInstance,
    StoreError,
};
use tokio::sync::{mpsc, watch};

/// Jobs of an unresolvable model that are failed in one go.
const FAILED_AT_ONCE: usize = 1_000;

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
    /// Under this name the dispatcher itself fails jobs that no node can run.
    name: NodeInstance,
}

impl Dispatcher {
    /// A dispatcher over store and queue.
    pub fn new(batches: Batches) -> Dispatcher {
        Dispatcher {
            batches,
            name: NodeInstance::generate(),
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
            for summary in self.batches.store().job_waiting(batch.no).await? {
                let model = batch.models.iter().find(|model| model.no == summary.model);
                match model.and_then(|model| model.sha256.map(|sha| (model, sha))) {
                    Some((model, sha)) => {
                        tick.waiting += summary.queued;
                        waiting.push(WaitingModel {
                            batch: batch.no,
                            no: summary.model,
                            model: sha,
                            queued: summary.queued,
                            numerics: numerics(batch, model),
                        });
                    }
                    None => tick.failed += self.fail_unresolved(batch, summary.model).await?,
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
        for decision in plan.decisions {
            match decision {
                Decision::Load { node, model } => tick.loads.push(Load { node, model }),
                Decision::Place {
                    node,
                    batch,
                    no,
                    jobs,
                } => {
                    let batch = batches
                        .iter()
                        .find(|known| known.no == batch)
                        .expect("placement decides about the batches it was given");
                    let node = nodes
                        .iter()
                        .find(|known| known.node == node)
                        .expect("placement decides about the nodes it was given");
                    let query = QueuedQuery {
                        batch: batch.no,
                        model: no,
                        limit: jobs,
                    };
                    tick.placed += self.place(batch, node, query).await?;
                }
            }
        }
        tick.waiting -= (tick.placed as u64).min(tick.waiting);
        Ok(tick)
    }

    async fn fresh(&self, batch: &BatchId) -> Result<Batch, StoreError> {
        let batch = self.batches.store().batch_get(batch).await?;
        batch.ok_or(StoreError::NoSuchBatch)
    }

    /// Store first, then the inbox. Returns how many were placed.
    async fn place(
        &self,
        batch: &Batch,
        node: &NodeSnapshot,
        query: QueuedQuery,
    ) -> Result<usize, StoreError> {
        let store = self.batches.store();
        let jobs = store.job_queued(query).await?;
        let places = jobs
            .iter()
            .map(|queued| Place {
                job: queued.job,
                node: node.node.clone(),
                numerics: Some(node.numerics.clone()),
            })
            .collect();
        let outcomes = store.place_many(places).await?;
        let (mut work, mut refused) = (Vec::new(), Vec::new());
        for (queued, outcome) in jobs.into_iter().zip(outcomes) {
            let PlaceOutcome::Placed(attempt) = outcome else {
                continue;
            };
            match work_of(batch, &queued, attempt) {
                Ok(ready) => work.push(ready),
                Err(error) => refused.push(failure(queued.job, attempt, error)),
            }
        }
        if !refused.is_empty() {
            self.batches.finish(&self.name, refused).await?;
        }
        let held: Vec<Held> = work.iter().map(Work::held).collect();
        match self.batches.queue().push(&node.node, work).await {
            Ok(()) => Ok(held.len()),
            Err(error @ (QueueError::NoSuchNode { .. } | QueueError::Full { .. })) => {
                tracing::debug!(%error, "the inbox takes no more, the jobs are queued again");
                let cause = ReleaseCause::Returned;
                self.batches.release(&node.node, &held, cause).await?;
                Ok(0)
            }
            Err(error) => {
                // They may have arrived. They are the node's, and reconciling brings them there.
                tracing::warn!(%error, "placed jobs wait for the queue");
                Ok(held.len())
            }
        }
    }

    /// Fails jobs whose model could not be resolved.
    async fn fail_unresolved(&self, batch: &Batch, no: ModelNo) -> Result<usize, StoreError> {
        let store = self.batches.store();
        let query = QueuedQuery {
            batch: batch.no,
            model: no,
            limit: FAILED_AT_ONCE,
        };
        let jobs = store.job_queued(query).await?;
        let places = jobs
            .iter()
            .map(|queued| Place {
                job: queued.job,
                node: self.name.clone(),
                numerics: None,
            })
            .collect();
        let name = batch
            .models
            .iter()
            .find(|model| model.no == no)
            .map_or("of the line", |model| model.requested.as_str());
        let outcomes = store.place_many(places).await?;
        let finishes: Vec<Finish> = jobs
            .iter()
            .zip(outcomes)
            .filter_map(|(queued, outcome)| match outcome {
                PlaceOutcome::Placed(attempt) => {
                    let message = format!("the model {name} could not be found");
                    let error = JobError::new("model_not_found", message);
                    Some(failure(queued.job, attempt, error))
                }
                _ => None,
            })
            .collect();
        let failed = finishes.len();
        self.batches.finish(&self.name, finishes).await?;
        Ok(failed)
    }
}

fn numerics(batch: &Batch, model: &BatchModel) -> Numerics {
    match &model.numerics {
        _ if batch.spec.any_numerics => Numerics::Any,
        Some(pinned) => Numerics::Pinned(pinned.clone()),
        None => Numerics::Open,
    }
}

fn failure(job: JobRef, attempt: Attempt, error: JobError) -> Finish {
    Finish {
        job,
        attempt,
        record: ResultRecord {
            version: RECORD_VERSION,
            outcome: Outcome::Failed(error),
        },
        stats: JobStats::default(),
    }
}

#[cfg(test)]
#[path = "dispatch_tests.rs"]
mod tests;
