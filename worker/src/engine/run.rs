//! The step thread: plan, forward, sample, collect, until there is nothing to do.

use super::forward::{Rows, panic_text};
use super::handle::failure;
use super::inbox::Message;
use super::job::EngineEvent;
use super::live_job::LiveJob;
use super::planner::{Plan, PlannedChunk, Planner, SeqKey};
use super::prepare::{ENGINE_ERROR, TextFace};
use super::sampler::{Sampled, Scratch};
use super::sequence::{Delta, DrawError, Sequence};
use super::shared::{EventPort, Shared};
use super::speed::ChunkSizer;
use super::step::{SeqChunk, StepError, StepModel};
use rbee_queue::{FinishReason, JobError, JobStats, ResultRecord};
use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The model gave no usable logits for this job: a verdict about it.
pub const NAN_LOGITS: &str = "nan_logits";

/// What came of one planned chunk.
enum ChunkEnd {
    /// Part of a prompt was computed.
    Prompt,
    /// The next token was sampled.
    Token(Sampled),
    /// The job cannot go on.
    Failed(JobError),
}

/// One row of logits and who draws from it.
struct Draw<'a> {
    sequence: &'a mut Sequence,
    row: &'a mut [f32],
    end: Option<ChunkEnd>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Draw<'_> {
    fn sample(&mut self) -> ChunkEnd {
        let sampled = catch_unwind(AssertUnwindSafe(|| {
            SCRATCH.with_borrow_mut(|scratch| self.sequence.draw(self.row, scratch))
        }));
        match sampled {
            Ok(Ok(sampled)) => ChunkEnd::Token(sampled),
            Ok(Err(DrawError::Form(error))) => ChunkEnd::Failed(error),
            Ok(Err(DrawError::NotFinite(error))) => {
                ChunkEnd::Failed(JobError::new(NAN_LOGITS, sentence(&error.to_string())))
            }
            Err(panic) => ChunkEnd::Failed(panic_failure(
                "sampling a token",
                panic_text(panic.as_ref()),
            )),
        }
    }
}

/// What a [`StepLoop`] starts with.
pub struct StepStart {
    /// The model.
    pub model: Box<dyn StepModel>,
    /// Its text face.
    pub text: TextFace,
    /// A planner laid out for it.
    pub planner: Planner,
    /// As in [`super::EngineOptions`].
    pub chunk_tokens: usize,
    /// As in [`super::EngineOptions`].
    pub share_prefixes: bool,
    /// The way out.
    pub port: EventPort,
    /// Shared with the handle.
    pub shared: Arc<Shared>,
}

/// The step thread's state.
pub struct StepLoop {
    model: Box<dyn StepModel>,
    pub(super) text: TextFace,
    pub(super) planner: Planner,
    pub(super) share_prefixes: bool,
    sizer: ChunkSizer,
    rows: Rows,
    pub(super) jobs: HashMap<u64, LiveJob>,
    pub(super) sequences: HashMap<SeqKey, Sequence>,
    /// Jobs whose end is to be told.
    pub(super) ended: Vec<(LiveJob, ResultRecord)>,
    /// Number of the next sequence.
    pub(super) arrivals: u64,
    pub(super) port: EventPort,
    pub(super) shared: Arc<Shared>,
}

impl StepLoop {
    /// A loop with nothing to do.
    pub fn new(start: StepStart) -> StepLoop {
        StepLoop {
            model: start.model,
            text: start.text,
            planner: start.planner,
            share_prefixes: start.share_prefixes,
            sizer: ChunkSizer::new(start.chunk_tokens),
            rows: Rows::default(),
            jobs: HashMap::new(),
            sequences: HashMap::new(),
            ended: Vec::new(),
            arrivals: 0,
            port: start.port,
            shared: start.shared,
        }
    }

    /// Steps until the engine is shut down; waits without using the CPU while there is no job.
    pub fn run(mut self, messages: &Receiver<Message>) {
        while self.take_messages(messages) {
            if self.jobs.is_empty() {
                continue;
            }
            let plan = self.plan();
            let outcomes = self.forward(&plan);
            let ends = self.sample(&plan, outcomes);
            self.collect(&plan, ends);
        }
    }

