//! Which node takes how many jobs of which model, and which node loads a model.
//!
//! Owns the decision only. Pure: the same snapshots give the same plan. What takes time (how long
//! jobs have waited, how long a model has been somewhere) is counted by the caller.
//!
//! `scene` sees, `costs` estimates, `places` gives jobs to nodes that have their model, `loads`
//! brings models to nodes, `room` chooses what leaves for them.

mod costs;
mod loads;
mod names;
mod node;
mod places;
mod room;
mod scene;

pub use costs::{FETCH_BYTES_PER_S, LOAD_BYTES_PER_S, LOAD_PAYS};
pub use loads::{BATCH_PATIENCE, TENURE_SWITCHES};
pub use node::{Loading, NodeSnapshot, Resident};

use places::Placed;
use rbee_queue::{BatchNo, ModelNo, ModelSha, NodeInstance, Priority};
use scene::Scene;
use std::time::Duration;

/// How often the dispatcher looks, where nothing wakes it earlier.
pub const DISPATCH_INTERVAL: Duration = Duration::from_millis(250);
/// Jobs that one inbox may hold, whatever its node's speed: bounds the queue's memory.
pub const MAX_INBOX: usize = 4_096;
/// Of that, batch jobs leave this to those that somebody waits for.
pub const KEPT_FOR_INTERACTIVE: usize = 256;

/// Which nodes may run a batch's jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Numerics {
    /// All: the batch gave the promise of equal bytes up.
    Any,
    /// All, but the first placement decides for the rest.
    Open,
    /// Those with this digest.
    Pinned(String),
}

/// Jobs that wait for one model of one batch. Given in the order in which they are to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingModel {
    /// The batch.
    pub batch: BatchNo,
    /// The model's place in the batch.
    pub no: ModelNo,
    /// The model.
    pub model: ModelSha,
    /// Jobs that wait.
    pub queued: u64,
    /// Jobs that nodes have.
    pub placed: u64,
    /// How long they have waited without one of them getting a place.
    pub waited: Duration,
    /// The nodes that may run them.
    pub numerics: Numerics,
    /// The type of keys and values that the batch wants; empty for any.
    pub kv: String,
    /// The name of the only node that may run them, where there is one.
    pub pinned: Option<String>,
    /// Whose jobs go first.
    pub priority: Priority,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Place jobs of a model on a node that has it.
    Place {
        /// The node.
        node: NodeInstance,
        /// The batch.
        batch: BatchNo,
        /// The model's place in the batch.
        no: ModelNo,
        /// How many.
        jobs: usize,
    },
    /// Bring a model into a node's memory.
    Load {
        /// The node.
        node: NodeInstance,
        /// The model.
        model: ModelSha,
        /// Idle models that make room for it.
        evict: Vec<ModelSha>,
    },
}

impl Decision {
    /// How many jobs it gives away.
    pub fn jobs(&self) -> usize {
        match self {
            Decision::Place { jobs, .. } => *jobs,
            Decision::Load { .. } => 0,
        }
    }
}

/// Why waiting jobs were given no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// There is no node that takes work.
    NoNode,
    /// The node to which the batch is pinned is not there.
    PinnedNodeAway,
    /// No node has the numerics with which the batch began, or the caches that it wants.
    OtherNumerics,
    /// Every node that may run the jobs failed to load the model.
    LoadFailed,
    /// No node that may run the jobs has the memory for the model.
    TooLarge,
    /// A node is loading the model, or every node is busy with other models.
    WaitsForModel,
    /// The nodes that have the model are full.
    NoRoom,
}

/// What to do now, and what has to wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do, in order.
    pub decisions: Vec<Decision>,
    /// Models whose jobs got no place at all, with the reason.
    pub holds: Vec<(BatchNo, ModelNo, Hold)>,
}

/// How many jobs an inbox should hold: a little more than the node runs at once, so that it never
/// waits for the dispatcher.
pub fn inbox_depth(slots: usize, jobs_per_s: f64) -> usize {
    let ahead = jobs_per_s.max(0.0) * DISPATCH_INTERVAL.as_secs_f64() * 2.0;
    // A float beyond usize saturates, and is cut anyway.
    let ahead = (ahead.ceil() as usize).max(slots / 2 + 1);
    slots
        .saturating_add(ahead)
        .min(MAX_INBOX - KEPT_FOR_INTERACTIVE)
}

/// How many jobs an inbox may hold when somebody waits for their answers: the node lets them
/// overtake, so a full inbox keeps nobody waiting.
pub fn interactive_depth(slots: usize, jobs_per_s: f64) -> usize {
    let depth = inbox_depth(slots, jobs_per_s);
    depth.saturating_add(slots.max(1)).min(MAX_INBOX)
}

/// Decides what to do now.
///
/// - Jobs go to nodes that have their model, each to the one that is expected to finish it first;
///   a slow node gets none that a fast one would finish earlier.
/// - Interactive jobs go before batch ones and have room of their own. Batches of one priority
///   share: the next place is for the batch that has the fewest.
/// - A model is loaded where it has no node yet, or where its work would last more than
///   [`LOAD_PAYS`] times the load even with that help, on nodes that have idle slots.
/// - A model that has waited for [`BATCH_PATIENCE`] takes a place that is not idle: the model that
///   has been longest there gets no more jobs, and is evicted when it is idle.
pub fn decide(nodes: &[NodeSnapshot], waiting: &[WaitingModel]) -> Plan {
    let scene = Scene::new(nodes, waiting);
    let mut placed = Placed::new(&scene);
    places::place(&scene, &mut placed);
    let loads = loads::load(&scene, &mut placed);
    let mut plan = Plan::default();
    for (entry, wait) in waiting.iter().enumerate() {
        let mut any = false;
        for (node, jobs) in placed.of(entry) {
            any = true;
            plan.decisions.push(Decision::Place {
                node: nodes[node].node.clone(),
                batch: wait.batch,
                no: wait.no,
                jobs,
            });
        }
        if let (false, Some(hold)) = (any, scene.hold(entry, &loads)) {
            plan.holds.push((wait.batch, wait.no, hold));
        }
    }
    plan.decisions
        .extend(loads.into_iter().map(|load| Decision::Load {
            node: nodes[load.node].node.clone(),
            model: scene.models[load.model],
            evict: load.evict,
        }));
    plan
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
