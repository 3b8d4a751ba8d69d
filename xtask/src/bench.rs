//! `cargo xtask bench`: what is measured and how it is shown. It writes no file: it prints a block for BENCHMARKS.md.

use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
pub enum Subject {
    /// One stream against candle's own model, many streams against one, memory against the plan
    Engine,
}

pub fn run(subject: Subject) -> Result<()> {
    match subject {
        Subject::Engine => anyhow::bail!("not measured yet"),
    }
}
