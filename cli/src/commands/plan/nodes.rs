//! What the nodes of a server make of a plan: whose memory holds a model, who would get it, how fast they are.

use std::time::Duration;

use rbee_queue::node::NodeState;
use rbee_queue::{BatchNo, BatchSpec, ModelSha, Priority};
use rbee_scheduler::http::types::{Listing, NodeView};
use rbee_scheduler::{Decision, Hold, NodeSnapshot, Numerics, WaitingModel, decide};
use reqwest::Method;

use super::Planned;
use super::estimate::Speed;
use crate::client::Client;
use crate::commands::Context;
use crate::engine_args::EngineArgs;
use crate::engine_host;
use crate::failure::Failure;

/// What a node would do with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It has the model in memory, and gets jobs at once.
    Runs,
    /// It would load the model.
    Loads,
    /// It could, and is not needed or not free.
    Waits,
    /// Its memory does not hold the model.
    TooSmall,
    /// It computes other bytes, or keeps keys and values otherwise.
    Other,
    /// It takes no work.
    Away,
}

impl Part {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Part::Runs => "runs",
            Part::Loads => "loads",
            Part::Waits => "waits",
            Part::TooSmall => "too_small",
            Part::Other => "other_numerics",
            Part::Away => "away",
        }
    }
}

/// One node.
pub struct NodePlan {
    pub name: String,
    pub memory_bytes: u64,
    /// One for each model.
    pub parts: Vec<Part>,
    /// Measured generated tokens a second of each model, where it is known.
    pub tokens_per_s: Vec<Option<f64>>,
    jobs_per_s: Vec<Option<f64>>,
}

/// All nodes of a server.
pub struct Cluster {
    pub nodes: Vec<NodePlan>,
    /// Why a model's jobs would wait.
    pub holds: Vec<Option<Hold>>,
}

impl Cluster {
    /// The speed of all nodes that have measured one model.
    pub fn speed(&self, model: usize) -> Option<Speed> {
        let sum = |of: fn(&NodePlan) -> &Vec<Option<f64>>| -> f64 {
            self.nodes.iter().filter_map(|node| of(node)[model]).sum()
        };
        let jobs_per_s = sum(|node| &node.jobs_per_s);
        let output_tokens_per_s = sum(|node| &node.tokens_per_s);
        (jobs_per_s > 0.0 && output_tokens_per_s > 0.0).then_some(Speed::Told {
            jobs_per_s,
            output_tokens_per_s,
        })
    }
}

/// Asks the server for its nodes, and decides as its coordinator would if nothing else waited.
pub async fn ask(
    context: &Context,
    spec: &BatchSpec,
    planned: &[Planned],
    engine: &EngineArgs,
) -> Result<Cluster, Failure> {
    let client = Client::open(context)?;
    let request = client.request(Method::GET, &["v1", "nodes"]);
    let listed: Listing<NodeView> = client.json(request).await?;
    let alive: Vec<&NodeView> = (listed.data.iter())
        .filter(|view| view.state != NodeState::Lost)
        .collect();
    let mut snapshots: Vec<NodeSnapshot> = alive
        .iter()
        .map(|view| NodeSnapshot::of(&view.node))
        .collect();
    for (snapshot, view) in snapshots.iter_mut().zip(&alive) {
        snapshot.draining |= view.state == NodeState::Draining;
        // What others have there now will be over some time.
        snapshot.held = 0;
        for resident in &mut snapshot.resident {
            resident.busy = false;
        }
    }
    let waiting = waiting(spec, planned);
    let found: Vec<WaitingModel> = waiting.iter().flatten().cloned().collect();
    let decided = decide(&snapshots, &found);
    let nodes = alive.iter().zip(&snapshots).map(|(view, snapshot)| {
        let parts = planned.iter().zip(&waiting).map(|(planned, waits)| {
            let begun = waits.as_ref().and_then(|waits| {
                decided
                    .decisions
                    .iter()
                    .find_map(|decision| part_of(decision, snapshot, waits))
            });
            begun.unwrap_or_else(|| idle_part(view, snapshot, planned, spec, engine))
        });
        let resident = |sha: Option<ModelSha>| {
            let here = &view.node.report.resident;
            here.iter().find(|there| Some(there.model) == sha)
        };
        let known = |speed: f64| (speed > 0.0).then_some(speed);
        let shas = || planned.iter().map(|planned| planned.model.sha256);
        NodePlan {
            name: view.node.report.name.clone(),
            memory_bytes: snapshot.memory_bytes,
            parts: parts.collect(),
            tokens_per_s: shas()
                .map(|sha| known(resident(sha)?.tokens_per_s))
                .collect(),
            jobs_per_s: shas().map(|sha| known(resident(sha)?.jobs_per_s)).collect(),
        }
    });
    let holds = waiting.iter().map(|waits| {
        let waits = waits.as_ref()?;
        let held = decided.holds.iter().find(|(_, no, _)| *no == waits.no)?;
        Some(held.2)
    });
    Ok(Cluster {
        nodes: nodes.collect(),
        holds: holds.collect(),
    })
}

fn waiting(spec: &BatchSpec, planned: &[Planned]) -> Vec<Option<WaitingModel>> {
    let waits = |planned: &Planned| {
        let queued = planned.figures.work().jobs;
        let model = planned.model.sha256?;
        (queued > 0).then(|| WaitingModel {
            batch: BatchNo(0),
            no: planned.model.no,
            model,
            queued,
            placed: 0,
            waited: Duration::ZERO,
            numerics: match spec.any_numerics {
                true => Numerics::Any,
                false => Numerics::Open,
            },
            kv: spec.kv.clone(),
            pinned: None,
            priority: Priority::Batch,
        })
    };
    planned.iter().map(waits).collect()
}

/// What a decision gives a node to do for one model.
fn part_of(decision: &Decision, node: &NodeSnapshot, waits: &WaitingModel) -> Option<Part> {
    match decision {
        Decision::Place { node: at, no, .. } if *at == node.node && *no == waits.no => {
            Some(Part::Runs)
        }
        Decision::Load {
            node: at, model, ..
        } if *at == node.node && *model == waits.model => Some(Part::Loads),
        _ => None,
    }
}

/// Why a node got nothing to do.
fn idle_part(
    view: &NodeView,
    node: &NodeSnapshot,
    planned: &Planned,
    spec: &BatchSpec,
    engine: &EngineArgs,
) -> Part {
    if node.draining {
        return Part::Away;
    }
    if !node.kv.is_empty() && node.kv != spec.kv {
        return Part::Other;
    }
    let mut options = engine_host::load_options(engine, Some(node.memory_bytes), true);
    options.slots = view.node.report.slots;
    let fits = match &planned.outline {
        Some(outline) if node.memory_bytes > 0 => outline.memory(&options).is_ok(),
        // Nobody knows.
        _ => true,
    };
    match fits {
        true => Part::Waits,
        false => Part::TooSmall,
    }
}
