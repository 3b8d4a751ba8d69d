//! `rbee schedule add`: a schedule is made on a server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use rbee_queue::schedule::{Missed, Overlap};
use rbee_scheduler::http::types::{NewScheduleSpec, ScheduleMade, WantedSource};

use super::source::{self, Said};
use super::{show, view};
use crate::age;
use crate::batch_args::BatchArgs;
use crate::batch_spec::batch_spec;
use crate::client::{self, Client, Prompts, Scheduled};
use crate::commands::Context;
use crate::commands::submit::own_models;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::machine_zone;
use crate::placing_args::PlacingArgs;
use crate::table;

/// Make a schedule, and print its next five runs in its zone and in UTC
///
/// The server reads the prompts anew at each tick and keeps what it read. Where it may not read them (another machine, or
/// outside its --schedule-root), they are sent now and stay as they are.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee schedule add '0 2 * * *' nightly.jsonl
  rbee schedule add '0 2 * * *' nightly.jsonl --output 'results-{date}.jsonl' --tz America/New_York
  rbee schedule add @hourly 'inbox/*.jsonl' --name inbox --overlap queue --model smollm2-135m --max-tokens 64
  rbee schedule add '*/10 * * * * *' ping.jsonl --missed none --on-done https://example.org/told
  rbee schedule add @daily http://127.0.0.1:7835/v1/files/file_01a2179cb7ec776e9b08d8ae701ba3db

CRON is `minute hour day month weekday`, or six fields with the seconds in front, or @yearly, @annually, @monthly, @weekly,
@daily, @midnight, @hourly. Fields take *, numbers, ranges (9-17), lists (1,15), steps (*/10, 8-18/2), JAN-DEC and SUN-SAT;
Sunday is 0 and 7. Where day and weekday are both restricted, either matches. When clocks are changed, a time that is skipped
runs at the first moment after, and a time that comes twice runs once; with the hour `*` or a step runs keep their distance.

In a cluster the server that leads reads the prompts and writes the results: in a folder that all servers see.
The output's path may hold {date}, {time}, {tick}, {name} and {id}. The file is absent or complete.
A command is one that the server's --schedule-command names; it gets RBEE_SCHEDULE, RBEE_RUN_STATE, RBEE_RUN_BATCH and
RBEE_RUN_OUTPUT, and JSON on stdin.")]
pub struct AddArgs {
    /// When: a cron expression
    #[arg(value_name = "CRON", allow_hyphen_values = true)]
    pub cron: String,

    /// The prompts: a file, a pattern in quotes such as 'inbox/*.jsonl', the URL or id of a file that was sent to the
    /// server's /v1/files, or `-` for stdin
    #[arg(value_name = "FILE|GLOB|URL|-")]
    pub input: PathBuf,

    /// What the schedule is called [default: the file's name without its ending]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// The time zone of CRON, an IANA name such as Europe/Berlin [default: this machine's]
    #[arg(long, value_name = "ZONE")]
    pub tz: Option<String>,

    /// What becomes of a tick while a run is under way
    #[arg(long, value_enum, default_value_t)]
    pub overlap: OverlapChoice,

    /// What becomes of ticks at which no server was there
    #[arg(long, value_enum, default_value_t)]
    pub missed: MissedChoice,

    /// How far back `--missed once` looks: 90s, 30m, 6h, 1d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = age::parse)]
    pub missed_window: Duration,

    /// Write the results of each run to this file on the server, such as 'results-{date}.jsonl'
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,

    /// POST the end of each run to this URL, signed with the server's webhook secret
    #[arg(long, value_name = "URL", conflicts_with = "command")]
    pub on_done: Option<String>,

    /// Run this command of the server's at the end of each run
    #[arg(long, value_name = "NAME")]
    pub command: Option<String>,

    /// Send the prompts now, and run the same ones at each tick
    #[arg(long, conflicts_with = "on_server")]
    pub freeze: bool,

    /// FILE and --output are absolute paths on the server, which may be another machine
    #[arg(long)]
    pub on_server: bool,

    /// Print the schedule as one JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub placing: PlacingArgs,

    // Its headings hold for whatever stands behind it.
    #[command(flatten)]
    pub batch: BatchArgs,
}

/// What becomes of a tick while a run is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OverlapChoice {
    /// There is no run
    #[default]
    Skip,
    /// The run waits for those before it; at most 100 wait
    Queue,
    /// The run begins beside them
    Allow,
    /// They are cancelled
    CancelRunning,
}

