//! What the leader remembers of nodes beside their reports.
//!
//! Owns memory only: a new leader begins with empty books, and they fill by themselves.

use crate::placement::{Loading, NodeSnapshot};
use crate::placer::Given;
use rbee_queue::node::{FailedLoad, StoredNode};
use rbee_queue::queue::{Depth, Held};
use rbee_queue::{Batch, JobRef, ModelSha, NodeInstance};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;

/// A wish that a node's reports do not show after this long is said again.
const WISH_AGAIN: Duration = Duration::from_secs(10);
/// Weight of the newest interval in the measured rate.
const NEWEST: f64 = 0.3;
/// The rate is measured over intervals of at least this length.
const RATE_INTERVAL: Duration = Duration::from_millis(200);

/// What the leader remembers.
#[derive(Default)]
pub(super) struct Ledger {
    nodes: HashMap<NodeInstance, NodeBook>,
}

#[derive(Default)]
struct NodeBook {
    name: String,
    /// Jobs that were given to it and may still be in its inbox, with their models.
    jobs: HashMap<JobRef, (ModelSha, Instant)>,
    /// Models of jobs in its inbox that another leader gave it.
    inherited: HashSet<ModelSha>,
    wishes: HashMap<ModelSha, Instant>,
    /// Models that leave for one that was wished for, until that one is there.
    leaving: HashMap<ModelSha, Vec<ModelSha>>,
    /// Since when models are in memory, as far as this leader saw.
    here: HashMap<ModelSha, Instant>,
    failures: HashMap<ModelSha, (Instant, FailedLoad)>,
    /// Failed loads in the last report: only what is new there is a new failure.
    reported: HashSet<ModelSha>,
    rate: Option<Rate>,
}

/// Jobs a second that leave an inbox.
struct Rate {
    since: Instant,
    held: usize,
    given: usize,
    per_s: f64,
}

impl Ledger {
    /// Takes reports in, and forgets nodes that are gone.
    pub fn update(&mut self, nodes: &[StoredNode]) {
        let now = Instant::now();
        self.nodes
            .retain(|node, _| nodes.iter().any(|stored| stored.instance == *node));
        for stored in nodes {
            let book = self.nodes.entry(stored.instance.clone()).or_default();
            let report = &stored.report;
            book.name.clone_from(&report.name);
            let resident = |model: &ModelSha| {
                let mut resident = report.resident.iter();
                resident.any(|there| there.model == *model)
            };
            book.here.retain(|model, _| resident(model));
            for there in &report.resident {
                book.here.entry(there.model).or_insert(now);
                book.leaving.remove(&there.model);
                book.wishes.remove(&there.model);
                book.failures.remove(&there.model);
            }
            for loading in &report.loading {
                book.wishes.remove(&loading.model);
            }
            let mut reported = HashSet::new();
            for failed in &report.failed_loads {
                reported.insert(failed.model);
                if !book.reported.contains(&failed.model) {
                    book.wishes.remove(&failed.model);
                    book.leaving.remove(&failed.model);
                    book.failures.insert(failed.model, (now, failed.clone()));
                }
            }
            book.reported = reported;
            book.failures
                .retain(|_, (since, failed)| now.duration_since(*since) < failed.rest());
        }
    }

    /// Adds what is known to a snapshot, and how full the inbox is.
    pub fn complete(&mut self, node: &mut NodeSnapshot, depth: Depth) {
        let now = Instant::now();
        node.held = depth.waiting + depth.running;
        let Some(book) = self.nodes.get_mut(&node.node) else {
            return;
        };
        node.jobs_per_s = node.jobs_per_s.max(book.measure(now, node.held));
        if node.held == 0 {
            book.jobs.clear();
            book.inherited.clear();
        }
        let given = book.jobs.values().map(|(model, _)| model);
        let given: HashSet<&ModelSha> = given.chain(&book.inherited).collect();
        for there in &mut node.resident {
            there.busy |= given.contains(&there.model);
            let since = book.here.get(&there.model);
            there.here = since.map_or(Duration::ZERO, |since| now.duration_since(*since));
        }
        for (model, since) in &book.wishes {
            if now.duration_since(*since) < WISH_AGAIN && !node.is_loading(model) {
                node.loading.push(Loading {
                    model: *model,
                    share: 0.0,
                });
            }
        }
        let comes = |model: &ModelSha| node.loading.iter().any(|there| there.model == *model);
        book.leaving.retain(|model, _| comes(model));
        for there in &mut node.resident {
            let mut leaving = book.leaving.values().flatten();
            there.leaving = leaving.any(|model| *model == there.model);
        }
        for model in book.failures.keys() {
            if !node.refused.contains(model) {
                node.refused.push(*model);
            }
        }
    }

    /// Notes placed jobs.
    pub fn given(&mut self, given: &Given, model: ModelSha) {
        let book = self.nodes.entry(given.node.clone()).or_default();
        let now = Instant::now();
        book.jobs
            .extend(given.jobs.iter().map(|held| (held.job, (model, now))));
        if let Some(rate) = &mut book.rate {
            rate.given += given.jobs.len();
        }
    }

    /// Notes a wish, and what leaves for it.
    pub fn wished(&mut self, node: &NodeInstance, model: ModelSha, evict: &[ModelSha]) {
        let book = self.nodes.entry(node.clone()).or_default();
        book.leaving.insert(model, evict.to_vec());
        book.wishes.insert(model, Instant::now());
    }

    /// Holds the books against what an inbox had at a time; what was given since is kept.
    pub fn compare(
        &mut self,
        node: &NodeInstance,
        (at, there): (Instant, &[Held]),
        batches: &[Batch],
    ) {
        let book = self.nodes.entry(node.clone()).or_default();
        let there: HashSet<JobRef> = there.iter().map(|held| held.job).collect();
        book.jobs
            .retain(|job, (_, since)| *since >= at || there.contains(job));
        book.inherited.clear();
        for job in there.iter().filter(|job| !book.jobs.contains_key(job)) {
            let batch = batches.iter().find(|batch| batch.no == job.batch);
            let models = batch.into_iter().flat_map(|batch| &batch.models);
            book.inherited
                .extend(models.filter_map(|model| model.sha256));
        }
    }

    /// The failed loads of a model that nodes still rest from, with the nodes' names; the newest last.
    pub fn failures(&self, model: &ModelSha) -> impl Iterator<Item = (&String, &FailedLoad)> {
        let books = self.nodes.values();
        let mut failures: Vec<_> = books
            .filter_map(|book| Some((&book.name, book.failures.get(model)?)))
            .collect();
        failures.sort_by_key(|(_, (since, _))| *since);
        (failures.into_iter()).map(|(name, (_, failed))| (name, failed))
    }
}

impl NodeBook {
    fn measure(&mut self, now: Instant, held: usize) -> f64 {
        let rate = self.rate.get_or_insert(Rate {
            since: now,
            held,
            given: 0,
            per_s: 0.0,
        });
        let passed = now.duration_since(rate.since);
        if passed >= RATE_INTERVAL {
            let left = (rate.held + rate.given).saturating_sub(held);
            let newest = left as f64 / passed.as_secs_f64();
            // An empty inbox says nothing of how fast the node is.
            if left > 0 || held > 0 {
                rate.per_s += (newest - rate.per_s) * if rate.per_s == 0.0 { 1.0 } else { NEWEST };
            }
            (rate.since, rate.held, rate.given) = (now, held, 0);
        }
        rate.per_s
    }
}
