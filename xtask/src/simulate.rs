//! `cargo xtask simulate`: builds the scheduler's simulator and runs it.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::cargo::{cargo, release_dir, run as run_command};

#[derive(Args)]
pub struct Simulate {
    /// Play this one only
    #[arg(long)]
    scenario: Option<String>,
    /// One JSON object a play instead of tables
    #[arg(long)]
    json: bool,
}

pub fn run(simulate: &Simulate) -> Result<()> {
    // With the whole workspace's features, so that nothing is compiled twice.
    run_command(&mut cargo(&[
        "build",
        "--release",
        "--workspace",
        "--example",
        "simulate",
    ]))?;
    let mut playing = Command::new(release_dir().join("examples").join("simulate"));
    if let Some(scenario) = &simulate.scenario {
        playing.args(["--scenario", scenario]);
    }
    if simulate.json {
        playing.arg("--json");
    }
    run_command(&mut playing)
}
