//! `rbee watch`: a batch or a job as it goes on.
//!
//! Owns what is shown. On a terminal it is a moving view; in a pipe, and with `--json`, each event is a line of JSON.

mod batch;
mod job;
mod lines;
mod tails;

use std::io::IsTerminal;

use clap::Args;
use rbee_queue::BatchStatus;
use rbee_scheduler::http::types::BatchView;

use crate::client::Client;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};

/// What Ctrl-C means for whoever watches.
const LEFT: &str = "the batch goes on: `rbee watch` shows it again, `rbee cancel` stops it";

/// Watch a batch as it is answered, or a job as its text grows
///
/// On a terminal it shows progress, speed, what is left, the nodes, and errors as they come; in a pipe each event is a line
/// of JSON. Watching changes nothing: Ctrl-C ends the watching, and the batch goes on. When the server goes away for a
/// while, the watching goes on where it was.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee watch                            the newest batch
  rbee watch batch_019a --job 7         the text of its eighth job, token by token
  rbee watch last --all                 the text of all jobs that run
  rbee watch last | jq 'select(.event == \"result\") | .text'
  rbee watch last --errors | jq .       errors only, and progress

Exit codes: 0 all jobs succeeded, 3 some failed or the batch was cancelled, 4 no server, 130 Ctrl-C.")]
pub struct WatchArgs {
    /// The batch: its id, the beginning of its id, or `last`
    #[arg(value_name = "ID", default_value = "last")]
    pub id: String,

    /// Watch the text of this job, counted from 0, from its first token on
    #[arg(long, value_name = "N", conflicts_with = "all")]
    pub job: Option<u64>,

    /// Watch the text of all jobs that run, up to 64 at once
    #[arg(long)]
    pub all: bool,

    /// Of the results, tell errors only
    #[arg(long, conflicts_with_all = ["job", "all"])]
    pub errors: bool,

    /// Write events as lines of JSON, on a terminal too
    #[arg(long)]
    pub json: bool,
}

/// Watches until the end.
pub async fn run(context: &Context, args: WatchArgs) -> Outcome {
    let client = Client::open(context)?;
    let lines = args.json || !std::io::stdout().is_terminal();
    let watching = async {
        match args.job {
            Some(index) if lines => lines::of_job(&client, &context.talk, &args.id, index).await,
            Some(index) => job::show(&client, &context.talk, &args.id, index).await,
            None if lines => lines::of_batch(&client, &context.talk, &args).await,
            None => batch::show(&client, &context.talk, &args.id, args.all).await,
        }
    };
    context.interrupt.or(LEFT, watching).await
}

/// Watches a batch that was just submitted: everything but the id goes to stderr.
pub async fn after_submit(context: &Context, client: &Client, batch: &BatchView) -> Outcome {
    let watching = batch::show(client, &context.talk, batch.id.as_str(), false);
    context.interrupt.or(LEFT, watching).await
}

/// What a batch's end means for the shell.
fn code_of(batch: &BatchView) -> ExitCode {
    match batch.status == BatchStatus::Completed && batch.request_counts.failed == 0 {
        true => ExitCode::Success,
        false => ExitCode::SomeFailed,
    }
}

/// What the server says where there is nothing more to watch.
fn trouble(body: &serde_json::Value) -> Failure {
    let said = body["message"]
        .as_str()
        .unwrap_or("the server said no more");
    Failure::Program(anyhow::anyhow!("{said}"))
}
