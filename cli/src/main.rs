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
mod crash_journal;
mod descriptors;
mod engine_args;
mod engine_host;
mod exit_code;
#[cfg(feature = "failpoints")]
mod failpoints;
mod failure;
mod home;
mod living;
mod logging;
mod machine_zone;
mod models_home;
mod moment;
mod node_host;
mod node_shelf;
mod output;
mod paths;
mod plans;
mod progress;
mod results;
mod sampling_args;
mod schedule_settings;
mod seconds;
mod server_models;
mod server_token;
mod signals;
mod supervisor;
mod table;
mod talk;

use std::process::ExitCode as ProcessExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::failure::Outcome;
use crate::talk::Talk;

/// Threads that run the async side. The engine computes on threads of its own.
const ASYNC_THREADS: usize = 2;

fn main() -> ProcessExitCode {
    // Prints help and version with exit 0, a wrong command line with exit 2.
    let cli = Cli::parse();
    let talk = Talk::new(cli.global.quiet);
    logging::start(&talk);
    let code = match run(cli, &talk) {
        Ok(code) => code,
        Err(failure) => {
            if let Some(sentence) = failure.sentence() {
                talk.line(&sentence);
            }
            failure.exit_code()
        }
    };
    code.into()
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
