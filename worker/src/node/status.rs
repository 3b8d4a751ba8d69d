//! What a node says of itself, and how it is told what to do.

use super::ask::Ask;
use super::desk::Desk;
use super::disk::Disk;
use super::host::{Host, Loaded};
use super::rates::Rates;
use super::{Figures, NodeOptions, STATUS_EVERY};
use crate::engine::EngineStats;
use rbee_queue::node::{Device, FailedLoad, ResidentModel};
use rbee_queue::queue::LoadWish;
use rbee_queue::{JobError, ModelSha, NodeInstance, NodeReport};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Commands that wait for the node.
const COMMANDS_WAITING: usize = 16;
/// How long a failed load is told.
const FAILURE_KEPT: Duration = Duration::from_secs(60);
/// Failed loads that are told at most.
const FAILURES_MAX: usize = 16;

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
    /// Its instance id: another one after a lease was lost.
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
    /// The engines' figures together; `None` without a model.
    pub engine: Option<EngineStats>,
    /// What it says to the store with each heartbeat.
    pub report: NodeReport,
}

/// What a node is told to do.
#[derive(Debug)]
pub enum Command {
    /// Bring a model into memory in place of all that are there, as soon as they are idle.
    Replace(ModelSha),
    /// Bring a model into memory.
    Load(LoadWish),
    /// Answer a question.
    Ask(Box<Ask>),
    /// Rest for this reason, or go on.
    Rest(Option<String>),
    /// Take no new work, finish what runs, leave.
    Drain,
    /// Leave now.
    Stop,
}

/// The way to ask and tell a running node. When all its clones are dropped, the node drains.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<NodeStatus>,
    figures: Figures,
}

impl NodeHandle {
    /// What it has measured since it began.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// The node's instance id: another one after a lease was lost.
    pub fn instance(&self) -> NodeInstance {
        self.status.borrow().node.clone()
    }

    /// The node's status as it changes. It closes when the node has left.
    pub fn status(&self) -> watch::Receiver<NodeStatus> {
        self.status.clone()
    }

    /// Wishes for a model in memory. It is loaded in place of those that are there as soon as they have no jobs; the
    /// status tells what came of it.
    pub async fn load(&self, model: ModelSha) {
        self.tell(Command::Replace(model)).await;
    }

    /// Wishes for a model in memory beside those that are there.
    pub async fn load_beside(&self, wish: LoadWish) {
        self.tell(Command::Load(wish)).await;
    }

    /// Asks something beside the inbox.
    pub async fn ask(&self, ask: Ask) {
        self.tell(Command::Ask(Box::new(ask))).await;
    }

