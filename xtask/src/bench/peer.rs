//! `cargo xtask bench engine --peer`: the same requests through rbee and through another server, in turn, on the same cores.
//!
//! rbee is measured as `rbee run`, from its start to its results file; the peer from the first request to the last answer,
//! with its model loaded before. So what the comparison leaves out is in the peer's favour.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};

use super::http::Address;
use super::jobs::{self, JobKind};
use super::llama::{self, Server, ServerOptions};
use super::{EngineBench, dated, engine, median, processor};
use crate::cargo::release_dir;
use crate::say;

/// Positions that a slot of llama.cpp's server gets: more than any job has.
const SLOT_CONTEXT: usize = 1024;
/// How often a process's memory is looked at; what is read only grows.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Part of the job by which the best number of slots is found.
const TRIAL_SHARE: usize = 4;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Comparison {
    /// A file of prompts of mixed lengths
    Mixed,
    /// A file of questions under one long system prompt
    Prefix,
    /// Prefill and decode of one sequence, decode of many, beside llama.cpp's own benchmarks
    Rates,
}

#[derive(Args)]
pub struct PeerArgs {
    /// Compare with an OpenAI-compatible server that runs the same file: its URL, or `llama` to start llama.cpp's
    #[arg(long, value_name = "URL|llama")]
    peer: Option<String>,
    /// What to compare with the peer
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "mixed",
        requires = "peer"
    )]
    compare: Vec<Comparison>,
    /// Lines of the job files
    #[arg(long, default_value_t = 256, requires = "peer")]
    jobs: usize,
    /// Requests that the peer gets at once; of several the fastest is found first by a quarter of the job
    #[arg(long, value_delimiter = ',', default_values_t = [4, 16, 32], requires = "peer")]
    peer_slots: Vec<usize>,
}

impl PeerArgs {
    /// Whether the comparison is with a peer.
    pub fn wanted(&self) -> bool {
        self.peer.is_some()
    }
}

/// One pass over a job file.
struct Pass {
    seconds: f64,
    prompt_tokens: u64,
    completion_tokens: u64,
    peak_bytes: Option<u64>,
}

impl Pass {
    fn rate(&self) -> f64 {
        (self.prompt_tokens + self.completion_tokens) as f64 / self.seconds
    }
}

/// Compares and prints.
pub fn against_peer(bench: &EngineBench, model: &Path) -> Result<()> {
    let file = model.file_name().unwrap_or_default().to_string_lossy();
    println!(
        "### Against a peer, {}\n\n{}, {} threads; {file}; medians of {} alternating rounds\n",
        dated()?,
        processor(),
        bench.threads,
        bench.rounds
    );
    for comparison in &bench.peer.compare {
        match comparison {
            Comparison::Mixed => job(bench, model, JobKind::Mixed)?,
            Comparison::Prefix => job(bench, model, JobKind::Prefix)?,
            Comparison::Rates => rates(bench, model)?,
        }
    }
    Ok(())
}

fn job(bench: &EngineBench, model: &Path, kind: JobKind) -> Result<()> {
    let requests = jobs::requests(kind, bench.peer.jobs);
    let slots = best_slots(bench, model, kind, &requests)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=bench.rounds {
        say(&format!("{kind:?} job, round {round} of {}", bench.rounds))?;
        ours.push(through_rbee(bench, model, &requests)?);
        theirs.push(through_peer(bench, model, &requests, slots)?);
    }
    println!(
        "{} jobs, {kind:?}; the peer with {slots} requests at once\n",
        requests.len()
    );
    println!(
        "| | prompt + new tokens | seconds | tokens/s | peak memory MB |\n|---|---|---|---|---|"
    );
    let row = |name: &str, passes: &[Pass]| {
        let first = &passes[0];
        let peak = passes.iter().filter_map(|pass| pass.peak_bytes).max();
        println!(
            "| {name} | {} + {} | {:.1} | {:.0} | {} |",
            first.prompt_tokens,
            first.completion_tokens,
            median(passes.iter().map(|pass| pass.seconds).collect()),
            median(passes.iter().map(Pass::rate).collect()),
            peak.map_or(String::new(), |bytes| (bytes / 1_000_000).to_string())
        );
    };
    row("rbee run", &ours);
    row("peer", &theirs);
    let ratios = ours.iter().zip(&theirs);
    let ratios = ratios.map(|(ours, theirs)| theirs.seconds / ours.seconds);
    println!(
        "\n- the peer's seconds / rbee's: {:.2}\n",
        median(ratios.collect())
    );
    Ok(())
}

/// The number of requests at once with which the peer is fastest.
fn best_slots(
    bench: &EngineBench,
    model: &Path,
    kind: JobKind,
    requests: &[Json],
) -> Result<usize> {
    let choices = &bench.peer.peer_slots;
    ensure!(
        !choices.is_empty() && !choices.contains(&0),
        "--peer-slots must be at least 1"
    );
    if let [slots] = choices[..] {
        return Ok(slots);
    }
    let part = &requests[..requests.len().div_ceil(TRIAL_SHARE)];
    let mut best = (0.0, choices[0]);
    for slots in choices {
        let pass = through_peer(bench, model, part, *slots)?;
        say(&format!(
            "{kind:?}: peer with {slots} at once, {:.0} tokens/s",
            pass.rate()
        ))?;
        if pass.rate() > best.0 {
            best = (pass.rate(), *slots);
        }
    }
    Ok(best.1)
}

