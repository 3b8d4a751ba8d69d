//! Running made-up jobs through an engine of its own, and the rates that come of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use rbee_queue::Outcome;
use rbee_worker::engine::{Engine, EngineEvent, EngineOptions, TextFace};
use rbee_worker::model::memory::MemoryPlan;
use rbee_worker::tokenizer::Tokenizer;
use tokio::sync::mpsc;

use super::{BenchArgs, workload};
use crate::engine_host::{self, Room, Source};
use crate::failure::Failure;
use crate::talk::Talk;

/// Events that wait to be read.
const EVENTS_WAITING: usize = 1024;
/// Jobs of the mixed measurement for each sequence of the batch: enough that prompts and answers overlap.
const MIXED_ROUNDS: usize = 3;
/// Prompts of the mixed measurement are this many parts of the asked length, in turn.
const MIXED_LENGTHS: [f64; 4] = [0.25, 1.0, 0.5, 0.75];
/// Tokens of the warm-up's answers.
const WARM_UP_TOKENS: u32 = 4;

/// Tokens a second of one batch size.
pub struct Rates {
    /// Prompts alone.
    pub prompt: f64,
    /// Answers alone.
    pub answer: f64,
    /// Prompts and answers of a file that is longer than the batch.
    pub mixed: f64,
    pub took: Duration,
    /// The most memory that the process held so far; `None` where the system does not tell.
    pub peak_bytes: Option<u64>,
}

/// A loaded model and the engine that runs it.
pub struct Bench {
    engine: Engine,
    events: mpsc::Receiver<EngineEvent>,
    tokenizer: Arc<Tokenizer>,
    pub memory: MemoryPlan,
    pub architecture: String,
    prompt_tokens: u32,
    new_tokens: u32,
    /// Jobs so far: the next one's number.
    jobs: u64,
}

impl Bench {
    /// Loads the model and starts the engine.
    pub async fn load(source: Source, args: &BenchArgs, talk: &Talk) -> Result<Bench, Failure> {
        let (engine_args, said) = (args.engine.clone(), talk.clone());
        let room = Room::Alone(args.engine.machine.memory);
        let loading = move || engine_host::load(&source, &engine_args, room, &said);
        let loaded = tokio::task::spawn_blocking(loading)
            .await?
            .map_err(|error| anyhow!(error.message))?;
        let (sender, events) = mpsc::channel(EVENTS_WAITING);
        let options = EngineOptions {
            slots: engine_host::slots(&args.engine),
            chunk_tokens: args.engine.machine.chunk_tokens as usize,
            // What is measured is computing the prompts.
            share_prefixes: false,
        };
        let text = TextFace {
            tokenizer: Arc::clone(&loaded.tokenizer),
            template: loaded.template,
        };
        let engine = Engine::start(loaded.model, text, options, sender)
            .map_err(|error| anyhow!("the engine cannot be started: {error}"))?;
        Ok(Bench {
            engine,
            events,
            tokenizer: loaded.tokenizer,
            memory: loaded.memory,
            architecture: loaded.architecture,
            prompt_tokens: args.prompt_tokens,
            new_tokens: args.new_tokens,
            jobs: 0,
        })
    }

    /// Measures one batch size.
    pub async fn rates(&mut self, size: usize) -> Result<Rates, Failure> {
        let whole = vec![self.prompt_tokens; size];
        // Once before it counts: pages are touched, and steps get their size.
        self.run(&whole, size, WARM_UP_TOKENS).await?;
        let started = Instant::now();
        let first = self.run(&whole, size, 1).await?;
        let all = self.run(&whole, size, self.new_tokens).await?;
        let lengths: Vec<u32> = (0..size * MIXED_ROUNDS)
            .map(|at| {
                let part = MIXED_LENGTHS[at % MIXED_LENGTHS.len()];
                ((f64::from(self.prompt_tokens) * part) as u32).max(1)
            })
            .collect();
        let mixed = self.run(&lengths, size, self.new_tokens).await?;
        let answers = all.new_tokens - first.new_tokens;
        let answers_s = (all.seconds - first.seconds).max(f64::EPSILON);
        Ok(Rates {
            prompt: first.prompt_tokens as f64 / first.seconds,
            answer: answers as f64 / answers_s,
            mixed: (mixed.prompt_tokens + mixed.new_tokens) as f64 / mixed.seconds,
            took: started.elapsed(),
            peak_bytes: peak_bytes(),
        })
    }

    /// Runs one job a length, `size` at a time.
    async fn run(&mut self, lengths: &[u32], size: usize, new_tokens: u32) -> Result<Run, Failure> {
        let mut waiting = Vec::with_capacity(lengths.len());
        for tokens in lengths.iter().rev() {
            let text = workload::prompt(&self.tokenizer, self.jobs, *tokens);
            waiting.push(workload::job(self.jobs, text, new_tokens));
            self.jobs += 1;
        }
        let mut run = Run::default();
        let mut running = 0;
        let started = Instant::now();
        loop {
            while running < size
                && let Some(job) = waiting.pop()
            {
                self.engine.submit(job)?;
                running += 1;
            }
            if running == 0 {
                break;
            }
            match self.events.recv().await {
                Some(EngineEvent::Finished { record, .. }) => {
                    running -= 1;
                    match record.outcome {
                        Outcome::Completed(completed) => {
                            run.prompt_tokens += u64::from(completed.usage.prompt_tokens);
                            run.new_tokens += u64::from(completed.usage.completion_tokens);
                        }
                        Outcome::Failed(error) => return Err(anyhow!(error.message).into()),
                    }
                }
                Some(_) => {}
                None => {
                    return Err(anyhow!("the engine stopped: RBEE_LOG=debug may show why").into());
                }
            }
        }
        run.seconds = started.elapsed().as_secs_f64().max(f64::EPSILON);
        Ok(run)
    }

    /// Ends the engine and gives its memory back.
    pub async fn stop(self) {
        let Bench { engine, events, .. } = self;
        drop(events);
        // A panic in there was logged by the engine.
        let _ = tokio::task::spawn_blocking(move || engine.shutdown()).await;
    }
}

/// What some jobs took.
#[derive(Default)]
struct Run {
    seconds: f64,
    prompt_tokens: u64,
    new_tokens: u64,
}

/// The most memory that this process ever held, as Linux counts it.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}
