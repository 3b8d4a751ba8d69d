//! `rbee resume`: a paused batch goes on.

use clap::Args;
use rbee_scheduler::http::types::BatchView;
use reqwest::Method;

use crate::batch_view::{self, Runner};
use crate::client::Client;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::Outcome;
use crate::table;

/// Have a paused batch go on
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee resume last

It wants a server: the one of RBEE_SERVER, else the one of this machine. A `rbee run` that was stopped goes on with
the same command instead.")]
pub struct ResumeArgs {
    /// The batch: its id, the beginning of its id, or `last`
    #[arg(value_name = "ID")]
    pub id: String,

    /// Print the batch as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Lets the batch go on.
pub async fn run(context: &Context, args: ResumeArgs) -> Outcome {
    let client = Client::open(context)?;
    let batch: BatchView = client
        .json(client.request(Method::POST, &["v1", "batches", &args.id, "resume"]))
        .await?;
    if args.json {
        table::print([batch_view::json(&batch, Runner::Server).to_string()])?;
    } else {
        context.talk.note(&format!(
            "{}: {}, {} jobs done",
            batch.id,
            batch_view::state(&batch, Runner::Server),
            batch_view::jobs(&batch)
        ));
    }
    Ok(ExitCode::Success)
}
