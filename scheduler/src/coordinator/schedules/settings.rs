//! What schedules of a server may use.

use crate::http::Models;
use crate::roots::Roots;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What schedules of a server may use.
#[derive(Clone)]
pub struct ScheduleSettings {
    /// The models.
    pub models: Arc<dyn Models>,
    /// A private directory for prompts that are being read.
    pub spool: PathBuf,
    /// Where prompts are read and results written.
    pub roots: Roots,
    /// Programs that may be run when a run has ended, by name.
    pub commands: BTreeMap<String, PathBuf>,
}

impl std::fmt::Debug for ScheduleSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScheduleSettings")
            .field("roots", &self.roots)
            .field("commands", &self.commands)
            .finish_non_exhaustive()
    }
}
