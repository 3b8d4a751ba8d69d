//! `rbee schedule`: batches that a server makes by itself, by the clock.

mod add;
mod calendar;
mod history;
mod list;
mod show;
mod source;
mod view;

use clap::{Args, Subcommand};
use rbee_scheduler::http::types::{RunView, ScheduleView};
use reqwest::Method;
use serde_json::Value;

use crate::client::Client;
use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::table;

/// Have a server run prompts by the clock: every night, every hour, on workdays
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee schedule add '0 2 * * *' nightly.jsonl --output 'results-{date}.jsonl'
  rbee schedule add '*/30 9-17 * * MON-FRI' 'inbox/*.jsonl' --name office --tz Europe/Berlin --overlap queue
  rbee schedule list
  rbee schedule history nightly
  rbee schedule calendar
  rbee schedule run nightly

Schedules run as long as a server does: the one of RBEE_SERVER, else the one of this machine (`rbee serve`).")]
pub struct ScheduleArgs {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with schedules.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    Add(Box<add::AddArgs>),
    List(list::ListArgs),
    Show(Named),
    Pause(PauseArgs),
    Resume(ResumeArgs),
    Run(RunArgs),
    Remove(RemoveArgs),
    History(history::HistoryArgs),
    Calendar(calendar::CalendarArgs),
}

/// All about one schedule
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee schedule show nightly
  rbee schedule show nightly --json | jq .next_runs")]
pub struct Named {
    /// The schedule: its name, its id, or the beginning of its id
    #[arg(value_name = "NAME")]
    pub name: String,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Let a schedule's ticks pass by until it is resumed; a run that is under way goes on
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee schedule pause nightly")]
pub struct PauseArgs {
    #[command(flatten)]
    pub named: Named,
}

/// Have a paused schedule go on with its next tick; those that passed by stay so
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee schedule resume nightly")]
pub struct ResumeArgs {
    #[command(flatten)]
    pub named: Named,
}

/// Make a run now, beside the ticks, also of a paused schedule
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee schedule run nightly
  rbee schedule run nightly && rbee schedule history nightly --limit 1

While a run is under way it is refused with --overlap skip, and otherwise follows --overlap.")]
pub struct RunArgs {
    #[command(flatten)]
    pub named: Named,
}

/// Remove a schedule with its history; its batches stay
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee schedule remove nightly")]
pub struct RemoveArgs {
    #[command(flatten)]
    pub named: Named,
}

/// Does what the verb says.
pub async fn run(context: &Context, args: ScheduleArgs) -> Outcome {
    match args.verb {
        Verb::Add(args) => add::run(context, *args).await,
        Verb::List(args) => list::run(context, args).await,
        Verb::Show(named) => show::run(context, named).await,
        Verb::Pause(args) => {
            let said = "paused; `rbee schedule resume` has it go on";
            change(context, args.named, "pause", said).await
        }
        Verb::Resume(args) => change(context, args.named, "resume", "goes on").await,
        Verb::Run(args) => run_now(context, args.named).await,
        Verb::Remove(args) => remove(context, args.named).await,
        Verb::History(args) => history::run(context, args).await,
        Verb::Calendar(args) => calendar::run(context, args).await,
    }
}

/// One schedule.
async fn of_server(client: &Client, name: &str) -> Result<ScheduleView, Failure> {
    client
        .json(client.request(Method::GET, &["v1", "schedules", name]))
        .await
}

async fn change(context: &Context, named: Named, verb: &str, said: &str) -> Outcome {
    let client = Client::open(context)?;
    let request = client.request(Method::POST, &["v1", "schedules", &named.name, verb]);
    let schedule: ScheduleView = client.json(request).await?;
    match named.json {
        true => table::print([view::line(&schedule)?])?,
        false => {
            context.talk.note(&format!("{}: {said}", schedule.name));
            if let Some(next) = schedule.next_runs.first() {
                context.talk.note(&format!("next run {}", view::tick(next)));
            }
        }
    }
    Ok(ExitCode::Success)
}

async fn run_now(context: &Context, named: Named) -> Outcome {
    let client = Client::open(context)?;
    let request = client.request(Method::POST, &["v1", "schedules", &named.name, "run"]);
    let run: RunView = client.json(request).await?;
    match named.json {
        true => table::print([view::line(&run)?])?,
        false => context.talk.note(&format!(
            "{}: a run begins; `rbee schedule history {}` shows what becomes of it",
            named.name, named.name
        )),
    }
    Ok(ExitCode::Success)
}

async fn remove(context: &Context, named: Named) -> Outcome {
    let client = Client::open(context)?;
    let request = client.request(Method::DELETE, &["v1", "schedules", &named.name]);
    let removed: Value = client.json(request).await?;
    match named.json {
        true => table::print([removed.to_string()])?,
        false => context.talk.note(&format!(
            "{}: removed with its history; its batches stay",
            removed["name"].as_str().unwrap_or(&named.name)
        )),
    }
    Ok(ExitCode::Success)
}
