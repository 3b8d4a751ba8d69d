//! The engine of a model that gives vectors: one thread that takes a job, computes its texts one after the other, and tells
//! the end. Those whom somebody waits for go first.

use super::handle::{Submission, failure};
use super::job::EngineEvent;
use super::meter::Meter;
use super::options::EngineStats;
use super::prepare::{ENGINE_ERROR, INVALID_PARAMETER, UNSUPPORTED_ENDPOINT};
use super::shared::{EventPort, Shared};
use super::{Priority, forward};
use rbee_queue::embedding::Embedding;
use rbee_queue::record::Completed;
use rbee_queue::request::EmbedText;
use rbee_queue::{Input, JobError, JobStats, ResultRecord, record::Usage};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Instant;

/// The code of a text or tokens that the model cannot take.
pub const INVALID_INPUT: &str = "invalid_value";

/// Computes vectors. One text's vector depends on nothing else.
pub trait VectorModel: Send {
    /// Numbers of a vector.
    fn width(&self) -> usize;

    /// What the model sees of a text, checked against its limits.
    ///
    /// # Errors
    /// With the job's error.
    fn tokens(&self, text: &EmbedText) -> Result<Vec<u32>, JobError>;

    /// The vector of a text with these tokens.
    ///
    /// # Errors
    /// With the job's error.
    fn vector(&mut self, tokens: &[u32]) -> Result<Vec<f32>, JobError>;
}

/// The figures of an engine that has computed nothing yet.
pub(super) fn meter() -> Meter {
    let stats = EngineStats {
        slots: 1,
        ..EngineStats::default()
    };
    Meter::new(stats, Instant::now())
}

/// The engine's thread.
pub(super) struct VectorLoop {
    pub model: Box<dyn VectorModel>,
    pub submitted: Receiver<Submission>,
    pub port: EventPort,
    pub shared: Arc<Shared>,
    /// Taken off the channel, not begun: those whom somebody waits for, and the others.
    pub waiting: [VecDeque<Submission>; 2],
}

impl VectorLoop {
    pub fn run(mut self) {
        while let Some(submission) = self.next() {
            let id = submission.job.id;
            let started = Instant::now();
            let record = self.answer(&submission).unwrap_or_else(failure);
            self.note(|stats| stats.slots_used = 0);
            let took = started.elapsed().as_millis() as u64;
            let stats = JobStats {
                first_token_ms: took,
                total_ms: took,
                ..JobStats::default()
            };
            self.port.finish(id, record, stats);
        }
    }

    /// The job whose turn it is; `None` when the engine ends.
    fn next(&mut self) -> Option<Submission> {
        while let Ok(submission) = self.submitted.try_recv() {
            self.wait(submission);
        }
        if self.waiting.iter().all(VecDeque::is_empty) {
            let first = self.submitted.recv().ok()?;
            self.wait(first);
        }
        let [urgent, others] = &mut self.waiting;
        let next = urgent.pop_front().or_else(|| others.pop_front());
        let waiting = urgent.len() + others.len();
        self.note(|stats| {
            stats.slots_used = 1;
            stats.sequences_waiting = waiting;
        });
        next.filter(|_| !self.shared.is_stopping())
    }

    fn wait(&mut self, submission: Submission) {
        let row = match submission.job.priority {
            Priority::Interactive => 0,
            Priority::Batch => 1,
        };
        self.waiting[row].push_back(submission);
    }

    fn note(&self, change: impl FnOnce(&mut EngineStats)) {
        let mut meter = self.shared.meter();
        change(&mut meter.stats);
        meter.advance(Instant::now());
    }

    fn answer(&mut self, submission: &Submission) -> Result<ResultRecord, JobError> {
        let Input::Embed {
            texts, dimensions, ..
        } = &submission.job.request.input
        else {
            return Err(JobError::new(
                UNSUPPORTED_ENDPOINT,
                "This model gives embeddings and generates no text: send the line to /v1/embeddings, or name another model.",
            ));
        };
        let width = self.model.width();
        if let Some(wanted) = dimensions.filter(|wanted| *wanted as usize != width) {
            let message = format!(
                "`dimensions` is {wanted}: the vectors of this model have {width} numbers and are not made to be cut."
            );
            return Err(JobError::new(INVALID_PARAMETER, message));
        }
        let mut tokens = Vec::with_capacity(texts.len());
        for text in texts {
            self.go_on(submission)?;
            tokens.push(guarded(|| self.model.tokens(text))?);
        }
        let prompt_tokens = tokens.iter().map(Vec::len).sum::<usize>() as u32;
        let id = submission.job.id;
        self.port.send(EngineEvent::Started { id, prompt_tokens });
        let mut embeddings = Vec::with_capacity(texts.len());
        for tokens in &tokens {
            self.go_on(submission)?;
            let started = Instant::now();
            embeddings.push(Embedding(guarded(|| self.model.vector(tokens))?));
            self.note(|stats| {
                stats.steps += 1;
                stats.prompt_tokens += tokens.len() as u64;
                stats.step_ms = started.elapsed().as_secs_f64() * 1e3;
            });
        }
        Ok(ResultRecord::completed(Completed {
            usage: Usage {
                prompt_tokens,
                completion_tokens: 0,
            },
            embeddings,
            ..Completed::default()
        }))
    }

    /// # Errors
    /// When the job was cancelled, or the engine ends.
    fn go_on(&self, submission: &Submission) -> Result<(), JobError> {
        let cancelled = submission.control.cancelled.load(Ordering::Acquire);
        match cancelled || self.shared.is_stopping() {
            true => Err(JobError::cancelled()),
            false => Ok(()),
        }
    }
}

/// A panic is that job's error.
fn guarded<T>(compute: impl FnOnce() -> Result<T, JobError>) -> Result<T, JobError> {
    catch_unwind(AssertUnwindSafe(compute)).unwrap_or_else(|panic| {
        let why = forward::panic_text(panic.as_ref());
        let message = format!("Computing the vector failed inside rbee: {why}.");
        Err(JobError::new(ENGINE_ERROR, message))
    })
}
