//! What a node says of itself, and how it is told what to do.

use super::desk::Desk;
use super::host::{Host, Loaded};
use super::{NodeOptions, STATUS_EVERY};
use crate::engine::EngineStats;
use rbee_queue::{JobError, ModelSha, NodeInstance};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Commands that wait for the node.
const COMMANDS_WAITING: usize = 16;
/// Weight of the newest interval in the measured rate.
const NEWEST: f64 = 0.3;
/// Rates are measured over intervals of this length.
const RATE_INTERVAL: Duration = Duration::from_secs(1);

/// A model that could not be loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadFailure {
    /// The model.
    pub model: ModelSha,
    /// Why.
    pub error: JobError,
}

/// A node at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeStatus {
    /// Its instance id.
    pub node: NodeInstance,
    /// Equal digests compute equal bytes.
    pub numerics: String,
    /// Models in memory.
    pub resident: Vec<ModelSha>,
    /// Models on their way there.
    pub loading: Vec<ModelSha>,
    /// The last load that failed, until one succeeds.
    pub load_failure: Option<LoadFailure>,
    /// Sequences that run at once.
    pub slots: usize,
    /// Jobs a second, measured; 0 while unknown.
    pub jobs_per_s: f64,
    /// It takes no new work.
    pub draining: bool,
    /// Why results cannot be stored now.
    pub blocked: Option<String>,
    /// The engine's figures; `None` without a model.
    pub engine: Option<EngineStats>,
}

/// What a node is told to do.
#[derive(Debug)]
pub enum Command {
    /// Bring a model into memory as soon as no job runs.
    Load(ModelSha),
    /// Take no new work, finish what runs, leave.
    Drain,
    /// Leave now.
    Stop,
}

/// The way to ask and tell a running node. When all its clones are dropped, the node drains.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    instance: NodeInstance,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<NodeStatus>,
}

impl NodeHandle {
    /// The node's instance id.
    pub fn instance(&self) -> &NodeInstance {
        &self.instance
    }

    /// The node's status as it changes. It closes when the node has left.
    pub fn status(&self) -> watch::Receiver<NodeStatus> {
        self.status.clone()
    }

    /// Wishes for a model in memory. It is loaded as soon as no job runs, in place of the one that is there; the status
    /// tells what came of it.
    pub async fn load(&self, model: ModelSha) {
        self.tell(Command::Load(model)).await;
    }

    /// Lets the node take no new work, finish what runs, and leave.
    pub async fn drain(&self) {
        self.tell(Command::Drain).await;
    }

    /// Lets the node leave after the step that runs; unfinished jobs are queued again.
    pub async fn stop(&self) {
        self.tell(Command::Stop).await;
    }

    async fn tell(&self, command: Command) {
        // A node that has left needs no commands.
        let _ = self.commands.send(command).await;
    }
}

/// Keeps the status that everybody sees.
pub struct StatusBoard {
    status: watch::Sender<NodeStatus>,
    blocked: watch::Sender<Option<String>>,
    updated_at: Instant,
    measured_at: Instant,
    ended: u64,
}

impl StatusBoard {
    /// A board, the commands, and the handle to both.
    pub fn new(
        instance: &NodeInstance,
        options: &NodeOptions,
    ) -> (StatusBoard, mpsc::Receiver<Command>, NodeHandle) {
        let (status, seen) = watch::channel(NodeStatus {
            node: instance.clone(),
            numerics: options.numerics.clone(),
            resident: Vec::new(),
            loading: Vec::new(),
            load_failure: None,
            slots: options.slots,
            jobs_per_s: 0.0,
            draining: false,
            blocked: None,
            engine: None,
        });
        let (sender, commands) = mpsc::channel(COMMANDS_WAITING);
        let board = StatusBoard {
            status,
            blocked: watch::Sender::new(None),
            updated_at: Instant::now(),
            measured_at: Instant::now(),
            ended: 0,
        };
        let handle = NodeHandle {
            instance: instance.clone(),
            commands: sender,
            status: seen,
        };
        (board, commands, handle)
    }

    /// Where the committing task says that the store takes nothing.
    pub fn blocked(&self) -> watch::Sender<Option<String>> {
        self.blocked.clone()
    }

    /// Notes what came of a load.
    pub fn loaded(&self, loaded: Loaded) {
        self.status.send_modify(|status| match loaded.outcome {
            Ok(numerics) => {
                status.numerics = numerics;
                status.load_failure = None;
            }
            Err(error) => {
                status.load_failure = Some(LoadFailure {
                    model: loaded.model,
                    error,
                });
            }
        });
    }

    /// Brings the status up to date: at once where a model, the draining or a failure changed, else now and then.
    pub fn update(&mut self, host: &Host, desk: &mut Desk, draining: bool) {
        let resident: Vec<ModelSha> = host.resident().into_iter().collect();
        let loading: Vec<ModelSha> = host.loading().into_iter().collect();
        let seen = self.status.borrow();
        let changed =
            seen.resident != resident || seen.loading != loading || seen.draining != draining;
        drop(seen);
        let now = Instant::now();
        if !changed && now.duration_since(self.updated_at) < STATUS_EVERY {
            return;
        }
        self.updated_at = now;
        self.ended += desk.take_ended();
        let elapsed = now.duration_since(self.measured_at);
        let rate = (elapsed >= RATE_INTERVAL && !desk.is_idle())
            .then(|| self.ended as f64 / elapsed.as_secs_f64());
        if elapsed >= RATE_INTERVAL {
            // An idle node keeps its rate: it is a speed, not a load.
            self.measured_at = now;
            self.ended = 0;
        }
        self.status.send_modify(|status| {
            status.resident = resident;
            status.loading = loading;
            status.draining = draining;
            status.blocked.clone_from(&self.blocked.borrow());
            status.engine = host.engine().map(|engine| engine.stats());
            if let Some(rate) = rate {
                let before = if status.jobs_per_s == 0.0 {
                    rate
                } else {
                    status.jobs_per_s
                };
                status.jobs_per_s = before + (rate - before) * NEWEST;
            }
        });
    }
}
