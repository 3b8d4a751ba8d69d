//! `cargo xtask bench`: what is measured and how it is shown. It writes no file: it prints a block for BENCHMARKS.md.
//!
//! Each figure comes from a process of its own, and the programs that are compared take turns, so that what else the
//! machine does falls on all of them.

mod cluster;
mod engine;
mod http;
mod jobs;
mod llama;
mod peer;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::Value as Json;

use crate::cargo::{cargo, release_dir, root, run as run_command};
use crate::models;

pub use cluster::ClusterBench;
use jobs::JobKind;

#[derive(Subcommand)]
pub enum Subject {
    /// One stream against candle's own model, many streams against one, memory against the plan; or, with --peer, the same
    /// job through rbee and through another server
    Engine(EngineBench),
    /// The matrix kernels alone, for each block type, against the processor's peak of 8-bit dot products
    Kernels(KernelBench),
    /// Submit, run and export through coordinator, Redis, Postgres and a node, beside a bare COPY
    Cluster(ClusterBench),
    /// Write a job file that `engine --peer` runs
    Jobs {
        kind: JobKind,
        file: PathBuf,
        /// Lines
        #[arg(long, default_value_t = 256)]
        jobs: usize,
    },
}

#[derive(Args)]
pub struct EngineBench {
    /// A GGUF file of architecture llama, which candle can run too [default: the SmolLM2 test model]
    #[arg(long)]
    model: Option<PathBuf>,
    /// Turns; figures are medians over them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Tokens of each prompt
    #[arg(long, default_value_t = 256)]
    prompt: usize,
    /// Tokens generated for each prompt
    #[arg(long, default_value_t = 64)]
    generate: usize,
    /// Sequences at once, against one
    #[arg(long, default_value_t = 32)]
    sequences: usize,
    #[command(flatten)]
    peer: peer::PeerArgs,
}

#[derive(Args)]
pub struct KernelBench {
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Rows that go through a matrix together
    #[arg(long, default_value_t = 32)]
    rows: usize,
    /// Only these kernels, for example avx2 [default: the fastest]
    #[arg(long)]
    kernel: Option<String>,
}

pub fn run(subject: Subject) -> Result<()> {
    match subject {
        Subject::Engine(bench) => engine(&bench),
        Subject::Kernels(bench) => kernels(&bench),
        Subject::Cluster(bench) => cluster::cluster(&bench),
        Subject::Jobs { kind, file, jobs } => Ok(std::fs::write(file, jobs::lines(kind, jobs))?),
    }
}

fn engine(bench: &EngineBench) -> Result<()> {
    ensure!(bench.rounds > 0, "--rounds must be at least 1");
    let model = match &bench.model {
        Some(model) => std::path::absolute(model)?,
        None => models::fetch_all()?.join("smollm2-135m.gguf"),
    };
    build_all()?;
    if bench.peer.wanted() {
        return peer::against_peer(bench, &model);
    }
    engine::against_candle(bench, &model)
}

fn kernels(bench: &KernelBench) -> Result<()> {
    build_all()?;
    let mut measuring = Command::new(release_dir().join("examples").join("kernel_speed"));
    measuring.args([bench.threads, bench.rows].map(|number| number.to_string()));
    measuring.args(&bench.kernel);
    let found = figures_of(&mut measuring)?;
    let number = |value: &Json| value.as_f64().context("it measured no number");
    let peak = number(&found["peak_gops"])?;
    println!(
        "### Kernels, {}\n\n{}, {} threads, {} rows, {}; peak of 8-bit dot products {peak:.0} GOPS\n",
        dated()?,
        processor(),
        bench.threads,
        bench.rows,
        found["kernel"].as_str().unwrap_or_default()
    );
    println!("| type | columns x inputs | GOPS | of the peak |\n|---|---|---|---|");
    for one in found["matrices"].as_array().into_iter().flatten() {
        let gops = number(&one["gops"])?;
        println!(
            "| {} | {} x {} | {gops:.0} | {:.0}% |",
            one["type"].as_str().unwrap_or_default(),
            one["n"],
            one["k"],
            gops / peak * 100.0
        );
    }
    Ok(())
}

fn build_all() -> Result<()> {
    run_command(&mut cargo(&[
        "build",
        "--release",
        "--workspace",
        "--all-targets",
    ]))
}

/// Runs a measuring program and reads the JSON that it prints.
fn figures_of(command: &mut Command) -> Result<Json> {
    let output = command
        .output()
        .with_context(|| format!("could not start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    serde_json::from_slice(&output.stdout).context("the measuring program printed no JSON")
}

/// The middle value, or the mean of the two middle ones.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

/// When and which commit.
fn dated() -> Result<String> {
    let said = |program: &str, arguments: &[&str]| -> Result<String> {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(root())
            .output()
            .with_context(|| format!("could not start {program}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let date = said("date", &["-u", "+%Y-%m-%d"])?;
    let commit = said("git", &["rev-parse", "--short", "HEAD"])?;
    Ok(format!("{date}, commit {commit}"))
}

fn processor() -> String {
    let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = information
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    match name.and_then(|name| name.split_once(':')) {
        Some((_, name)) => name.trim().to_string(),
        None => format!("a processor of {}", std::env::consts::ARCH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_value_or_the_mean_of_the_two_middle_ones() {
        assert_eq!(median(vec![5.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 100.0]), 3.0);
    }
}
