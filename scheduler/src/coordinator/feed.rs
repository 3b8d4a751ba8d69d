//! Giving waiting jobs to nodes: look, decide, place, wish, over and over.
//!
//! Owns the pace. Batches, nodes and counts are read a few times a second; between two looks only
//! the inboxes are, so that thousands of jobs a second cost a few queries each.

use super::Shared;
use super::cancel::Cancelled;
use super::claims::Claims;
use super::expire::expire;
use super::ledger::Ledger;
use super::trouble::Trouble;
use crate::placement::{
    DISPATCH_INTERVAL, Decision, Hold, NodeSnapshot, Plan, WaitingModel, decide,
};
use crate::waiting::waiting_models;
use futures_util::StreamExt;
use futures_util::stream;
use rbee_queue::queue::{Control, LoadWish};
use rbee_queue::record::JobError;
use rbee_queue::{Batch, BatchNo, BatchStatus, ModelNo, NodeInstance, StoreError, StoredNode};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often an idle leader looks, where nothing wakes it.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// Rounds are at least so far apart: what leaves the inboxes meanwhile is replaced in one go.
const ROUND_GAP: Duration = Duration::from_millis(10);
/// So many sweeps long every node must have failed to load a model before its jobs fail.
const SWEEPS_OF_HOPE: u32 = 2;
/// Questions to store or queue that are under way at once.
const ASKED_AT_ONCE: usize = 16;

/// The loop that feeds nodes.
pub(super) struct Feed {
    shared: Arc<Shared>,
    claims: Claims,
    /// What the last look saw.
    batches: Vec<Batch>,
    nodes: Vec<StoredNode>,
    waiting: Vec<WaitingModel>,
    /// Since when they have waited without one of their jobs getting a place.
    waiting_since: HashMap<(BatchNo, ModelNo), Instant>,
    looked_at: Option<Instant>,
    cancelled: Cancelled,
    /// Since when no node can load a model.
    hopeless: HashMap<(BatchNo, ModelNo), Instant>,
}

impl Feed {
    pub fn new(shared: Arc<Shared>, claims: Claims) -> Feed {
        Feed {
            shared,
            claims,
            batches: Vec::new(),
            nodes: Vec::new(),
            waiting: Vec::new(),
            waiting_since: HashMap::new(),
            looked_at: None,
            cancelled: Cancelled::default(),
            hopeless: HashMap::new(),
        }
    }

    /// Feeds until it is dropped. Returns only with an error that no patience changes.
    pub async fn run(&mut self) -> StoreError {
        let mut trouble = Trouble::new("jobs cannot be placed");
        loop {
            let began = Instant::now();
            match self.round().await {
                Ok(()) => trouble.over(),
                Err(error @ StoreError::NewerSchema { .. }) => return error,
                Err(error) => {
                    self.looked_at = None;
                    trouble.back_off(&error).await;
                    continue;
                }
            }
            self.pause(began).await;
        }
    }

    /// Waits until another round may be worth it.
    async fn pause(&mut self, began: Instant) {
        let shared = Arc::clone(&self.shared);
        let idle = self.batches.is_empty();
        let queue = shared.batches.queue();
        tokio::select! {
            () = shared.woken.notified() => self.looked_at = None,
            () = queue.room_made(), if !idle => {
                tokio::time::sleep_until(began + ROUND_GAP).await;
            }
            () = tokio::time::sleep(if idle { IDLE_INTERVAL } else { DISPATCH_INTERVAL }) => {
                self.looked_at = None;
            }
        }
    }

    async fn round(&mut self) -> Result<(), StoreError> {
        let fresh = |at: Instant| at.elapsed() < DISPATCH_INTERVAL;
        if !self.looked_at.is_some_and(fresh) {
            self.look().await?;
            self.looked_at = Some(Instant::now());
        }
        if self.waiting.iter().all(|wait| wait.queued == 0) {
            self.report(Vec::new());
            return Ok(());
        }
        let nodes = self.snapshots().await;
        self.age();
        let plan = decide(&nodes, &self.waiting);
        self.give_up(&plan).await?;
        self.wish(&plan).await;
        let (given, done) = (self.shared.placer)
            .carry_out(&plan.decisions, &self.batches, &nodes)
            .await;
        let mut placed = 0;
        {
            let mut ledger = self.shared.ledger();
            for given in &given {
                placed += given.jobs.len() as u64;
                let wait = (self.waiting.iter_mut())
                    .find(|wait| wait.batch == given.batch && wait.no == given.no);
                if let Some(wait) = wait {
                    let jobs = given.jobs.len() as u64;
                    wait.queued = wait.queued.saturating_sub(jobs);
                    wait.placed += jobs;
                    self.waiting_since
                        .insert((wait.batch, wait.no), Instant::now());
                    ledger.given(given, wait.model);
                }
            }
        }
        let wanted: usize = plan.decisions.iter().map(Decision::jobs).sum();
        if placed < wanted as u64 {
            // Something is not as it was at the last look.
            self.looked_at = None;
        }
        self.shared
            .status
            .send_modify(|status| status.placed += placed);
        self.report(plan.holds);
        done
    }

