//! `rbee schedule show`: all about one schedule.

use rbee_queue::schedule::{Missed, Overlap};
use rbee_scheduler::http::types::ScheduleView;

use super::{Named, of_server, view};
use crate::age;
use crate::client::Client;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::Outcome;
use crate::table;

/// Prints what the server knows of a schedule.
pub async fn run(context: &Context, named: Named) -> Outcome {
    let client = Client::open(context)?;
    let schedule = of_server(&client, &named.name).await?;
    match named.json {
        true => table::print([view::line(&schedule)?])?,
        false => table::print(lines(&schedule))?,
    }
    Ok(ExitCode::Success)
}

fn lines(schedule: &ScheduleView) -> Vec<String> {
    let mut lines = vec![
        format!("{} ({})", schedule.name, schedule.id),
        format!("cron      {} in {}", schedule.cron, schedule.tz),
        format!("prompts   {}", view::source(&schedule.source)),
        format!("model     {}", schedule.model),
        format!("overlap   {}", overlap(schedule.overlap)),
        format!("missed    {}", missed(schedule)),
    ];
    let told = [
        ("output", &schedule.output),
        ("on done", &schedule.on_done),
        ("command", &schedule.command),
    ];
    for (word, value) in told {
        lines.extend(value.iter().map(|value| format!("{word:<9} {value}")));
    }
    if let Some(run) = &schedule.last_run {
        let result = view::result(run);
        lines.push(format!("last run  {}: {result}", view::tick(&run.tick)));
        lines.extend(
            run.reason
                .iter()
                .map(|reason| format!("          {reason}")),
        );
        lines.extend(run.batch.iter().map(|batch| format!("          {batch}")));
    }
    if schedule.paused {
        lines.push("paused: `rbee schedule resume` has it go on".to_owned());
    }
    lines.extend(next_lines(schedule));
    lines
}

/// The next runs, in the schedule's zone and in UTC.
pub fn next_lines(schedule: &ScheduleView) -> Vec<String> {
    schedule
        .next_runs
        .iter()
        .map(|next| format!("next run  {}", view::tick(next)))
        .collect()
}

fn overlap(overlap: Overlap) -> &'static str {
    match overlap {
        Overlap::Skip => "skip: no run while one is under way",
        Overlap::Queue => "queue: a run waits for those before it",
        Overlap::Allow => "allow: runs may be under way together",
        Overlap::CancelRunning => "cancel-running: a new run cancels those before it",
    }
}

fn missed(schedule: &ScheduleView) -> String {
    match schedule.missed {
        Missed::Once => format!(
            "once: one run for all that were missed in the last {}",
            age::show(schedule.missed_window_s)
        ),
        Missed::All => "all: a run for each that was missed".to_owned(),
        Missed::None => "none: what was missed is left out".to_owned(),
    }
}
