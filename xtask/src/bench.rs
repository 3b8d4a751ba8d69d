//! `cargo xtask bench`: what is measured and how it is shown. It writes no file: it prints a block for BENCHMARKS.md.
//!
//! Each figure comes from a process of its own, and the programs that are compared take turns, so that what else the
//! machine does falls on all of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::Value as Json;

use crate::cargo::{cargo, release_dir, root, run as run_command};
use crate::{models, say, services};

#[derive(Subcommand)]
pub enum Subject {
    /// One stream against candle's own model, many streams against one, memory against the plan
    Engine(EngineBench),
    /// Submit, run and export through coordinator, Redis, Postgres and a node, beside a bare COPY
    Cluster(ClusterBench),
}

#[derive(Args)]
pub struct ClusterBench {
    /// Jobs of the batch, each about 200 bytes
    #[arg(long, default_value_t = 1_000_000)]
    jobs: usize,
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
}

pub fn run(subject: Subject) -> Result<()> {
    match subject {
        Subject::Engine(bench) => engine(&bench),
        Subject::Cluster(bench) => cluster(&bench),
    }
}

fn cluster(bench: &ClusterBench) -> Result<()> {
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

/// What one process measured.
struct Figures {
    prefill_tokens_per_s: f64,
    decode_tokens_per_s: f64,
    peak_bytes: f64,
    planned_bytes: Option<f64>,
}

fn engine(bench: &EngineBench) -> Result<()> {
    ensure!(bench.rounds > 0, "--rounds must be at least 1");
    let model = match &bench.model {
        Some(model) => std::path::absolute(model)?,
        None => models::fetch_all()?.join("smollm2-135m.gguf"),
    };
    build_all()?;
    let mut one_candle = Vec::new();
    let mut one_rbee = Vec::new();
    let mut many_rbee = Vec::new();
    for round in 1..=bench.rounds {
        say(&format!("round {round} of {}", bench.rounds))?;
        one_candle.push(measure(bench, &model, "candle", 1)?);
        one_rbee.push(measure(bench, &model, "rbee", 1)?);
        many_rbee.push(measure(bench, &model, "rbee", bench.sequences)?);
    }
    println!("{}", heading(bench, &model)?);
    println!("| | prefill tokens/s | decode tokens/s | peak memory MB | planned MB |");
    println!("|---|---|---|---|---|");
    let row = |name: &str, figures: &[Figures]| {
        let megabytes = |bytes: f64| format!("{:.0}", bytes / 1e6);
        let planned = figures[0].planned_bytes.map_or("".to_string(), megabytes);
        println!(
            "| {name} | {:.0} | {:.1} | {} | {planned} |",
            median(figures, |one| one.prefill_tokens_per_s),
            median(figures, |one| one.decode_tokens_per_s),
            megabytes(median(figures, |one| one.peak_bytes)),
        );
    };
    row("candle quantized_llama, 1 sequence", &one_candle);
    row("rbee, 1 sequence", &one_rbee);
    row(&format!("rbee, {} sequences", bench.sequences), &many_rbee);
    let decode = |figures: &[Figures]| median(figures, |one| one.decode_tokens_per_s);
    let prefill = |figures: &[Figures]| median(figures, |one| one.prefill_tokens_per_s);
    println!();
    println!(
        "- one sequence, rbee / candle: decode {:.2}, prefill {:.2}",
        decode(&one_rbee) / decode(&one_candle),
        prefill(&one_rbee) / prefill(&one_candle)
    );
    println!(
        "- {} sequences / one: decode {:.2}",
        bench.sequences,
        decode(&many_rbee) / decode(&one_rbee)
    );
    for (name, figures) in [("1 sequence", &one_rbee), ("many sequences", &many_rbee)] {
        if let Some(planned) = figures[0].planned_bytes {
            println!(
                "- memory, {name}: peak / plan {:.2}",
                median(figures, |one| one.peak_bytes) / planned
            );
        }
    }
    Ok(())
}

fn measure(bench: &EngineBench, model: &Path, engine: &str, sequences: usize) -> Result<Figures> {
    let program = release_dir().join("examples").join("engine_speed");
    let mut measuring = Command::new(&program);
    measuring
        .args([engine, &model.to_string_lossy()])
        .args(
            [bench.threads, sequences, bench.prompt, bench.generate]
                .map(|number| number.to_string()),
        )
        .env("RAYON_NUM_THREADS", bench.threads.to_string())
        .env("CANDLE_NUM_THREADS", bench.threads.to_string());
    let found = figures_of(&mut measuring)?;
    let number = |name: &str| {
        found[name]
            .as_f64()
            .with_context(|| format!("it measured no {name}"))
    };
    Ok(Figures {
        prefill_tokens_per_s: number("prefill_tokens_per_s")?,
        decode_tokens_per_s: number("decode_tokens_per_s")?,
        peak_bytes: number("peak_bytes")?,
        planned_bytes: found["planned_bytes"].as_f64(),
    })
}

fn median(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = figures.iter().map(of).collect();
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

/// When, which commit, which processor, which file, what was asked.
fn heading(bench: &EngineBench, model: &Path) -> Result<String> {
    Ok(format!(
        "### Engine, {}\n\n{}, {} threads; {}; prompts of {} tokens, {} generated; medians of {} \
         alternating rounds\n",
        dated()?,
        processor(),
        bench.threads,
        model.file_name().unwrap_or_default().to_string_lossy(),
        bench.prompt,
        bench.generate,
        bench.rounds
    ))
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
        let figures = |values: &[f64]| -> Vec<Figures> {
            let one = |value: &f64| Figures {
                prefill_tokens_per_s: *value,
                decode_tokens_per_s: 0.0,
                peak_bytes: 0.0,
                planned_bytes: None,
            };
            values.iter().map(one).collect()
        };
        let middle = |values: &[f64]| median(&figures(values), |one| one.prefill_tokens_per_s);
        assert_eq!(middle(&[5.0, 1.0, 3.0]), 3.0);
        assert_eq!(middle(&[4.0, 1.0, 2.0, 100.0]), 3.0);
    }
}