    /// Lets the node rest for a reason: it takes no new work, and gives back within two seconds what it has. `None`: it
    /// works again.
    pub async fn rest(&self, reason: Option<String>) {
        self.tell(Command::Rest(reason)).await;
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
    report: watch::Sender<NodeReport>,
    blocked: watch::Sender<Option<String>>,
    rates: Rates,
    failures: VecDeque<(Instant, FailedLoad)>,
    resting: Option<String>,
    updated_at: Instant,
}

impl StatusBoard {
    /// A board, the commands, and the handle to both.
    pub fn new(
        instance: &NodeInstance,
        options: &NodeOptions,
    ) -> (StatusBoard, mpsc::Receiver<Command>, NodeHandle) {
        let report = first_report(options);
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
            report: report.clone(),
        });
        let (sender, commands) = mpsc::channel(COMMANDS_WAITING);
        let board = StatusBoard {
            status,
            report: watch::Sender::new(report),
            blocked: watch::Sender::new(None),
            rates: Rates::new(),
            failures: VecDeque::new(),
            resting: None,
            updated_at: Instant::now(),
        };
        let handle = NodeHandle {
            commands: sender,
            status: seen,
            figures: Figures::default(),
        };
        (board, commands, handle)
    }

    /// The node is another instance from now on.
    pub fn reborn(&self, instance: &NodeInstance) {
        self.blocked.send_replace(None);
        self.status
            .send_modify(|status| status.node = instance.clone());
    }

    /// Where the committing task says that the store takes nothing.
    pub fn blocked(&self) -> watch::Sender<Option<String>> {
        self.blocked.clone()
    }

    /// The report as it changes.
    pub fn report(&self) -> watch::Receiver<NodeReport> {
        self.report.subscribe()
    }

    /// The node rests from now on, or not any more.
    pub fn rest(&mut self, reason: Option<String>) {
        self.resting = reason;
    }

    /// Notes what came of a load.
    pub fn loaded(&mut self, loaded: Loaded) {
        let model = loaded.model;
        self.failures.retain(|(_, failed)| failed.model != model);
        match loaded.outcome {
            Ok(numerics) => self.status.send_modify(|status| {
                status.numerics = numerics;
                status.load_failure = None;
            }),
            Err(error) => {
                tracing::warn!(%model, code = error.code, "a model was not loaded: {}", error.message);
                let failed = FailedLoad {
                    model,
                    code: error.code.clone(),
                    message: error.message.clone(),
                };
                self.failures.push_back((Instant::now(), failed));
                self.failures
                    .drain(..self.failures.len().saturating_sub(FAILURES_MAX));
                let failure = LoadFailure { model, error };
                self.status
                    .send_modify(|status| status.load_failure = Some(failure));
            }
        }
    }

    /// Brings the status up to date: at once where a model or the draining changed (then it is true), else now and then.
    pub fn update(&mut self, host: &Host, desk: &Desk, disk: &Disk, draining: bool) -> bool {
        let resident: Vec<ModelSha> = host.residents().map(|resident| resident.model).collect();
        let loading: Vec<ModelSha> = host.loading().iter().map(|loading| loading.model).collect();
        let seen = self.status.borrow();
        let changed =
            seen.resident != resident || seen.loading != loading || seen.draining != draining;
        drop(seen);
        let now = Instant::now();
        if !changed && now.duration_since(self.updated_at) < STATUS_EVERY {
            return false;
        }
        self.updated_at = now;
        self.rates.measure(desk.models(), host.residents(), now);
        self.failures
            .retain(|(at, failed)| now.duration_since(*at) < FAILURE_KEPT.min(failed.rest()));
        let report = self.reported(host, desk, disk, draining, now);
        self.report.send_replace(report.clone());
        self.status.send_modify(|status| {
            status.jobs_per_s = resident
                .iter()
                .map(|model| self.rates.of(model).jobs_per_s)
                .sum();
            status.resident = resident;
            status.loading = loading;
            status.draining = draining;
            status.blocked.clone_from(&report.blocked);
            status.engine = host
                .residents()
                .map(|resident| resident.stats())
                .reduce(sum);
            status.report = report;
        });
        changed
    }

    fn reported(
        &self,
        host: &Host,
        desk: &Desk,
        disk: &Disk,
        draining: bool,
        now: Instant,
    ) -> NodeReport {
        let before = self.report.borrow().clone();
        let resident = host.residents().map(|resident| {
            let (rate, work) = (
                self.rates.of(&resident.model),
                desk.models().get(&resident.model),
            );
            let idle_since = match work {
                Some(work) if work.running + work.pending > 0 => None,
                Some(work) => Some(work.idle_since.max(resident.loaded_at)),
                None => Some(resident.loaded_at),
            };
            ResidentModel {
                model: resident.model,
                bytes: resident.bytes,
                running: work.map_or(0, |work| work.running),
                jobs_per_s: rate.jobs_per_s,
                tokens_per_s: rate.tokens_per_s,
                idle_ms: idle_since.map_or(0, |since| now.duration_since(since).as_millis() as u64),
            }
        });
        let all_sound = host.residents().all(|resident| resident.reproducible);
        NodeReport {
            numerics: self.status.borrow().numerics.clone(),
            reproducible: all_sound,
            resident: resident.collect(),
            loading: host.loading(),
            failed_loads: (self.failures.iter())
                .map(|(_, failed)| failed.clone())
                .collect(),
            on_disk: disk.found(),
            load_bytes_per_s: host.load_speed(),
            running: desk.jobs(),
            draining,
            resting: self.resting.clone(),
            blocked: self.blocked.borrow().clone(),
            steps: host.steps(),
            ..before
        }
    }
}

fn first_report(options: &NodeOptions) -> NodeReport {
    let device = options.memory.map(|memory_bytes| Device {
        name: options.device.to_string(),
        memory_bytes,
    });
    NodeReport {
        name: options.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        address: options.address.clone(),
        devices: device.into_iter().collect(),
        slots: options.slots,
        numerics: options.numerics.clone(),
        kv: options.kv.clone(),
        reproducible: options.device.reproducible(),
        ..NodeReport::default()
    }
}

/// The figures of two engines together.
fn sum(a: EngineStats, b: EngineStats) -> EngineStats {
    EngineStats {
        prompt_tokens: a.prompt_tokens + b.prompt_tokens,
        completion_tokens: a.completion_tokens + b.completion_tokens,
        prompt_tokens_per_s: a.prompt_tokens_per_s + b.prompt_tokens_per_s,
        completion_tokens_per_s: a.completion_tokens_per_s + b.completion_tokens_per_s,
        steps: a.steps + b.steps,
        step_ms: a.step_ms.max(b.step_ms),
        slots: a.slots + b.slots,
        slots_used: a.slots_used + b.slots_used,
        sequences_waiting: a.sequences_waiting + b.sequences_waiting,
        jobs: a.jobs + b.jobs,
        kv_blocks: a.kv_blocks + b.kv_blocks,
        kv_blocks_used: a.kv_blocks_used + b.kv_blocks_used,
        preemptions: a.preemptions + b.preemptions,
        shared_tokens: a.shared_tokens + b.shared_tokens,
    }
}
