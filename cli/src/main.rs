//! The one binary `rbee`: arguments, wiring, and one file a command.
//!
//! It decides nothing about batches, models or tokens: those live in the crates it wires together.

mod age;
mod args;
mod batch_args;
mod batch_choice;
mod batch_spec;
mod batch_view;
mod batches_home;
mod blame;
mod byte_size;
mod client;
mod commands;
mod config;
mod crash_journal;
mod descriptors;
mod engine_args;
mod engine_host;
mod exit_code;
#[cfg(feature = "failpoints")]
mod failpoints;
mod failure;
mod home;
mod install;
mod living;
mod logging;
mod machine_zone;
mod models_home;
mod moment;
mod node_host;
mod node_shelf;
mod orphan;
#[cfg(feature = "otlp")]
mod otlp;
mod output;
mod paths;
mod placing_args;
mod plans;
mod progress;
mod remote;
mod results;
mod sampling_args;
mod schedule_settings;
mod seconds;
mod secrets;
mod server_lock;
mod server_models;
mod server_token;
mod service;
mod signals;
mod supervisor;
mod table;
mod talk;
mod traces_args;

use std::process::ExitCode as ProcessExitCode;

use clap::FromArgMatches;

use crate::args::{Cli, Command};
use crate::config::Config;
use crate::failure::{Failure, Outcome};
use crate::talk::Talk;

/// Threads that run the async side. The engine computes on threads of its own.
const ASYNC_THREADS: usize = 2;

fn main() -> ProcessExitCode {
    let cli = match command_line() {
        Ok(cli) => cli,
        Err(failure) => return told(&Talk::new(false), &failure),
    };
    let talk = Talk::new(cli.global.quiet);
    logging::start(&talk, &cli.global);
    match run(cli, &talk) {
        Ok(code) => code.into(),
        Err(failure) => told(&talk, &failure),
    }
}

fn told(talk: &Talk, failure: &Failure) -> ProcessExitCode {
    if let Some(sentence) = failure.sentence() {
        talk.line(&sentence);
    }
    failure.exit_code().into()
}

/// What the user asks for: the command line, and what it leaves open from the configuration file. Prints help and version
/// and ends with exit 0, or with exit 2 for a wrong command line.
fn command_line() -> Result<Cli, Failure> {
    let given = args::matches_of(args::command_line());
    let command = given.subcommand_name().unwrap_or_default();
    let filled = Config::load().and_then(|config| {
        if let Some(file) = &config.file {
            secrets::know_files(file);
        }
        config.fill(args::command_line(), command)
    });
    let matches = match filled {
        Ok(line) => args::matches_of(line),
        Err(failure) if config::must_be_sound(command) => return Err(failure),
        // It works without the file, and says itself what is wrong there.
        Err(_) => given,
    };
    Ok(Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()))
}

fn run(cli: Cli, talk: &Talk) -> Outcome {
    if let Command::Completions(args) = &cli.command {
        return commands::completions::run(args);
    }
    install_tls_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(ASYNC_THREADS)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(commands::dispatch(cli, talk));
    // Blocking work that was abandoned by Ctrl-C (a download, a hash) must not hold up the exit.
    runtime.shutdown_background();
    outcome
}

/// rustls wants one provider for the process; with none chosen its first use panics.
fn install_tls_provider() {
    // An error means that one is installed already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