    /// How long each model's jobs have waited.
    fn age(&mut self) {
        let waiting = &self.waiting;
        self.waiting_since.retain(|slot, _| {
            let mut waiting = waiting.iter();
            waiting.any(|wait| (wait.batch, wait.no) == *slot && wait.queued > 0)
        });
        for wait in &mut self.waiting {
            let since = self.waiting_since.entry((wait.batch, wait.no));
            wait.waited = since.or_insert_with(Instant::now).elapsed();
        }
    }

    /// Reads what is open, who is there, and what waits.
    async fn look(&mut self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let store = shared.batches.store();
        let open = store.batch_open().await?;
        if open.is_empty() {
            self.claims.of(open, &[]).await?;
            self.batches.clear();
            self.waiting.clear();
            return Ok(());
        }
        let nodes = store.node_list().await?;
        shared.ledger().update(&nodes);
        let known: Vec<NodeInstance> = nodes.iter().map(|node| node.instance.clone()).collect();
        self.nodes = nodes.into_iter().filter(is_alive).collect();
        let alive = self.with_inbox().await;
        let ours = self.claims.of(open, &alive).await?;
        self.batches = expire(&shared.batches, ours).await?;
        (self.cancelled)
            .end(&shared.batches, &self.batches, &known)
            .await?;
        let running = self.batches.iter().filter(|batch| {
            batch.status == BatchStatus::InProgress && batch.paused_reason.is_none()
        });
        let asked: Vec<_> = running
            .map(|batch| async move { (batch, store.job_waiting(batch.no).await) })
            .collect();
        let answers: Vec<_> = stream::iter(asked).buffered(ASKED_AT_ONCE).collect().await;
        let (mut waiting, mut failing) = (Vec::new(), Vec::new());
        for (batch, summaries) in answers {
            let summaries = summaries?;
            if summaries.is_empty() && batch.counts.unfinished() > 0 {
                // Nothing waits for a place and nothing has one: what is left waits for answers that are there.
                let freed = store.job_let_go(batch.no).await?;
                if freed > 0 {
                    tracing::info!(batch = %batch.id, freed, "equal jobs are computed that an older node left out");
                    shared.woken.notify_one();
                }
            }
            for (no, found) in waiting_models(batch, &summaries) {
                match found {
                    Ok(wait) => waiting.push(wait),
                    Err(error) => failing.push((batch, no, error)),
                }
            }
        }
        self.waiting = waiting;
        for (batch, no, error) in failing {
            let failed = shared.placer.fail(batch, no, &error).await?;
            (shared.status).send_modify(|status| status.failed += failed as u64);
        }
        Ok(())
    }

    /// The nodes that have an inbox.
    async fn with_inbox(&self) -> Vec<NodeInstance> {
        let queue = self.shared.batches.queue();
        let asked: Vec<_> = (self.nodes.iter())
            .map(|node| async move { (node, queue.depth(&node.instance).await.is_ok()) })
            .collect();
        let answers: Vec<_> = stream::iter(asked).buffered(ASKED_AT_ONCE).collect().await;
        let there = answers.into_iter().filter(|(_, there)| *there);
        there.map(|(node, _)| node.instance.clone()).collect()
    }

    /// The nodes as they are now. One without an inbox takes nothing: its next heartbeat makes one.
    async fn snapshots(&self) -> Vec<NodeSnapshot> {
        let queue = self.shared.batches.queue();
        let asked: Vec<_> = (self.nodes.iter())
            .map(|node| async move { (node, queue.depth(&node.instance).await) })
            .collect();
        let answers: Vec<_> = stream::iter(asked).buffered(ASKED_AT_ONCE).collect().await;
        let mut ledger = self.shared.ledger();
        let mut snapshots = Vec::with_capacity(answers.len());
        for (stored, depth) in answers {
            let mut node = NodeSnapshot::of(stored);
            match depth {
                Ok(depth) => ledger.complete(&mut node, depth),
                Err(error) => {
                    tracing::trace!(%error, node = %node.node, "the node takes nothing now");
                    node.draining = true;
                }
            }
            snapshots.push(node);
        }
        snapshots
    }

