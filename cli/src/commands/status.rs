//! `rbee status`: one batch in detail.

use clap::Args;

use crate::commands::Context;
use crate::failure::Outcome;

/// Show one batch: counts, model, numerics, times, errors
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// The batch: its id, the beginning of its id, or `last`
    #[arg(value_name = "ID", default_value = "last")]
    pub id: String,

    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// Not wired in this build.
pub async fn run(_context: &Context, _args: StatusArgs) -> Outcome {
    Err(anyhow::anyhow!("status is not wired to the store in this build").into())
}
