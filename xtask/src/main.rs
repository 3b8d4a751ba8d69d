//! The repository's own commands: `cargo xtask test | ci | aarch64 | models | bench | simulate | dist`.
//!
//! Owns how this repository is checked and measured. It links none of the product's crates, so that it builds in seconds
//! on a bare machine; everything it measures or drives runs as another process.

mod aarch64;
mod bench;
mod cargo;
mod check;
mod dist;
mod house;
mod leftovers;
mod models;
mod nvcc;
mod python;
mod services;
mod simulate;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Check and measure rbee")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch what the tests need, build rbee and run every test; `test faults` runs the long fault tests at full size
    Test {
        /// Run only the tests whose name contains this
        filter: Option<String>,
    },
    /// Everything that must hold before a change lands: fmt, clippy (also of the GPU feature), the house rules, then `test`
    Ci,
    /// Check and test the kernels for 64-bit ARM under emulation, as `ci` does too
    Aarch64,
    /// Fetch the test models and say where they are
    Models,
    /// Measure on this machine
    Bench {
        #[command(subcommand)]
        subject: bench::Subject,
    },
    /// Make a release: an archive, a Debian package, the list of what is built in, checksums
    Dist(dist::Dist),
    /// Play the scheduler's policy on pretended clusters, beside two others and a lower bound; fails where it is too slow
    Simulate(simulate::Simulate),
}

fn main() -> ExitCode {
    if nvcc::is_asked_for() {
        return ended(nvcc::answer());
    }
    let done = match Arguments::parse().command {
        Command::Test { filter } => check::test(filter.as_deref()),
        Command::Ci => check::ci(),
        Command::Aarch64 => aarch64::check(),
        Command::Models => models::fetch_all().map(|_| ()),
        Command::Bench { subject } => bench::run(subject),
        Command::Dist(dist) => dist::run_dist(&dist),
        Command::Simulate(simulate) => simulate::run(&simulate),
    };
    ended(done)
}

fn ended(done: Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One line about what happens now, on stderr, so that cargo's own lines stay the last ones on stdout.
fn say(line: &str) -> Result<()> {
    use std::io::Write;
    writeln!(std::io::stderr(), "xtask: {line}")?;
    Ok(())
}
