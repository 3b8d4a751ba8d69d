//! What leaves a node's memory for a model that comes.
//!
//! Owns the choice: nothing with jobs, the longest idle first, what nobody waits for before what
//! somebody waits for, and no more than is needed.

use super::places::Placed;
use super::scene::Scene;
use super::{NodeSnapshot, Resident};
use rbee_queue::ModelSha;

/// A model that may leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Leaver {
    pub sha: ModelSha,
    /// Its place among the models that are waited for.
    pub wanted: Option<usize>,
    bytes: u64,
}

/// Which models may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// Those without jobs that nobody waits for.
    Unwanted,
    /// Those without jobs.
    Idle,
}

/// What a model needs on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// So many bytes of those that models may take.
    Bytes { missing: u64 },
    /// All: its size or the node's is unknown, or something of unknown size is there.
    Alone,
}

/// What is missing for a model on a node before anything leaves.
pub(super) fn need(scene: &Scene<'_>, model: usize, node: &NodeSnapshot) -> Need {
    let unknown = node.resident.iter().any(|there| there.bytes == 0);
    match scene.costs.bytes(model) {
        Some(bytes) if node.memory_bytes > 0 && !unknown => {
            let used: u64 = node.resident.iter().map(|there| there.bytes).sum();
            // An estimate may be more than the node has; that the file fits was seen before.
            let bytes = bytes.min(node.memory_bytes);
            Need::Bytes {
                missing: bytes.saturating_sub(node.memory_bytes.saturating_sub(used)),
            }
        }
        _ if node.resident.is_empty() => Need::Bytes { missing: 0 },
        _ => Need::Alone,
    }
}

/// The models that leave a node for another. `None`: there is no room, whatever may leave left.
pub(super) fn make_room(
    scene: &Scene<'_>,
    placed: &Placed,
    (model, at): (usize, usize),
    leaving: Leaving,
) -> Option<Vec<ModelSha>> {
    let node = &scene.nodes[at];
    let idle = |there: &&Resident| is_idle(scene, placed, there, at);
    match need(scene, model, node) {
        Need::Bytes { missing: 0 } => Some(Vec::new()),
        Need::Bytes { missing } => {
            let mut leavers: Vec<(&Resident, Option<usize>)> = (node.resident.iter())
                .filter(idle)
                .map(|there| (there, scene.name(&there.model)))
                .filter(|(_, wanted)| leaving == Leaving::Idle || wanted.is_none())
                .collect();
            leavers.sort_by(|(a, a_wanted), (b, b_wanted)| {
                let by_idle = b.idle.cmp(&a.idle).then(a.model.cmp(&b.model));
                a_wanted.is_some().cmp(&b_wanted.is_some()).then(by_idle)
            });
            let leavers = leavers.into_iter().map(|(there, wanted)| Leaver {
                sha: there.model,
                wanted,
                bytes: there.bytes,
            });
            let chosen = enough(leavers, missing)?;
            Some(chosen.into_iter().map(|leaver| leaver.sha).collect())
        }
        Need::Alone => {
            // Where sizes are unknown, reports may be thin too: an inbox must be empty.
            let all_idle = placed.held[at] == 0 && node.resident.iter().all(|there| idle(&there));
            let unwanted = |there: &Resident| scene.name(&there.model).is_none();
            let may = leaving == Leaving::Idle || node.resident.iter().all(unwanted);
            (all_idle && may).then(|| node.resident.iter().map(|there| there.model).collect())
        }
    }
}

/// True of a model that has no jobs on a node and gets none now.
pub(super) fn is_idle(scene: &Scene<'_>, placed: &Placed, there: &Resident, at: usize) -> bool {
    let gets = |model: usize| placed.has(scene, model, at);
    !there.busy && !there.leaving && !scene.name(&there.model).is_some_and(gets)
}

/// The first ones in order that are enough, without those that the later ones make needless.
/// `None`: all together are not enough.
pub(super) fn enough(order: impl Iterator<Item = Leaver>, missing: u64) -> Option<Vec<Leaver>> {
    let (mut chosen, mut freed) = (Vec::new(), 0_u64);
    for leaver in order {
        if freed >= missing {
            break;
        }
        freed += leaver.bytes;
        chosen.push(leaver);
    }
    if freed < missing {
        return None;
    }
    // The likeliest to be needed again stay first.
    for place in (0..chosen.len()).rev() {
        let bytes = chosen[place].bytes;
        if freed - bytes >= missing {
            freed -= bytes;
            chosen.remove(place);
        }
    }
    Some(chosen)
}

/// A model that may be made to leave.
pub(super) fn leaver(scene: &Scene<'_>, there: &Resident) -> Leaver {
    Leaver {
        sha: there.model,
        wanted: scene.name(&there.model),
        bytes: there.bytes,
    }
}
