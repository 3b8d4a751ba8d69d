//! `rbee schedule calendar`: what is due in the days that come.

use clap::Args;
use rbee_scheduler::http::types::{Calendar, CalendarTick};
use reqwest::Method;

use super::view;
use crate::client::Client;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::Outcome;
use crate::table;

/// What is due in the coming week, of all schedules that are not paused
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee schedule calendar
  rbee schedule calendar --days 1

Several ticks of a schedule in one hour stand on one line.")]
pub struct CalendarArgs {
    /// Days from now on
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=31))]
    pub days: u32,

    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Prints the ticks in their order.
pub async fn run(context: &Context, args: CalendarArgs) -> Outcome {
    let client = Client::open(context)?;
    let days = args.days.to_string();
    let request = client.asking(
        Method::GET,
        &["v1", "schedules", "calendar"],
        &[("days", &days)],
    );
    let calendar: Calendar = client.json(request).await?;
    if args.json {
        for tick in &calendar.data {
            table::print([view::line(tick)?])?;
        }
        return Ok(ExitCode::Success);
    }
    if calendar.data.is_empty() {
        context.talk.note("nothing is due in these days");
        return Ok(ExitCode::Success);
    }
    let rows: Vec<Vec<String>> = calendar.data.iter().map(row).collect();
    table::print(table::lines(&["DUE", "UTC", "SCHEDULE", "RUNS"], &rows))?;
    if calendar.has_more {
        context.talk.note("there is more: ask for fewer days");
    }
    Ok(ExitCode::Success)
}

/// Ticks of an hour that are counted; beyond that there are more.
const COUNTED: u64 = 60;

fn row(entry: &CalendarTick) -> Vec<String> {
    let ticks = match entry.ticks {
        1 => String::new(),
        ticks if ticks > COUNTED => format!("more than {COUNTED} in this hour"),
        ticks => format!("{ticks} in this hour"),
    };
    vec![
        view::local(&entry.tick),
        view::utc(&entry.tick),
        entry.name.clone(),
        ticks,
    ]
}
