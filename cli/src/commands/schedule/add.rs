//! `rbee schedule add`: a schedule is made on a server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use rbee_queue::schedule::{Missed, Overlap};
use rbee_scheduler::http::types::{NewScheduleSpec, ScheduleMade, WantedSource};

use super::{show, view};
use crate::age;
use crate::batch_args::BatchArgs;
use crate::batch_spec::batch_spec;
use crate::client::{self, Client, Prompts, Scheduled};
use crate::commands::Context;
use crate::commands::submit::{PriorityChoice, own_models};
use crate::engine_args::KvChoice;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::machine_zone;
use crate::output::DASH;
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

    /// The prompts: a file, a pattern in quotes such as 'inbox/*.jsonl', or `-` for stdin
    #[arg(value_name = "FILE|GLOB|-")]
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

    /// `interactive` goes ahead of all batches
    #[arg(long, value_enum, default_value_t)]
    pub priority: PriorityChoice,

    /// Only this node may run it
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,

    /// Send the prompts now, and run the same ones at each tick
    #[arg(long, conflicts_with = "on_server")]
    pub freeze: bool,

    /// FILE and --output are absolute paths on the server, which may be another machine
    #[arg(long)]
    pub on_server: bool,

    /// Type of the stored keys and values; f32 takes twice the memory and may give other bytes
    #[arg(long, value_enum, default_value_t)]
    pub kv: KvChoice,

    /// Print the schedule as one JSON object
    #[arg(long)]
    pub json: bool,

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
        let mut wanted = wanted(&args, &client)?;
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

fn wanted(args: &AddArgs, client: &Client) -> Result<NewScheduleSpec, Failure> {
    let spec = batch_spec(&args.batch, args.kv)?;
    let output = args.output.as_deref().map(|path| match args.on_server {
        true => text(path),
        false if client.is_here() => text(&absolute(path)?),
        false => Err(Failure::usage(
            "the server is another machine and writes to its own disk: with --on-server --output is an absolute path \
             there, else `rbee export` gets the results",
        )),
    });
    Ok(NewScheduleSpec {
        name: args.name.clone().unwrap_or_else(|| usual_name(&args.input)),
        cron: args.cron.clone(),
        tz: Some(args.tz.clone().unwrap_or_else(machine_zone::name)),
        overlap: Some(args.overlap.into()),
        missed: Some(args.missed.into()),
        missed_window_s: Some(args.missed_window.as_secs()),
        source: source(args, client)?,
        spec,
        priority: args.priority.into(),
        node: args.node.clone(),
        models: Vec::new(),
        output: output.transpose()?,
        on_done: args.on_done.clone(),
        command: args.command.clone(),
    })
}

/// What the server is to read, as far as this side can tell.
fn source(args: &AddArgs, client: &Client) -> Result<WantedSource, Failure> {
    let stdin = args.input.as_os_str() == DASH;
    let pattern = match args.on_server {
        true => text(&args.input)?,
        false if !stdin && !args.freeze && client.is_here() => text(&absolute(&args.input)?)?,
        false => return Ok(kept(&args.input)),
    };
    Ok(WantedSource::Files { pattern })
}

fn kept(input: &Path) -> WantedSource {
    let name = match input.as_os_str() == DASH {
        true => "stdin".to_owned(),
        false => input
            .file_name()
            .unwrap_or(input.as_os_str())
            .to_string_lossy()
            .into_owned(),
    };
    WantedSource::Kept { name }
}

/// Sends it; with the prompts, where the server may not read them.
async fn send(
    context: &Context,
    client: &Client,
    args: &AddArgs,
    mut wanted: NewScheduleSpec,
) -> Result<ScheduleMade, Failure> {
    if let WantedSource::Files { pattern } = &wanted.source {
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
        wanted.source = kept(&args.input);
    } else if !args.freeze && !client.is_here() {
        context.talk.note(
            "the server is another machine: the prompts are sent now, and every run has them as they are; --on-server \
             names a path there",
        );
    }
    let prompts = Prompts::open(&args.input).await?;
    match client::add_schedule(client, &wanted, Some(prompts), &context.talk).await? {
        Scheduled::Made(made) => Ok(*made),
        Scheduled::MayNotRead(why) => Err(Failure::usage(why)),
    }
}

fn text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::usage(format!("{} is not valid UTF-8", path.display())))
}

/// From the root of the file system on, and without `..`.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(path)
        .with_context(|| format!("cannot make sense of {}", path.display()))?;
    if !absolute.components().any(|part| part.as_os_str() == "..") {
        return Ok(absolute);
    }
    let parent = absolute.parent().unwrap_or(Path::new("/"));
    let parent = std::fs::canonicalize(parent)
        .map_err(|error| Failure::usage(format!("{}: {error}", parent.display())))?;
    Ok(parent.join(absolute.file_name().unwrap_or_default()))
}

/// The file's name without its ending; of a pattern its folder's name.
fn usual_name(input: &Path) -> String {
    let plain = |name: &std::ffi::OsStr| {
        let name = name.to_string_lossy();
        let signs = name.chars().map(|sign| match sign {
            sign if sign.is_ascii_alphanumeric() || matches!(sign, '-' | '_' | '.') => sign,
            _ => '-',
        });
        let name: String = signs.collect();
        name.trim_matches(['-', '.', '_']).to_owned()
    };
    let own = input.file_stem().filter(|_| input.as_os_str() != DASH);
    let own = own.filter(|stem| !stem.to_string_lossy().contains(['*', '?', '[']));
    let folder = || input.parent().and_then(Path::file_name);
    let name = own.or_else(folder).map(plain).unwrap_or_default();
    match name.is_empty() {
        true => "prompts".to_owned(),
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_called_like_their_prompts() {
        for (input, name) in [
            ("nightly.jsonl", "nightly"),
            ("/a/b c.jsonl", "b-c"),
            ("inbox/*.jsonl", "inbox"),
            ("*.jsonl", "prompts"),
            ("-", "prompts"),
            (".hidden", "hidden"),
        ] {
            assert_eq!(usual_name(Path::new(input)), name, "{input}");
        }
    }
}
