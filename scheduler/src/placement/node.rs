//! A node at one moment, as placement sees it.
//!
//! Owns the way from a node's own report to numbers that a decision needs.

use rbee_queue::node::{DiskModel, LoadStage, StoredNode};
use rbee_queue::{ModelSha, NodeInstance};
use std::time::Duration;

/// A node at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSnapshot {
    /// The node.
    pub node: NodeInstance,
    /// Its name, by which batches are pinned to it.
    pub name: String,
    /// Its digest: equal digests compute equal bytes.
    pub numerics: String,
    /// The type of keys and values in its caches; empty while unknown.
    pub kv: String,
    /// What its models may take, in bytes; 0 while unknown.
    pub memory_bytes: u64,
    /// Models in its devices' memory.
    pub resident: Vec<Resident>,
    /// Models on their way there, wishes that the node has not answered yet included.
    pub loading: Vec<Loading>,
    /// Models that it could not load lately: it is not asked again for a while.
    pub refused: Vec<ModelSha>,
    /// Model files on its disk.
    pub on_disk: Vec<DiskModel>,
    /// Bytes a second at which it loads, measured; 0 while unknown.
    pub load_bytes_per_s: f64,
    /// Sequences that it runs at once.
    pub slots: usize,
    /// Jobs a second, measured; 0 while unknown.
    pub jobs_per_s: f64,
    /// Jobs in its inbox, running ones included.
    pub held: usize,
    /// It takes no new work.
    pub draining: bool,
}

/// A model in a node's memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Resident {
    /// The model.
    pub model: ModelSha,
    /// What it takes with its cache, in bytes.
    pub bytes: u64,
    /// Jobs of it run there or lie in the inbox.
    pub busy: bool,
    /// Since it last had a job.
    pub idle: Duration,
    /// Jobs a second while it ran, measured; 0 while unknown.
    pub jobs_per_s: f64,
    /// Since when it has been there, as far as the caller knows.
    pub here: Duration,
    /// It makes room for another one: it gets no jobs any more.
    pub leaving: bool,
}

impl Resident {
    /// A model of which nothing was measured yet.
    pub fn new(model: ModelSha) -> Resident {
        Resident {
            model,
            bytes: 0,
            busy: false,
            idle: Duration::ZERO,
            jobs_per_s: 0.0,
            here: Duration::ZERO,
            leaving: false,
        }
    }
}

/// A model on its way into a node's memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Loading {
    /// The model.
    pub model: ModelSha,
    /// How much of the way is done, from 0 to 1.
    pub share: f64,
}

impl NodeSnapshot {
    /// A node of which nothing but its name is known.
    pub fn new(node: NodeInstance, name: impl Into<String>) -> NodeSnapshot {
        NodeSnapshot {
            node,
            name: name.into(),
            numerics: String::new(),
            kv: String::new(),
            memory_bytes: 0,
            resident: Vec::new(),
            loading: Vec::new(),
            refused: Vec::new(),
            on_disk: Vec::new(),
            load_bytes_per_s: 0.0,
            slots: 0,
            jobs_per_s: 0.0,
            held: 0,
            draining: false,
        }
    }

    /// What a node's last report says. Its inbox (`held`, `busy` of queued jobs) and what only time
    /// tells (`here`, `leaving`) are for the caller to add.
    pub fn of(stored: &StoredNode) -> NodeSnapshot {
        let report = &stored.report;
        let resident: Vec<Resident> = report
            .resident
            .iter()
            .map(|model| Resident {
                model: model.model,
                bytes: model.bytes,
                busy: model.running > 0,
                idle: Duration::from_millis(model.idle_ms),
                jobs_per_s: model.jobs_per_s,
                here: Duration::ZERO,
                leaving: false,
            })
            .collect();
        NodeSnapshot {
            node: stored.instance.clone(),
            name: report.name.clone(),
            numerics: report.numerics.clone(),
            kv: report.kv.clone(),
            memory_bytes: report
                .devices
                .iter()
                .map(|device| device.memory_bytes)
                .sum(),
            jobs_per_s: resident.iter().map(|model| model.jobs_per_s).sum(),
            resident,
            loading: report
                .loading
                .iter()
                .map(|model| Loading {
                    model: model.model,
                    share: match model.stage {
                        LoadStage::Loading => model.share,
                        LoadStage::Waiting | LoadStage::Fetching => 0.0,
                    },
                })
                .collect(),
            refused: report
                .failed_loads
                .iter()
                .map(|failed| failed.model)
                .collect(),
            on_disk: report.on_disk.clone(),
            load_bytes_per_s: report.load_bytes_per_s,
            slots: report.slots,
            held: report.running,
            // What it cannot store it should not compute either.
            draining: report.draining || stored.drain_wanted || report.blocked.is_some(),
        }
    }

    /// True if its caches are what a batch wants, as far as either says.
    pub fn has_kv(&self, wanted: &str) -> bool {
        self.kv.is_empty() || wanted.is_empty() || self.kv == wanted
    }

    /// True if the model is on its way into memory.
    pub fn is_loading(&self, model: &ModelSha) -> bool {
        self.loading.iter().any(|there| there.model == *model)
    }
}
