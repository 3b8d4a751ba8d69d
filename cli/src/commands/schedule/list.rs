//! `rbee schedule list`: all schedules with their next and last runs.

use clap::Args;
use rbee_scheduler::http::types::{Listing, ScheduleView};
use reqwest::Method;

use super::view;
use crate::client::Client;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::Outcome;
use crate::table;

/// List the schedules with the next run and the last run of each, and what became of it
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee schedule list
  rbee schedule list --json | jq 'select(.last_run.state == \"failed\") | .name'

Times are those of each schedule's zone.")]
pub struct ListArgs {
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Prints one line a schedule.
pub async fn run(context: &Context, args: ListArgs) -> Outcome {
    let client = Client::open(context)?;
    let request = client.request(Method::GET, &["v1", "schedules"]);
    let listing: Listing<ScheduleView> = client.json(request).await?;
    if args.json {
        for schedule in &listing.data {
            table::print([view::line(schedule)?])?;
        }
        return Ok(ExitCode::Success);
    }
    if listing.data.is_empty() {
        context
            .talk
            .note("there is no schedule yet: `rbee schedule add CRON FILE` makes one");
        return Ok(ExitCode::Success);
    }
    let rows: Vec<Vec<String>> = listing.data.iter().map(row).collect();
    let header = [
        "NAME", "CRON", "ZONE", "NEXT RUN", "LAST RUN", "RESULT", "PROMPTS",
    ];
    table::print(table::lines(&header, &rows))?;
    Ok(ExitCode::Success)
}

fn row(schedule: &ScheduleView) -> Vec<String> {
    let next = match schedule.next_runs.first() {
        _ if schedule.paused => "paused".to_owned(),
        Some(next) => view::local(next),
        None => "never again".to_owned(),
    };
    let (last, result) = match &schedule.last_run {
        Some(run) => (view::local(&run.tick), view::result(run)),
        None => ("none yet".to_owned(), String::new()),
    };
    vec![
        schedule.name.clone(),
        schedule.cron.clone(),
        schedule.tz.clone(),
        next,
        last,
        result,
        view::source(&schedule.source),
    ]
}
