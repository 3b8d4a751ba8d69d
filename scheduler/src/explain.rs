//! Why a batch's jobs wait, in one sentence.

use rbee_queue::node::{LoadStage, NodeState};
use rbee_queue::store::JobSummary;
use rbee_queue::{Batch, BatchModel, BatchStatus, ModelSha, StoredNode};

/// Why jobs of a batch wait, from what the store says. `None`: nothing waits, or what waits is
/// about to be placed.
pub fn explain(batch: &Batch, waiting: &[JobSummary], nodes: &[StoredNode]) -> Option<String> {
    if matches!(
        batch.status,
        BatchStatus::Cancelling | BatchStatus::Finalizing
    ) {
        let placed: u64 = waiting.iter().map(|summary| summary.placed).sum();
        return (placed > 0)
            .then(|| format!("{placed} jobs are still being stopped on their nodes"));
    }
    if batch.status == BatchStatus::Validating {
        return Some("its file is read first, and there must be room for its jobs".to_owned());
    }
    if batch.status != BatchStatus::InProgress {
        return None;
    }
    if let Some(reason) = &batch.paused_reason {
        return Some(format!("paused: {reason}"));
    }
    let mut waits = waiting.iter().filter(|summary| summary.queued > 0);
    waits.find_map(|summary| {
        let model = (batch.models.iter()).find(|model| model.no == summary.model)?;
        let sha = model.sha256?;
        why(batch, model, &sha, nodes)
    })
}

fn why(batch: &Batch, model: &BatchModel, sha: &ModelSha, nodes: &[StoredNode]) -> Option<String> {
    let name = &model.requested;
    let alive = |node: &&StoredNode| node.state() != NodeState::Lost;
    let mut able: Vec<&StoredNode> = nodes.iter().filter(alive).collect();
    if able.is_empty() {
        return Some("no node is alive".to_owned());
    }
    if let Some(pinned) = &batch.pinned_node {
        able.retain(|node| node.report.name == *pinned);
        if able.is_empty() {
            return Some(format!(
                "node {pinned}, to which the batch is pinned, is not there"
            ));
        }
    }
    if let (Some(numerics), false) = (&model.numerics, batch.spec.any_numerics) {
        able.retain(|node| node.report.numerics == *numerics);
        if able.is_empty() {
            return Some(format!(
                "no node is alive that computes the same bytes as those that began with {name} (numerics {numerics})"
            ));
        }
    }
    let kv = &batch.spec.kv;
    able.retain(|node| node.report.kv.is_empty() || node.report.kv == *kv);
    if able.is_empty() {
        return Some(format!(
            "no node is alive that keeps keys and values as {kv}: start one with --kv {kv}"
        ));
    }
    let resting = able.iter().find_map(|node| node.report.resting.clone());
    able.retain(|node| node.state() != NodeState::Draining);
    if able.is_empty() {
        return Some(match resting {
            Some(reason) => format!("the nodes that could run it rest: {reason}"),
            None => "all nodes that could run it are draining".to_owned(),
        });
    }
    if let Some(blocked) = able.iter().find_map(|node| node.report.blocked.as_ref())
        && able.iter().all(|node| node.report.blocked.is_some())
    {
        return Some(format!("results cannot be stored: {blocked}"));
    }
    let resident =
        |node: &&&StoredNode| node.report.resident.iter().any(|there| there.model == *sha);
    let has: Vec<&&StoredNode> = able.iter().filter(resident).collect();
    if !has.is_empty() {
        let full = has.iter().all(|node| node.state() == NodeState::Busy);
        return full.then(|| format!("all nodes that have {name} in memory are full"));
    }
    Some(too_large(name, sha, &able).unwrap_or_else(|| loading(name, sha, &able)))
}

/// Not even the model's file fits into any node's memory.
fn too_large(name: &str, sha: &ModelSha, able: &[&StoredNode]) -> Option<String> {
    let files = able.iter().flat_map(|node| &node.report.on_disk);
    let bytes = files
        .filter(|file| file.model == *sha)
        .map(|file| file.bytes)
        .max()?;
    let memory_of = |node: &&StoredNode| -> u64 {
        node.report
            .devices
            .iter()
            .map(|device| device.memory_bytes)
            .sum()
    };
    let most = able.iter().map(memory_of).max()?;
    // 0: unknown.
    let known = able.iter().all(|node| memory_of(node) > 0);
    (known && bytes > most).then(|| {
        format!(
            "{name} does not fit: its file has {bytes} bytes, and no node may use more than {most}"
        )
    })
}

/// No node has the model: how far it is on its way.
fn loading(name: &str, sha: &ModelSha, able: &[&StoredNode]) -> String {
    for node in able {
        let at = &node.report.name;
        let mut loading = node.report.loading.iter();
        let Some(found) = loading.find(|loading| loading.model == *sha) else {
            continue;
        };
        // A share is from 0 to 1, so its percentage fits.
        let percent = (found.share.clamp(0.0, 1.0) * 100.0) as u32;
        return match found.stage {
            LoadStage::Waiting => {
                format!("{at} loads {name} as soon as other jobs have ended there")
            }
            LoadStage::Fetching => format!("{at} is fetching {name} ({percent} %)"),
            LoadStage::Loading => format!("{name} is being loaded on {at} ({percent} %)"),
        };
    }
    for node in able {
        let mut failed = node.report.failed_loads.iter();
        if let Some(failed) = failed.find(|failed| failed.model == *sha) {
            let at = &node.report.name;
            return format!("{at} could not load {name}: {}", failed.message);
        }
    }
    format!("no node has {name} in memory yet, it is loaded when a node has room for it")
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
