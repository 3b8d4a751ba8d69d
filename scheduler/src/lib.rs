//! rbee's coordinator: which node runs which job, and the I/O that makes it so.
//!
//! [`placement`] decides, from snapshots and without any I/O; [`coordinator`] does what it decided
//! for a cluster, [`dispatch`] for one batch on one node in this process.
//! Nodes are known by their snapshots only: they meet the coordinator through store and queue.

pub mod coordinator;
pub mod dispatch;
mod explain;
pub mod http;
mod live;
pub mod placement;
mod placer;
mod resolve;
pub mod roots;
pub mod schedule;
pub mod secret;
pub mod simulate;
#[cfg(test)]
mod testing;
mod waiting;
pub mod webhook;

pub use coordinator::{
    Coordinator, CoordinatorHandle, CoordinatorOptions, CoordinatorStatus, Retention,
    ScheduleSettings, ValidationSettings,
};
pub use dispatch::{Dispatched, Dispatcher, Load, Tick};
pub use explain::explain;
pub use placement::{
    Decision, Hold, NodeSnapshot, Numerics, Plan, WaitingModel, decide, inbox_depth,
};