    fn plan(&mut self) -> Plan {
        let plan = self.planner.plan(self.sizer.chunk_tokens());
        let now = Instant::now();
        for key in &plan.preempted {
            let sequence = self
                .sequences
                .get(key)
                .expect("planned sequences are known");
            self.jobs
                .get_mut(&sequence.job)
                .expect("sequences have a job")
                .preemptions += 1;
        }
        for key in &plan.admitted {
            let sequence = self
                .sequences
                .get(key)
                .expect("planned sequences are known");
            let job = self
                .jobs
                .get_mut(&sequence.job)
                .expect("sequences have a job");
            if job.start(now) {
                self.port.send(EngineEvent::Started {
                    id: job.id,
                    prompt_tokens: job.prompt_tokens,
                });
            }
        }
        plan
    }

    fn forward(&mut self, plan: &Plan) -> Vec<Result<(), StepError>> {
        let started = Instant::now();
        let chunks = plan.chunks.iter().map(|chunk| SeqChunk {
            tokens: &self.sequences[&chunk.key].tokens[chunk.start..chunk.start + chunk.len],
            start: chunk.start,
            blocks: self.planner.blocks(chunk.key),
            logits: chunk.logits,
        });
        let chunks: Vec<SeqChunk<'_>> = chunks.collect();
        let outcomes = self.rows.forward(self.model.as_mut(), &chunks);
        let took = started.elapsed();
        let prompt_tokens = plan
            .chunks
            .iter()
            .map(|chunk| chunk.len)
            .filter(|len| *len > 1)
            .sum();
        if outcomes.iter().all(Result::is_ok) {
            self.sizer.record(prompt_tokens, took);
        }
        let mut meter = self.shared.meter();
        meter.stats.steps += 1;
        meter.stats.step_ms = took.as_secs_f64() * 1000.0;
        meter.stats.preemptions += plan.preempted.len() as u64;
        meter.stats.shared_tokens += plan.shared_tokens as u64;
        outcomes
    }

    /// Samples every row that is wanted, side by side on the model's threads.
    fn sample(&mut self, plan: &Plan, outcomes: Vec<Result<(), StepError>>) -> Vec<ChunkEnd> {
        let mut sequences: HashMap<SeqKey, &mut Sequence> = self
            .sequences
            .iter_mut()
            .map(|(key, sequence)| (*key, sequence))
            .collect();
        let mut rows = self.rows.all();
        let mut draws = Vec::new();
        let mut ends = Vec::with_capacity(outcomes.len());
        for (chunk, outcome) in plan.chunks.iter().zip(outcomes) {
            let row = chunk.logits.then(|| rows.next().expect("a row a chunk"));
            ends.push(match (outcome, row) {
                (Err(error), _) => ChunkEnd::Failed(step_failure(&error)),
                (Ok(()), None) => ChunkEnd::Prompt,
                (Ok(()), Some(row)) => {
                    let sequence = sequences.remove(&chunk.key);
                    let sequence = sequence.expect("planned sequences are known");
                    draws.push(Mutex::new((
                        ends.len(),
                        Draw {
                            sequence,
                            row,
                            end: None,
                        },
                    )));
                    ChunkEnd::Prompt
                }
            });
        }
        self.model.share_out(draws.len(), &|at| {
            let mut draw = draws[at].lock().expect("one thread takes each");
            draw.1.end = Some(draw.1.sample());
        });
        for draw in draws {
            let (chunk, draw) = draw.into_inner().expect("sampling catches panics");
            ends[chunk] = draw.end.expect("the model shares out every unit");
        }
        ends
    }

    fn collect(&mut self, plan: &Plan, ends: Vec<ChunkEnd>) {
        let now = Instant::now();
        let (mut prompt_tokens, mut completion_tokens) = (0, 0);
        for (chunk, end) in plan.chunks.iter().zip(ends) {
            // Another choice of the same job may have failed in this step.
            let Some(sequence) = self.sequences.get_mut(&chunk.key) else {
                continue;
            };
            prompt_tokens += note_prompt(sequence, chunk);
            match end {
                ChunkEnd::Prompt => self.planner.computed(chunk),
                ChunkEnd::Token(sampled) => {
                    completion_tokens += 1;
                    self.planner.computed(chunk);
                    self.take_token(chunk.key, sampled, now);
                }
                ChunkEnd::Failed(error) => {
                    let job = sequence.job;
                    self.fail(job, error);
                }
            }
        }
        let mut meter = self.shared.meter();
        meter.stats.prompt_tokens += prompt_tokens;
        meter.stats.completion_tokens += completion_tokens;
        meter.advance(now);
        drop(meter);
        self.publish();
    }

