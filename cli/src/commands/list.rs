//! `rbee list`: the batches that are kept, newest first.

use clap::Args;

use crate::commands::Context;
use crate::failure::Outcome;

/// List the batches that are kept, newest first
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// At most N batches
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,

    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Not wired in this build.
pub async fn run(_context: &Context, _args: ListArgs) -> Outcome {
    Err(anyhow::anyhow!("list is not wired to the store in this build").into())
}
