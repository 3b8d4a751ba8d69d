//! `rbee retry`: the failed jobs of a batch run again.

use clap::Args;
use rbee_scheduler::http::types::BatchView;
use reqwest::Method;
use serde::Deserialize;

use crate::batch_view::{self, Runner, counted};
use crate::client::Client;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::Outcome;
use crate::table;

/// Run the failed jobs of a batch again
///
/// What was answered stays. Each failed, cancelled or expired job runs once more, and its new result takes the place of
/// its error; a line that is no request stays an error. It is the one way from `completed` back to `in_progress`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee retry last --failed
  rbee retry batch_019a --failed && rbee export batch_019a --follow -o results.jsonl

It wants a server: the one of RBEE_SERVER, else the one of this machine. A batch of `rbee run` needs none: the same
command runs again what failed by a crash, a timeout or a full memory.")]
pub struct RetryArgs {
    /// The batch: its id, the beginning of its id, or `last`
    #[arg(value_name = "ID")]
    pub id: String,

    /// All jobs that failed: the only choice there is, and one that must be said
    #[arg(long, required = true)]
    pub failed: bool,

    /// Print the batch as one JSON object, with the number of jobs that run again as `retried`
    #[arg(long)]
    pub json: bool,
}

/// What the server answers.
#[derive(Debug, Deserialize)]
struct Retried {
    retried: u64,
    batch: BatchView,
}

/// Has the failed jobs run again.
pub async fn run(context: &Context, args: RetryArgs) -> Outcome {
    let client = Client::open(context)?;
    let Retried { retried, batch } = client
        .json(client.request(Method::POST, &["v1", "batches", &args.id, "retry"]))
        .await?;
    if args.json {
        let mut value = batch_view::json(&batch, Runner::Server);
        value["retried"] = retried.into();
        table::print([value.to_string()])?;
        return Ok(ExitCode::Success);
    }
    let said = match (retried, batch.request_counts.failed) {
        (0, 0) => "no job has failed".to_owned(),
        (0, bad) => format!(
            "{} no request, which no retry changes: nothing runs again",
            lines(bad)
        ),
        (some, 0) => format!("{} again", runs(some)),
        (some, bad) => format!("{} again; {} no request", runs(some), lines(bad)),
    };
    context.talk.note(&format!("{}: {said}", batch.id));
    Ok(ExitCode::Success)
}

fn runs(jobs: u64) -> String {
    let verb = if jobs == 1 { "runs" } else { "run" };
    format!("{} {verb}", counted(jobs, "job"))
}

fn lines(bad: u64) -> String {
    let verb = if bad == 1 { "is" } else { "are" };
    format!("{} {verb}", counted(bad, "failed line"))
}