    /// Brings the figures up to date, and then tells the ends of jobs: who hears of one sees it in the figures.
    pub(super) fn publish(&mut self) {
        let mut meter = self.shared.meter();
        meter.stats.slots_used = self.planner.running();
        meter.stats.sequences_waiting = self.planner.waiting();
        meter.stats.kv_blocks_used = self.planner.pool().used();
        drop(meter);
        for (job, record) in self.ended.drain(..) {
            let stats: JobStats = job.stats(Instant::now());
            self.port.finish(job.id, record, stats);
        }
    }

    /// Gives a sequence its next token, tells the text, and ends what has ended.
    fn take_token(&mut self, key: SeqKey, sampled: Sampled, now: Instant) {
        let sequence = self
            .sequences
            .get_mut(&key)
            .expect("planned sequences are known");
        let job = self
            .jobs
            .get_mut(&sequence.job)
            .expect("sequences have a job");
        job.token(now);
        let tokenizer = &self.text.tokenizer;
        let accepted = catch_unwind(AssertUnwindSafe(|| {
            let ended = sequence.accept(sampled, tokenizer);
            let delta = if job.stream {
                sequence.take_delta()
            } else {
                None
            };
            (ended, delta)
        }));
        match accepted {
            Err(panic) => {
                let id = job.id;
                self.fail(
                    id,
                    panic_failure("turning a token into text", panic_text(panic.as_ref())),
                );
            }
            Ok((ended, delta)) => {
                if let Some(delta) = delta {
                    self.port.send(text_event(sequence, delta));
                }
                match ended {
                    None => self.planner.grew(key),
                    Some(reason) => self.finish_choice(key, reason),
                }
            }
        }
    }

    fn finish_choice(&mut self, key: SeqKey, reason: FinishReason) {
        self.planner.remove(key);
        let sequence = self
            .sequences
            .remove(&key)
            .expect("planned sequences are known");
        let id = sequence.job;
        let job = self.jobs.get_mut(&id).expect("sequences have a job");
        if job.finish_choice(key, sequence.into_choice(reason)) {
            let mut job = self.jobs.remove(&id).expect("it was just there");
            let record = job.record();
            self.ended.push((job, record));
        }
    }

    /// Ends a job with an error; its blocks are free and hold nothing that anybody will read.
    pub(super) fn fail(&mut self, id: u64, error: JobError) {
        let job = self.jobs.remove(&id).expect("only live jobs fail");
        for key in &job.sequences {
            self.planner.remove_faulty(*key);
            self.sequences.remove(key);
        }
        self.ended.push((job, failure(error)));
    }
}

/// Counts the prompt positions that were computed for the first time. What was taken over from others is not computed.
fn note_prompt(sequence: &mut Sequence, chunk: &PlannedChunk) -> u64 {
    let seen = (chunk.start + chunk.len).min(sequence.prompt_len);
    let new = seen.saturating_sub(sequence.prompt_seen.max(chunk.start));
    sequence.prompt_seen = sequence.prompt_seen.max(seen);
    new as u64
}

/// A delta as the caller hears of it.
pub(super) fn text_event(sequence: &Sequence, delta: Delta) -> EngineEvent {
    EngineEvent::Text {
        id: sequence.job,
        choice: sequence.choice,
        first_token: delta.first_token,
        tokens: delta.tokens,
        text: delta.text,
    }
}

fn step_failure(error: &StepError) -> JobError {
    JobError::new(ENGINE_ERROR, sentence(&error.to_string()))
}

fn panic_failure(doing: &str, why: &str) -> JobError {
    JobError::new(
        ENGINE_ERROR,
        format!("The engine failed when {doing} for this job: {why}."),
    )
}

/// A clause as a sentence.
fn sentence(clause: &str) -> String {
    let mut letters = clause.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).chain(['.']).collect()
}