    /// Fails jobs of models that no node can load, unless that changes within a few sweeps.
    async fn give_up(&mut self, plan: &Plan) -> Result<(), StoreError> {
        let hopeless = |hold: &Hold| matches!(hold, Hold::LoadFailed | Hold::TooLarge);
        let failed = plan.holds.iter().filter(|(_, _, hold)| hopeless(hold));
        let failed: Vec<(BatchNo, ModelNo)> = failed.map(|(batch, no, _)| (*batch, *no)).collect();
        self.hopeless.retain(|slot, _| failed.contains(slot));
        let patience = self.shared.options.sweep * SWEEPS_OF_HOPE;
        for slot in failed {
            let since = *self.hopeless.entry(slot).or_insert_with(Instant::now);
            let batch = self.batches.iter().find(|batch| batch.no == slot.0);
            let wait = (self.waiting.iter()).find(|wait| (wait.batch, wait.no) == slot);
            let (Some(batch), Some(wait)) = (batch, wait) else {
                continue;
            };
            if since.elapsed() < patience {
                continue;
            }
            if waits_for_room(&self.shared.ledger(), &self.nodes, wait) {
                continue;
            }
            let error = load_error(&self.shared.ledger(), &self.nodes, wait);
            let failed = self.shared.placer.fail(batch, slot.1, &error).await?;
            self.shared
                .status
                .send_modify(|status| status.failed += failed as u64);
            self.looked_at = None;
        }
        Ok(())
    }

    /// Tells nodes to load models.
    async fn wish(&self, plan: &Plan) {
        for decision in &plan.decisions {
            let Decision::Load { node, model, evict } = decision else {
                continue;
            };
            let named = (self.batches.iter())
                .flat_map(|batch| &batch.models)
                .find(|named| named.sha256 == Some(*model));
            let wish = LoadWish {
                model: *model,
                reference: named.map_or_else(String::new, |named| named.requested.clone()),
                revision: named.and_then(|named| named.revision.clone()),
                evict: evict.clone(),
            };
            let queue = self.shared.batches.queue();
            match queue.control(node, Control::Load(wish)).await {
                Ok(()) => {
                    tracing::debug!(%node, %model, "the node should load a model");
                    self.shared.ledger().wished(node, *model, evict);
                    self.shared.status.send_modify(|status| status.loads += 1);
                }
                Err(error) => tracing::debug!(%error, %node, "the wish to load was not heard"),
            }
        }
    }

    fn report(&self, holds: Vec<(BatchNo, ModelNo, Hold)>) {
        let waiting = self.waiting.iter().map(|wait| wait.queued).sum();
        self.shared.status.send_if_modified(|status| {
            let changed = status.waiting != waiting || status.holds != holds;
            (status.waiting, status.holds) = (waiting, holds);
            changed
        });
    }
}

fn is_alive(node: &StoredNode) -> bool {
    !node.lost && node.lease_left_us > 0
}

/// Whether a node could take the model if its disk had room.
fn waits_for_room(ledger: &Ledger, nodes: &[StoredNode], wait: &WaitingModel) -> bool {
    let said = nodes.iter().flat_map(|node| &node.report.failed_loads);
    let mut failed = said.chain(ledger.failures(&wait.model).map(|(_, failed)| failed));
    failed.any(|failed| failed.model == wait.model && failed.is_for_room())
}

/// The error of jobs whose model no node could load: what the last one said. Always one of
/// circumstance, so that a retry runs them.
fn load_error(ledger: &Ledger, nodes: &[StoredNode], wait: &WaitingModel) -> JobError {
    let said = nodes.iter().flat_map(|node| {
        let failed = node.report.failed_loads.iter();
        failed
            .filter(|failed| failed.model == wait.model)
            .map(|failed| (&node.report.name, failed))
    });
    let Some((name, failed)) = ledger.failures(&wait.model).last().or(said.last()) else {
        return JobError::new("out_of_memory", "no node has the memory for the model");
    };
    let message = format!("no node could load the model; {name}: {}", failed.message);
    let error = JobError::new(failed.code.clone(), message.clone());
    match error.is_circumstance() {
        true => error,
        false => JobError::new("model_load_failed", message),
    }
}