fn through_peer(
    bench: &EngineBench,
    model: &Path,
    requests: &[Json],
    slots: usize,
) -> Result<Pass> {
    let server = match bench.peer.peer.as_deref() {
        Some("llama") => Some(Server::start(&ServerOptions {
            model,
            threads: bench.threads,
            slots,
            context: SLOT_CONTEXT,
        })?),
        _ => None,
    };
    let address = match (&server, &bench.peer.peer) {
        (Some(server), _) => server.address.clone(),
        (None, Some(url)) => Address::parse(url)?,
        (None, None) => bail!("there is no peer"),
    };
    let mut pass = ask_all(&address, requests, slots)?;
    pass.peak_bytes = server.and_then(|server| server.peak_bytes().ok());
    Ok(pass)
}

/// Sends all requests, `slots` at a time.
fn ask_all(address: &Address, requests: &[Json], slots: usize) -> Result<Pass> {
    let next = AtomicUsize::new(0);
    let usages = Mutex::new(Vec::new());
    let started = Instant::now();
    let asking = || -> Result<()> {
        while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut request = request.clone();
            let path = match request.get("messages") {
                Some(_) => "/v1/chat/completions",
                None => "/v1/completions",
            };
            request["model"] = json!("default");
            let answer = address.ask(path, Some(&request))?;
            let count = |name: &str| {
                let tokens = answer["usage"][name].as_u64();
                tokens.with_context(|| format!("{path} was answered without {name}"))
            };
            let usage = (count("prompt_tokens")?, count("completion_tokens")?);
            usages.lock().expect("no thread panics").push(usage);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..slots).map(|_| scope.spawn(asking)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("no thread panics"))
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let usages = usages.into_inner().expect("no thread panics");
    Ok(Pass {
        seconds,
        prompt_tokens: usages.iter().map(|(prompt, _)| prompt).sum(),
        completion_tokens: usages.iter().map(|(_, completion)| completion).sum(),
        peak_bytes: None,
    })
}

/// A folder that goes when this goes.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("rbee-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It lies in the temporary folder, where it does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn through_rbee(bench: &EngineBench, model: &Path, requests: &[Json]) -> Result<Pass> {
    let folder = Folder::new()?;
    let (input, output) = (folder.0.join("jobs.jsonl"), folder.0.join("results.jsonl"));
    let lines: String = requests.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&input, lines)?;
    let started = Instant::now();
    let mut child = Command::new(release_dir().join("rbee"))
        .arg("run")
        .arg(&input)
        .arg("--output")
        .arg(&output)
        .arg("--model")
        .arg(model)
        .arg("--data-dir")
        .arg(folder.0.join("data"))
        .args(["--quiet", "--slots", &bench.sequences.to_string()])
        .args(["--threads", &bench.threads.to_string()])
        .stdout(Stdio::null())
        .spawn()
        .context("rbee cannot be started")?;
    let mut peak = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        peak = peak.max(peak_of_children(child.id()));
        std::thread::sleep(LOOK_EVERY);
    };
    let seconds = started.elapsed().as_secs_f64();
    ensure!(status.success(), "rbee run ended with {status}");
    let (mut prompt_tokens, mut completion_tokens) = (0, 0);
    for line in std::fs::read_to_string(&output)?.lines() {
        let result: Json = serde_json::from_str(line)?;
        let usage = &result["response"]["body"]["usage"];
        let usage = if usage.is_null() {
            &result["usage"]
        } else {
            usage
        };
        let count = |name: &str| {
            usage[name]
                .as_u64()
                .with_context(|| format!("a result has no {name}: {line}"))
        };
        prompt_tokens += count("prompt_tokens")?;
        completion_tokens += count("completion_tokens")?;
    }
    Ok(Pass {
        seconds,
        prompt_tokens,
        completion_tokens,
        peak_bytes: Some(peak),
    })
}

/// `rbee run` is a tiny parent and the child that computes.
fn peak_of_children(process: u32) -> u64 {
    let list = format!("/proc/{process}/task/{process}/children");
    let children = std::fs::read_to_string(list).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|id| id.parse().ok());
    children
        .map(|child| llama::peak_bytes(child).unwrap_or(0))
        .max()
        .unwrap_or(0)
}

fn rates(bench: &EngineBench, model: &Path) -> Result<()> {
    ensure!(
        bench.peer.peer.as_deref() == Some("llama"),
        "rates are compared with llama.cpp's own benchmarks only: --peer llama"
    );
    let EngineBench {
        threads,
        prompt,
        generate,
        sequences,
        ..
    } = *bench;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=bench.rounds {
        say(&format!("rates, round {round} of {}", bench.rounds))?;
        let one = engine::measure(bench, model, "rbee", 1)?;
        let [prefill, decode] = llama::one_sequence(model, threads, prompt, generate)?;
        let many = engine::measure(bench, model, "rbee", sequences)?;
        let batched = llama::many_sequences(model, threads, (sequences, prompt, generate))?;
        ours.push([
            one.prefill_tokens_per_s,
            one.decode_tokens_per_s,
            many.decode_tokens_per_s,
        ]);
        theirs.push([prefill, decode, batched]);
    }
    println!("| tokens/s | rbee | llama.cpp | ratio |\n|---|---|---|---|");
    let names = [
        format!("prefill of {prompt}"),
        "decode, 1 sequence".to_owned(),
        format!("decode, {sequences} sequences"),
    ];
    for (at, name) in names.iter().enumerate() {
        let of = |figures: &[[f64; 3]]| median(figures.iter().map(|one| one[at]).collect());
        let pairs = ours.iter().zip(&theirs);
        let ratio = median(pairs.map(|(ours, theirs)| ours[at] / theirs[at]).collect());
        println!(
            "| {name} | {:.0} | {:.0} | {ratio:.2} |",
            of(&ours),
            of(&theirs)
        );
    }
    println!();
    Ok(())
}
