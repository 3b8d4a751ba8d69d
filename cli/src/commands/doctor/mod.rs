//! `rbee doctor`: looks at everything that rbee stands on, and says what to do about what is wrong.
//!
//! Owns the order and the printing. It changes nothing that is there; each look has a limit of its own.

mod files;
mod finding;
mod machine;
mod server;
mod stores;

use clap::Args;

use crate::commands::Context;
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::home::HomeArgs;
use crate::table;
use finding::{Finding, Verdict};

/// Look at this machine and all that rbee stands on, and say what is wrong
///
/// One line each: configuration, data directory, secrets, store, queue, server, clocks, memory, devices, models, limits.
/// The verdict is `ok`, `warn` (it works, and something may be better) or `fail` (it does not); then what was found, and
/// what to do. Nothing is changed, but that
/// the data directory is made. It exits with 1 if anything fails.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee doctor
  rbee doctor --json | jq 'select(.verdict != \"ok\")'
  RBEE_SERVER=http://server:7835 rbee doctor")]
pub struct DoctorArgs {
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub home: HomeArgs,
}

/// Looks, and prints one line a look.
pub async fn run(context: &Context, args: DoctorArgs) -> Outcome {
    let mut findings = vec![version(), config()];
    findings.extend(files::look(context));
    findings.extend(machine::look(context));
    findings.extend(files::models(context));
    findings.extend(stores::look(context, &args.home).await);
    findings.extend(server::look(context).await);
    match args.json {
        true => table::print(findings.iter().map(|one| one.as_json().to_string()))?,
        false => table::print(findings.iter().map(Finding::line))?,
    }
    let count = |verdict| findings.iter().filter(|one| one.verdict == verdict).count();
    let (failed, warned) = (count(Verdict::Fail), count(Verdict::Warn));
    context.talk.note(&format!(
        "{} looks: {failed} failed, {warned} with a warning",
        findings.len()
    ));
    match failed {
        0 => Ok(ExitCode::Success),
        _ => Ok(ExitCode::Error),
    }
}

fn version() -> Finding {
    let (version, system) = (env!("CARGO_PKG_VERSION"), std::env::consts::OS);
    Finding::ok(
        "version",
        format!("rbee {version}, {system} on {}", std::env::consts::ARCH),
    )
}

fn config() -> Finding {
    let what = "config";
    match Config::load() {
        Ok(Config {
            file: Some(file), ..
        }) => Finding::ok(what, file.path.display().to_string()),
        Ok(_) => Finding::ok(what, "no file: everything is as flags and environment say"),
        Err(failure) => Finding::fail(
            what,
            plain(&failure),
            "`rbee config edit` changes it; every other command refuses to work until then",
        ),
    }
}

/// A failure's sentence as a part of a line.
fn plain(failure: &Failure) -> String {
    let sentence = failure.sentence().unwrap_or_default();
    let words: Vec<&str> = sentence
        .trim_start_matches("error: ")
        .split_whitespace()
        .collect();
    words.join(" ")
}
