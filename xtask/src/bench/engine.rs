//! `cargo xtask bench engine` without a peer: one stream against candle's own model, many streams against one, memory against
//! the plan.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{EngineBench, dated, figures_of, median, processor};
use crate::cargo::release_dir;
use crate::say;

/// What one process measured.
pub struct Figures {
    pub prefill_tokens_per_s: f64,
    pub decode_tokens_per_s: f64,
    peak_bytes: f64,
    planned_bytes: Option<f64>,
}

/// Measures and prints.
pub fn against_candle(bench: &EngineBench, model: &Path) -> Result<()> {
    let mut one_candle = Vec::new();
    let mut one_rbee = Vec::new();
    let mut many_rbee = Vec::new();
    for round in 1..=bench.rounds {
        say(&format!("round {round} of {}", bench.rounds))?;
        one_candle.push(measure(bench, model, "candle", 1)?);
        one_rbee.push(measure(bench, model, "rbee", 1)?);
        many_rbee.push(measure(bench, model, "rbee", bench.sequences)?);
    }
    println!("{}", heading(bench, model)?);
    println!("| | prefill tokens/s | decode tokens/s | peak memory MB | planned MB |");
    println!("|---|---|---|---|---|");
    let row = |name: &str, figures: &[Figures]| {
        let megabytes = |bytes: f64| format!("{:.0}", bytes / 1e6);
        let planned = figures[0].planned_bytes.map_or("".to_string(), megabytes);
        println!(
            "| {name} | {:.0} | {:.1} | {} | {planned} |",
            median_of(figures, |one| one.prefill_tokens_per_s),
            median_of(figures, |one| one.decode_tokens_per_s),
            megabytes(median_of(figures, |one| one.peak_bytes)),
        );
    };
    row("candle quantized_llama, 1 sequence", &one_candle);
    row("rbee, 1 sequence", &one_rbee);
    row(&format!("rbee, {} sequences", bench.sequences), &many_rbee);
    let decode = |figures: &[Figures]| median_of(figures, |one| one.decode_tokens_per_s);
    let prefill = |figures: &[Figures]| median_of(figures, |one| one.prefill_tokens_per_s);
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
                median_of(figures, |one| one.peak_bytes) / planned
            );
        }
    }
    Ok(())
}

pub fn measure(
    bench: &EngineBench,
    model: &Path,
    engine: &str,
    sequences: usize,
) -> Result<Figures> {
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

fn median_of(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    median(figures.iter().map(of).collect())
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
