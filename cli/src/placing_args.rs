//! How a server places the jobs of a batch: the flags that `rbee submit` and `rbee schedule add` share.

use clap::{Args, ValueEnum};
use rbee_queue::Priority;

use crate::engine_args::KvChoice;

/// Whose turn it is, and where.
#[derive(Debug, Clone, Args)]
pub struct PlacingArgs {
    /// `interactive` goes ahead of all batches
    #[arg(long, value_enum, default_value_t)]
    pub priority: PriorityChoice,

    /// Only this node may run it
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,

    /// Type of the stored keys and values; f32 takes twice the memory and may give other bytes
    #[arg(long, value_enum, default_value_t, help_heading = "Engine")]
    pub kv: KvChoice,
}

/// Whose jobs go first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum PriorityChoice {
    /// Behind all that somebody waits for.
    #[default]
    Batch,
    /// Somebody waits for the answers.
    Interactive,
}

impl From<PriorityChoice> for Priority {
    fn from(choice: PriorityChoice) -> Priority {
        match choice {
            PriorityChoice::Batch => Priority::Batch,
            PriorityChoice::Interactive => Priority::Interactive,
        }
    }
}
