//! Which node takes how many jobs of which model, and which node loads a model.
//!
//! Owns the decision only. Pure: the same snapshots give the same plan.

mod node;

pub use node::{Loading, NodeSnapshot, Resident};

use rbee_queue::{BatchNo, ModelNo, ModelSha, NodeInstance, Priority};
use std::time::Duration;

/// How often the dispatcher looks, where nothing wakes it earlier.
pub const DISPATCH_INTERVAL: Duration = Duration::from_millis(250);
/// Jobs that one inbox may hold, whatever its node's speed: bounds the queue's memory.
pub const MAX_INBOX: usize = 4_096;

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
    /// The nodes that may run them.
    pub numerics: Numerics,
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
    /// No node has the numerics with which the batch began.
    OtherNumerics,
    /// Every node that may run the jobs failed to load the model.
    LoadFailed,
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
    slots.saturating_add(ahead).min(MAX_INBOX)
}

/// Decides on the waiting models in their order.
///
/// A job goes to a node where its model is resident, the emptiest first. Where no node has the
/// model or loads it, an idle node with nothing to do for an earlier model loads it.
pub fn decide(nodes: &[NodeSnapshot], waiting: &[WaitingModel]) -> Plan {
    let mut plan = Plan::default();
    let mut room: Vec<usize> = nodes
        .iter()
        .map(|node| match node.draining {
            true => 0,
            false => inbox_depth(node.slots, node.jobs_per_s).saturating_sub(node.held),
        })
        .collect();
    let mut used = vec![false; nodes.len()];
    for wait in waiting.iter().filter(|wait| wait.queued > 0) {
        let before = plan.decisions.len();
        match place(nodes, &mut room, &mut used, wait, &mut plan.decisions) {
            Some(hold) => plan.holds.push((wait.batch, wait.no, hold)),
            None => debug_assert!(plan.decisions.len() > before),
        }
    }
    plan
}

fn place(
    nodes: &[NodeSnapshot],
    room: &mut [usize],
    used: &mut [bool],
    wait: &WaitingModel,
    decisions: &mut Vec<Decision>,
) -> Option<Hold> {
    let open = |at: &usize| !nodes[*at].draining;
    let fits = |at: &usize| match &wait.numerics {
        Numerics::Pinned(numerics) => *numerics == nodes[*at].numerics,
        Numerics::Any | Numerics::Open => true,
    };
    let awake: Vec<usize> = (0..nodes.len()).filter(open).collect();
    if awake.is_empty() {
        return Some(Hold::NoNode);
    }
    let here = |at: &usize| {
        let name = &nodes[*at].name;
        wait.pinned.as_ref().is_none_or(|pinned| pinned == name)
    };
    let allowed: Vec<usize> = awake.into_iter().filter(here).collect();
    if allowed.is_empty() {
        return Some(Hold::PinnedNodeAway);
    }
    let able: Vec<usize> = allowed.into_iter().filter(fits).collect();
    if able.is_empty() {
        return Some(Hold::OtherNumerics);
    }
    let resident: Vec<usize> = able
        .iter()
        .copied()
        .filter(|at| nodes[*at].has(&wait.model))
        .collect();
    if resident.is_empty() {
        return load(nodes, &able, used, wait, decisions);
    }
    for at in &resident {
        // A node with work for this model does not make room for a later one.
        used[*at] = true;
    }
    let shares = spread(&resident, room, wait);
    let placed = shares.iter().any(|(_, jobs)| *jobs > 0);
    for (at, jobs) in shares {
        if jobs > 0 {
            room[at] -= jobs;
            decisions.push(Decision::Place {
                node: nodes[at].node.clone(),
                batch: wait.batch,
                no: wait.no,
                jobs,
            });
        }
    }
    (!placed).then_some(Hold::NoRoom)
}

/// Gives each job to the node with the most room. An unpinned batch begins on the numerics of
/// one node only: which one that is is decided by its first placement.
fn spread(resident: &[usize], room: &[usize], wait: &WaitingModel) -> Vec<(usize, usize)> {
    let mut left: Vec<(usize, usize)> = resident.iter().map(|at| (*at, room[*at])).collect();
    if wait.numerics == Numerics::Open {
        let best = left
            .iter()
            .copied()
            .max_by_key(|(at, room)| (*room, usize::MAX - at));
        left = best.into_iter().collect();
    }
    let mut shares: Vec<(usize, usize)> = left.iter().map(|(at, _)| (*at, 0)).collect();
    for _ in 0..wait.queued {
        let best = (0..left.len())
            .filter(|at| left[*at].1 > 0)
            .max_by_key(|at| (left[*at].1, usize::MAX - at));
        let Some(best) = best else {
            break;
        };
        left[best].1 -= 1;
        shares[best].1 += 1;
    }
    shares
}

fn load(
    nodes: &[NodeSnapshot],
    able: &[usize],
    used: &mut [bool],
    wait: &WaitingModel,
    decisions: &mut Vec<Decision>,
) -> Option<Hold> {
    if able.iter().any(|at| nodes[*at].is_loading(&wait.model)) {
        return Some(Hold::WaitsForModel);
    }
    let able: Vec<usize> = able
        .iter()
        .copied()
        .filter(|at| !nodes[*at].refused.contains(&wait.model))
        .collect();
    if able.is_empty() {
        return Some(Hold::LoadFailed);
    }
    let idle = able
        .iter()
        .copied()
        .find(|at| !used[*at] && nodes[*at].held == 0 && nodes[*at].loading.is_empty());
    let Some(idle) = idle else {
        return Some(Hold::WaitsForModel);
    };
    used[idle] = true;
    decisions.push(Decision::Load {
        node: nodes[idle].node.clone(),
        model: wait.model,
        evict: nodes[idle]
            .resident
            .iter()
            .map(|there| there.model)
            .collect(),
    });
    None
}

#[cfg(test)]
mod tests;
