//! What a coordinator says of itself.

use crate::placement::Hold;
use rbee_queue::{BatchNo, ModelNo};

/// What a coordinator does. The counters count since its process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoordinatorStatus {
    /// It decides; at most one process does.
    pub leading: bool,
    /// The term of its last lead.
    pub term: u64,
    /// Jobs that it placed.
    pub placed: u64,
    /// Jobs that it failed, since no node can run them.
    pub failed: u64,
    /// Wishes to load a model.
    pub loads: u64,
    /// Nodes whose lease ended.
    pub lost: u64,
    /// Jobs that were queued again since their node was lost.
    pub released: u64,
    /// Jobs that were pushed again, since an inbox had lost them.
    pub restored: u64,
    /// Jobs that wait, counted up to a limit for each model of each batch.
    pub waiting: u64,
    /// Models whose jobs got no place at the last look, with the reason.
    pub holds: Vec<(BatchNo, ModelNo, Hold)>,
}