impl From<OverlapChoice> for Overlap {
    fn from(choice: OverlapChoice) -> Overlap {
        match choice {
            OverlapChoice::Skip => Overlap::Skip,
            OverlapChoice::Queue => Overlap::Queue,
            OverlapChoice::Allow => Overlap::Allow,
            OverlapChoice::CancelRunning => Overlap::CancelRunning,
        }
    }
}

/// What becomes of missed ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum MissedChoice {
    /// One run for all that were missed lately
    #[default]
    Once,
    /// A run for each
    All,
    /// Nothing
    None,
}

impl From<MissedChoice> for Missed {
    fn from(choice: MissedChoice) -> Missed {
        match choice {
            MissedChoice::Once => Missed::Once,
            MissedChoice::All => Missed::All,
            MissedChoice::None => Missed::None,
        }
    }
}

/// Makes the schedule.
pub async fn run(context: &Context, args: AddArgs) -> Outcome {
    let client = Client::open(context)?;
    let work = async {
        let mut wanted = wanted(&args, &client).await?;
        wanted.models = own_models(context, &client, &wanted.spec.options.model).await?;
        send(context, &client, &args, wanted).await
    };
    let interrupted = "interrupted: `rbee schedule list` shows whether it is there";
    let made = context.interrupt.or(interrupted, work).await?;
    for warning in &made.warnings {
        context.talk.warn(warning);
    }
    let schedule = &made.schedule;
    if args.json {
        table::print([view::line(schedule)?])?;
        return Ok(ExitCode::Success);
    }
    table::print([format!("{} ({})", schedule.name, schedule.id)])?;
    table::print(show::next_lines(schedule))?;
    Ok(ExitCode::Success)
}

async fn wanted(args: &AddArgs, client: &Client) -> Result<NewScheduleSpec, Failure> {
    let spec = batch_spec(&args.batch, args.placing.kv)?;
    let output = args.output.as_deref().map(|path| match args.on_server {
        true => source::text(path),
        false if client.is_here() => source::text(&source::absolute(path)?),
        false => Err(Failure::usage(
            "the server is another machine and writes to its own disk: with --on-server --output is an absolute path \
             there, else `rbee export` gets the results",
        )),
    });
    let said = Said {
        input: &args.input,
        freeze: args.freeze,
        on_server: args.on_server,
    };
    let prompts = said.source(client).await?;
    Ok(NewScheduleSpec {
        name: args.name.clone().unwrap_or(prompts.name),
        cron: args.cron.clone(),
        tz: Some(args.tz.clone().unwrap_or_else(machine_zone::name)),
        overlap: Some(args.overlap.into()),
        missed: Some(args.missed.into()),
        missed_window_s: Some(args.missed_window.as_secs()),
        source: prompts.wanted,
        spec,
        priority: args.placing.priority.into(),
        node: args.placing.node.clone(),
        models: Vec::new(),
        output: output.transpose()?,
        on_done: args.on_done.clone(),
        command: args.command.clone(),
    })
}

/// Sends it; with the prompts, where the server may not read them.
async fn send(
    context: &Context,
    client: &Client,
    args: &AddArgs,
    mut wanted: NewScheduleSpec,
) -> Result<ScheduleMade, Failure> {
    match &wanted.source {
        WantedSource::Files { pattern } => {
            match client::add_schedule(client, &wanted, None, &context.talk).await? {
                Scheduled::Made(made) => return Ok(*made),
                Scheduled::MayNotRead(why) if args.on_server || !Path::new(pattern).is_file() => {
                    return Err(Failure::usage(why));
                }
                Scheduled::MayNotRead(why) => {
                    context.talk.warn(&format!(
                        "{why}; so the prompts are sent now, and every run has them as they are"
                    ));
                }
            }
            wanted.source = source::kept(&args.input);
        }
        WantedSource::Uploaded { .. } => {
            return match client::add_schedule(client, &wanted, None, &context.talk).await? {
                Scheduled::Made(made) => Ok(*made),
                Scheduled::MayNotRead(why) => Err(Failure::usage(why)),
            };
        }
        WantedSource::Kept { .. } if !args.freeze && !client.is_here() => {
            context.talk.note(
                "the server is another machine: the prompts are sent now, and every run has them as they are; \
                 --on-server names a path there",
            );
        }
        WantedSource::Kept { .. } => {}
    }
    let prompts = Prompts::open(&args.input).await?;
    match client::add_schedule(client, &wanted, Some(prompts), &context.talk).await? {
        Scheduled::Made(made) => Ok(*made),
        Scheduled::MayNotRead(why) => Err(Failure::usage(why)),
    }
}
