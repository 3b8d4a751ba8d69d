//! `rbee cancel`: a batch stops.

use clap::Args;
use rbee_scheduler::http::types::BatchView;
use reqwest::Method;

use crate::batch_view::{self, Runner};
use crate::client::Client;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::Outcome;
use crate::table;

/// Stop a batch: what is finished stays, the rest fails with `cancelled`
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee cancel last
  rbee cancel batch_019a && rbee export batch_019a -o what-there-is.jsonl")]
pub struct CancelArgs {
    /// The batch: its id, the beginning of its id, or `last`
    #[arg(value_name = "ID")]
    pub id: String,

    /// Print the batch as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Cancels the batch.
pub async fn run(context: &Context, args: CancelArgs) -> Outcome {
    let client = Client::open(context)?;
    let batch: BatchView = client
        .json(client.request(Method::POST, &["v1", "batches", &args.id, "cancel"]))
        .await?;
    if args.json {
        table::print([batch_view::json(&batch, Runner::Server).to_string()])?;
    } else {
        context.talk.note(&format!(
            "{}: {}, {} jobs have a result",
            batch.id,
            batch.status,
            batch_view::jobs(&batch)
        ));
    }
    Ok(ExitCode::Success)
}
