//! A node as the coordinator knows it: what it says of itself, and what the store adds.
//!
//! Owns the types. A node writes its report with each heartbeat; the store keeps it beside the lease.

use crate::ids::{ModelSha, NodeInstance};
use crate::record::DISK_FULL;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A node that failed to load a model is not asked for it again for this long.
const LOAD_REST: Duration = Duration::from_secs(300);
/// The same where its disk had no room.
const DISK_REST: Duration = Duration::from_secs(10);

/// A place where models can be in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// `cpu`, `cuda:0`, `metal:0`.
    pub name: String,
    /// What models and their caches may take, in bytes.
    pub memory_bytes: u64,
}

/// A model in a device's memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResidentModel {
    /// The model.
    pub model: ModelSha,
    /// What it takes with its cache, in bytes.
    pub bytes: u64,
    /// Its jobs that are with the engine.
    pub running: usize,
    /// Jobs a second while it ran, measured; 0 while unknown.
    pub jobs_per_s: f64,
    /// Generated tokens a second while it ran, measured; 0 while unknown.
    pub tokens_per_s: f64,
    /// Milliseconds since it last had a job; 0 while it has one.
    pub idle_ms: u64,
}

/// A model on its way into memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadingModel {
    /// The model.
    pub model: ModelSha,
    /// Which part of the way it is on.
    pub stage: LoadStage,
    /// How much of this part is done, from 0 to 1.
    pub share: f64,
}

/// The parts of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadStage {
    /// Waits for jobs to end that hold the memory.
    Waiting,
    /// The file is fetched.
    Fetching,
    /// The file is read into memory.
    Loading,
}

/// A load that failed; forgotten when the model is loaded, or after a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedLoad {
    /// The model.
    pub model: ModelSha,
    /// An error code.
    pub code: String,
    /// What happened.
    pub message: String,
}

impl FailedLoad {
    /// How long the node is not asked to load the model again. A disk is soon looked at again: somebody may have made room.
    pub fn rest(&self) -> Duration {
        match self.is_for_room() {
            true => DISK_REST,
            false => LOAD_REST,
        }
    }

    /// Whether the node's disk had no room for the model's files. Its jobs wait for that, they do not fail.
    pub fn is_for_room(&self) -> bool {
        self.code == DISK_FULL
    }
}

/// A model file on the node's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskModel {
    /// The model.
    pub model: ModelSha,
    /// Its size in bytes.
    pub bytes: u64,
}

/// What a node says of itself with each heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeReport {
    /// Its name: the same after a restart.
    pub name: String,
    /// rbee's version there.
    pub version: String,
    /// The base URL of its HTTP face, if others can reach it.
    pub address: Option<String>,
    /// Its devices.
    pub devices: Vec<Device>,
    /// Sequences that one model runs at once.
    pub slots: usize,
    /// Equal digests compute equal bytes.
    pub numerics: String,
    /// The type of keys and values in its caches, `f16` or `f32`: batches that want another one are not its own. Empty:
    /// it did not say.
    pub kv: String,
    /// It keeps the rules that the digest stands for.
    pub reproducible: bool,
    /// Models in memory.
    pub resident: Vec<ResidentModel>,
    /// Models on their way there.
    pub loading: Vec<LoadingModel>,
    /// Loads that failed lately.
    pub failed_loads: Vec<FailedLoad>,
    /// Models on disk.
    pub on_disk: Vec<DiskModel>,
    /// Bytes a second at which models were loaded from disk, measured; 0 while unknown.
    pub load_bytes_per_s: f64,
    /// Jobs taken and not finished.
    pub running: usize,
    /// It takes no new work.
    pub draining: bool,
    /// Why it rests for now: it takes no new work until that is over.
    pub resting: Option<String>,
    /// Why results cannot be stored now.
    pub blocked: Option<String>,
    /// Steps of its engines since it started.
    pub steps: u64,
}

/// A node in the store, with its lease by the store's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredNode {
    /// One process life.
    pub instance: NodeInstance,
    /// What it said last.
    pub report: NodeReport,
    /// Microseconds until its lease ends; negative: since it ended.
    pub lease_left_us: i64,
    /// Microseconds since its last heartbeat.
    pub silent_us: i64,
    /// Microseconds since 1970.
    pub joined_at_us: i64,
    /// Its lease was judged to be over: it can change nothing any more.
    pub lost: bool,
    /// Somebody asked nodes of this name to drain.
    pub drain_wanted: bool,
}

/// The states of a node, derived and never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It has no model in memory and loads one.
    Starting,
    /// It takes work.
    Ready,
    /// All its slots are taken.
    Busy,
    /// It takes no new work.
    Draining,
    /// Its lease ended.
    Lost,
}

impl StoredNode {
    /// What people see.
    pub fn state(&self) -> NodeState {
        let report = &self.report;
        match () {
            () if self.lost || self.lease_left_us < 0 => NodeState::Lost,
            () if report.draining || self.drain_wanted => NodeState::Draining,
            () if report.resident.is_empty() && !report.loading.is_empty() => NodeState::Starting,
            () if report.slots > 0 && report.running >= report.slots => NodeState::Busy,
            () => NodeState::Ready,
        }
    }
}

/// What the store answers to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease goes on.
    Renewed {
        /// Take no new work.
        drain: bool,
    },
    /// The lease was judged to be over; the jobs are others' now.
    Lost,
}
