//! `rbee schedule history`: the runs of a schedule with their results.

use clap::Args;
use rbee_scheduler::http::types::{Listing, RunView};
use reqwest::Method;

use super::view;
use crate::client::Client;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::Outcome;
use crate::table;

/// The runs of a schedule, newest first: each tick, its batch and its result
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee schedule history nightly
  rbee schedule history nightly --limit 100 --json | jq -r .batch

Ticks that were skipped or missed are among them, with the reason. The last 1000 are kept.")]
pub struct HistoryArgs {
    /// The schedule: its name, its id, or the beginning of its id
    #[arg(value_name = "NAME")]
    pub name: String,

    /// At most N runs
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,

    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Prints one line a run.
pub async fn run(context: &Context, args: HistoryArgs) -> Outcome {
    let client = Client::open(context)?;
    let route = ["v1", "schedules", args.name.as_str(), "runs"];
    let limit = args.limit.to_string();
    let request = client.asking(Method::GET, &route, &[("limit", &limit)]);
    let listing: Listing<RunView> = client.json(request).await?;
    if args.json {
        for run in &listing.data {
            table::print([view::line(run)?])?;
        }
        return Ok(ExitCode::Success);
    }
    if listing.data.is_empty() {
        context.talk.note("there was no run yet");
        return Ok(ExitCode::Success);
    }
    let rows: Vec<Vec<String>> = listing.data.iter().map(row).collect();
    let header = ["TICK", "UTC", "CAUSE", "RESULT", "BATCH", "NOTE"];
    table::print(table::lines(&header, &rows))?;
    Ok(ExitCode::Success)
}

fn row(run: &RunView) -> Vec<String> {
    let batch = run.batch.as_ref().map(ToString::to_string);
    vec![
        view::local(&run.tick),
        view::utc(&run.tick),
        view::cause(run).to_owned(),
        view::result(run),
        batch.unwrap_or_default(),
        (run.reason.clone().or(run.output.clone())).unwrap_or_default(),
    ]
}
