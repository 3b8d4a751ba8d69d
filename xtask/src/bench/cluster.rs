//! `cargo xtask bench cluster`: the way through coordinator, Redis, Postgres and a node, beside a bare COPY.

use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value as Json;

use super::{build_all, dated, figures_of, processor};
use crate::cargo::release_dir;
use crate::{models, services};

#[derive(Args)]
pub struct ClusterBench {
    /// Jobs of the batch, each about 200 bytes
    #[arg(long, default_value_t = 1_000_000)]
    jobs: usize,
}

pub fn cluster(bench: &ClusterBench) -> Result<()> {
    services::ensure_all()?;
    let models = models::fetch_all()?;
    build_all()?;
    let program = release_dir().join("examples").join("cluster_speed");
    let mut measuring = Command::new(&program);
    measuring
        .arg(bench.jobs.to_string())
        .env("RBEE_TEST_MODELS", models)
        .env("RBEE_BIN", release_dir().join("rbee"));
    let found = figures_of(&mut measuring)?;
    let number = |name: &str| {
        found
            .pointer(name)
            .and_then(Json::as_f64)
            .with_context(|| format!("it measured no {name}"))
    };
    let (submit, bare) = (number("/submit_s")?, number("/bare_copy_s")?);
    let (run, through) = (number("/real/run_s")?, number("/real/cluster_s")?);
    println!("### Cluster, {}\n", dated()?);
    println!(
        "{}; {} jobs of about 200 bytes, stub engine; Redis and Postgres on loopback\n",
        processor(),
        bench.jobs
    );
    println!("| | figure | limit |\n|---|---|---|");
    println!(
        "| submit / bare COPY of the same rows | {submit:.1} s / {bare:.1} s = {:.2} | 2 |",
        submit / bare
    );
    println!(
        "| end to end, jobs/s | {:.0} | 5,000 |",
        number("/jobs_per_s")?
    );
    println!(
        "| export, lines/s | {:.0} | 100,000 |",
        number("/export_lines_per_s")?
    );
    println!(
        "| coordinator's peak memory, MB | {:.0} | 256 |",
        number("/coordinator_peak_bytes")? / 1e6
    );
    println!(
        "| submit to first token, ms | {:.0} | 100 |",
        number("/first_token_ms")?
    );
    println!(
        "| real model, {} more prompts of 48 tokens: cluster / `rbee run` | {through:.2} s / {run:.2} s = {:.3} | 1.03 |",
        number("/real/prompts")?,
        through / run
    );
    Ok(())
}
