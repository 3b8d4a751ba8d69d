//! What comes to the step thread between two steps: new jobs, and what the callers want of those that run.

use super::handle::failure;
use super::live_job::LiveJob;
use super::planner::{Newcomer, SeqKey};
use super::prefix::prefix_keys;
use super::prepare::PreparedJob;
use super::randomness::Randomness;
use super::run::{StepLoop, text_event};
use super::sampler::Sampler;
use super::sequence::{AnswerOptions, Sequence, SequenceStart};
use super::shared::JobControl;
use rbee_queue::JobError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};

/// What comes to the step thread.
pub enum Message {
    /// A job that can run.
    Job {
        /// The job.
        job: Box<PreparedJob>,
        /// What is wanted of it.
        control: Arc<JobControl>,
    },
    /// Look at the flags.
    Wake,
}

impl StepLoop {
    /// Takes what has come. Without a job it waits for something. False when the engine is to end.
    pub(super) fn take_messages(&mut self, messages: &Receiver<Message>) -> bool {
        let mut wait = self.jobs.is_empty();
        loop {
            let message = if wait {
                messages.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                messages.try_recv()
            };
            wait = false;
            if self.shared.is_stopping() {
                return false;
            }
            match message {
                Ok(Message::Job { job, control }) => self.enter(*job, control),
                Ok(Message::Wake) => {}
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        if self.shared.attention.swap(false, Ordering::AcqRel) {
            self.attend();
        }
        if !self.ended.is_empty() {
            self.publish();
        }
        true
    }

    /// Makes the sequences of a job that comes in.
    fn enter(&mut self, prepared: PreparedJob, control: Arc<JobControl>) {
        let PreparedJob {
            job,
            prompt,
            ends,
            constraints,
            took,
        } = prepared;
        let mut constraints = constraints.into_iter();
        let mut live = LiveJob::new(&job, prompt.len(), control);
        live.prepared_in = took;
        if live.control.cancelled.load(Ordering::Acquire) {
            self.ended.push((live, failure(JobError::cancelled())));
            return;
        }
        // Whoever asked for its text while it was prepared woke this thread before there was a job to look at.
        live.stream |= live.control.watched.swap(false, Ordering::AcqRel);
        let params = &job.request.params;
        let prefix = match self.share_prefixes {
            true => prefix_keys(&prompt),
            false => Arc::default(),
        };
        for choice in 0..params.n {
            let key = SeqKey {
                priority: job.priority,
                number: self.arrivals,
            };
            self.arrivals += 1;
            let randomness = match params.seed {
                Some(seed) => Randomness::of_line_seed(seed, choice),
                None => Randomness::of_job(job.batch_seed, &job.job_key, choice),
            };
            let sequence = Sequence::new(SequenceStart {
                key,
                job: job.id,
                choice,
                prompt: prompt.clone(),
                sampler: Sampler::new(params, &prompt, randomness),
                ends: ends.clone(),
                constraint: constraints.next(),
                answer: AnswerOptions {
                    stop: &params.stop,
                    logprobs: params.logprobs,
                },
                tokenizer: &self.text.tokenizer,
            });
            self.planner.add(Newcomer {
                key,
                len: prompt.len(),
                prefix: Arc::clone(&prefix),
            });
            self.sequences.insert(key, sequence);
            live.sequences.push(key);
        }
        self.jobs.insert(job.id, live);
    }

    /// Looks at what the callers want of their jobs.
    fn attend(&mut self) {
        let flagged = |job: &LiveJob| {
            let control = &job.control;
            control.cancelled.load(Ordering::Acquire) || control.watched.load(Ordering::Acquire)
        };
        let ids: Vec<u64> = self
            .jobs
            .values()
            .filter(|job| flagged(job))
            .map(|job| job.id)
            .collect();
        for id in ids {
            let job = self.jobs.get_mut(&id).expect("it was just listed");
            if job.control.cancelled.load(Ordering::Acquire) {
                self.fail(id, JobError::cancelled());
                continue;
            }
            job.control.watched.store(false, Ordering::Release);
            job.stream = true;
            for key in &job.sequences {
                if let Some(sequence) = self.sequences.get_mut(key) {
                    let delta = sequence.snapshot();
                    self.port.send(text_event(sequence, delta));
                }
            }
        }
    }
}
