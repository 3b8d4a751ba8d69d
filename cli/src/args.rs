//! The command line: `rbee`'s commands and the flags that all of them share.
//!
//! The flags of one command live in that command's file.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::commands::{
    bench, cancel, completions, config, deploy, diff, doctor, export, infer, install, list, logs,
    man, models, nodes, pause, plan, pool, purge, rerun, resume, retry, run, schedule, serve,
    service, status, submit, token, verify, watch, worker,
};
use crate::exit_code::EXIT_CODES_HELP;

/// Which commands want a server.
const WHERE_HELP: &str = "\
With RBEE_SERVER set, every command that asks for batches speaks to that server. Without it, list, status, export, diff,
verify and purge open the store of this machine directly; submit, cancel, retry, pause, resume, schedule, nodes and logs want a server on
this machine, http://127.0.0.1:7835. `rbee run` computes here, and `rbee serve` is the server.";

/// Batch inference on your own machines: a file of prompts in, one results file out, the same bytes every time.
///
/// Give `rbee run` a JSONL file of prompts and it answers every line with a model that runs here. Stop it or kill it
/// at any time: the same command goes on where it stopped. Same prompts, same model file, same seed: the same bytes
/// in the results.
#[derive(Debug, Parser)]
#[command(name = "rbee", version, propagate_version = true, after_long_help = format!("{WHERE_HELP}\n\n{EXIT_CODES_HELP}"), max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Say nothing on stderr but warnings and errors
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,

    /// Where results and models are kept [default: $XDG_DATA_HOME/rbee or ~/.local/share/rbee]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "RBEE_DATA_DIR",
        help_heading = "Global options"
    )]
    pub data_dir: Option<PathBuf>,

    /// The results database, a SQLite file [default: rbee.db in the data directory]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    pub store: Option<PathBuf>,

    /// The server that commands speak to, for example http://host:7835
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "RBEE_SERVER",
        help_heading = "Global options"
    )]
    pub server: Option<String>,

    /// What is logged on stderr, for example `debug` or `rbee_worker=trace,warn` [default: warn]
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "RBEE_LOG",
        help_heading = "Global options"
    )]
    pub log: Option<String>,

    /// Set to `json`, every record of the log is one JSON object
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "RBEE_LOG_FORMAT",
        help_heading = "Global options"
    )]
    pub log_format: Option<String>,
}

impl Global {
    /// The server that the user named, if one was.
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref().filter(|url| !url.is_empty())
    }
}

/// What `rbee` can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Box<run::RunArgs>),
    Rerun(Box<rerun::RerunArgs>),
    Plan(Box<plan::PlanArgs>),
    Infer(Box<infer::InferArgs>),
    Bench(Box<bench::BenchArgs>),
    Serve(Box<serve::ServeArgs>),
    Submit(Box<submit::SubmitArgs>),
    Worker(Box<worker::WorkerArgs>),
    Watch(watch::WatchArgs),
    List(list::ListArgs),
    Status(status::StatusArgs),
    Export(export::ExportArgs),
    Diff(diff::DiffArgs),
    Cancel(cancel::CancelArgs),
    Retry(retry::RetryArgs),
    Pause(pause::PauseArgs),
    Resume(resume::ResumeArgs),
    Purge(purge::PurgeArgs),
    Schedule(schedule::ScheduleArgs),
    Verify(verify::VerifyArgs),
    Nodes(nodes::NodesArgs),
    Logs(logs::LogsArgs),
    Token(token::TokenArgs),
    Models(models::ModelsArgs),
    Deploy(Box<deploy::DeployArgs>),
    Pool(pool::PoolArgs),
    Config(config::ConfigArgs),
    Doctor(doctor::DoctorArgs),
    Install(install::InstallArgs),
    Service(service::ServiceArgs),
    Man(man::ManArgs),
    Completions(completions::CompletionsArgs),
}

/// The command line as it is shown: what stands behind the flags breaks where the terminal ends, not where the source does.
pub fn command_line() -> clap::Command {
    flowing(Cli::command())
}

/// What is given. Prints help and version and ends with exit 0, or with exit 2 for a wrong command line, without a word of
/// flags that the help does not show either.
pub fn matches_of(line: clap::Command) -> clap::ArgMatches {
    let hidden = hidden_flags(&line);
    line.try_get_matches().unwrap_or_else(|mut error| {
        let suggested = error.get(ContextKind::SuggestedArg);
        if matches!(suggested, Some(ContextValue::String(flag)) if hidden.contains(flag)) {
            error.remove(ContextKind::SuggestedArg);
        }
        error.exit()
    })
}

fn hidden_flags(command: &clap::Command) -> Vec<String> {
    let hidden = command.get_arguments().filter(|flag| flag.is_hide_set());
    let own = hidden.filter_map(|flag| Some(format!("--{}", flag.get_long()?)));
    let below = command.get_subcommands().flat_map(hidden_flags);
    own.chain(below).collect()
}

fn flowing(command: clap::Command) -> clap::Command {
    let text = command.get_after_long_help().map(ToString::to_string);
    let command = match text {
        Some(text) => command.after_long_help(flow(&text)),
        None => command,
    };
    command.mut_subcommands(flowing)
}

/// Joins the lines of each paragraph. Indented lines, and what they stand below, stay as they are.
fn flow(text: &str) -> String {
    let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
    let mut flown = String::new();
    let mut before = "";
    for line in text.lines() {
        let goes_on = is_prose(before) && is_prose(line) && !before.ends_with(':');
        if !flown.is_empty() {
            flown.push(if goes_on { ' ' } else { '\n' });
        }
        flown.push_str(line);
        before = line;
    }
    flown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command_line().debug_assert();
    }

    #[test]
    fn paragraphs_flow_and_examples_stand() {
        let text =
            "Examples:\n  rbee run a\n  rbee run b\n\nOne goes\non here.\n\nTwo:\n  0  x\nThree";
        let flown =
            "Examples:\n  rbee run a\n  rbee run b\n\nOne goes on here.\n\nTwo:\n  0  x\nThree";
        assert_eq!(flow(text), flown);
    }
}
