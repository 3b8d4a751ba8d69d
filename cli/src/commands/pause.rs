//! `rbee pause`: a batch's running jobs finish, and the others wait.

use clap::Args;
use rbee_scheduler::http::types::BatchView;
use reqwest::Method;
use serde_json::json;

use crate::batch_view::{self, Runner};
use crate::client::Client;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::Outcome;
use crate::table;

/// Hold a batch back: what runs finishes, the rest waits until `rbee resume`
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee pause last
  rbee pause batch_019a --reason 'the machine is needed for something else'
  rbee resume batch_019a

It wants a server: the one of RBEE_SERVER, else the one of this machine.")]
pub struct PauseArgs {
    /// The batch: its id, the beginning of its id, or `last`
    #[arg(value_name = "ID")]
    pub id: String,

    /// Why, for whoever looks at its status
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,

    /// Print the batch as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Pauses the batch.
pub async fn run(context: &Context, args: PauseArgs) -> Outcome {
    let client = Client::open(context)?;
    let request = client.request(Method::POST, &["v1", "batches", &args.id, "pause"]);
    let batch: BatchView = client
        .json(request.json(&json!({"reason": args.reason})))
        .await?;
    if args.json {
        table::print([batch_view::json(&batch, Runner::Server).to_string()])?;
    } else {
        context.talk.note(&format!(
            "{}: paused with {} jobs done; `rbee resume` has it go on",
            batch.id,
            batch_view::jobs(&batch)
        ));
    }
    Ok(ExitCode::Success)
}
