//! rbee's coordinator: which node runs which job, and the I/O that makes it so.
//!
//! [`placement`] decides, from snapshots and without any I/O; [`dispatch`] does what it decided.
//! Nodes are known by their snapshots only: they meet the coordinator through store and queue.

pub mod dispatch;
pub mod placement;

pub use dispatch::{Dispatched, Dispatcher, Load, Tick};
pub use placement::{
    Decision, Hold, NodeSnapshot, Numerics, Plan, WaitingModel, decide, inbox_depth,
};
