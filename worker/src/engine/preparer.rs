//! The threads between submit and the step thread: two that render and tokenise, and one that compiles forms.
//!
//! A form may take seconds until it is refused. Jobs that ask for one which is not kept wait for a thread of its own, so that
//! all others are prepared meanwhile.

use super::forward;
use super::grammar::Grammars;
use super::handle::{Submission, failure};
use super::inbox::Message;
use super::prepare::{ENGINE_ERROR, Limits, PreparedJob, TextFace, constrain, form_of, prepare};
use super::shared::{EventPort, JobControl, Shared};
use rbee_queue::{JobError, JobStats};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Threads that render and tokenise, so that one long prompt does not hold up the others.
pub const PREPARE_THREADS: usize = 2;

/// What all of these threads work with.
#[derive(Clone)]
pub struct Bench {
    pub text: TextFace,
    pub grammars: Arc<Grammars>,
    pub limits: Limits,
    pub inbox: Sender<Message>,
    pub port: EventPort,
    pub shared: Arc<Shared>,
}

/// A job that waits for its form.
pub struct Unformed {
    job: PreparedJob,
    control: Arc<JobControl>,
}

/// A thread that renders and tokenises.
pub struct Preparer {
    pub bench: Bench,
    pub submitted: Arc<Mutex<Receiver<Submission>>>,
    /// The way to the thread that compiles. It holds no more jobs than the engine does.
    pub unformed: Sender<Unformed>,
}

/// The thread that compiles forms.
pub struct FormThread {
    pub bench: Bench,
    pub unformed: Receiver<Unformed>,
}

/// The step thread is gone.
struct Over;

impl Preparer {
    /// Works until no more jobs come.
    pub fn run(self) {
        while let Some(submission) = self.next() {
            if self.prepare(submission).is_err() {
                return;
            }
        }
    }

    fn next(&self) -> Option<Submission> {
        let submitted = self
            .submitted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let next = submitted.recv().ok();
        next.filter(|_| !self.bench.shared.is_stopping())
    }

    fn prepare(&self, submission: Submission) -> Result<(), Over> {
        let Submission { job, control } = submission;
        let (bench, id) = (&self.bench, job.id);
        if control.cancelled.load(Ordering::Acquire) {
            return bench.fail(id, JobError::cancelled());
        }
        let began = Instant::now();
        let prepared = guarded(|| {
            let mut prepared = prepare(&bench.text, bench.limits, job)?;
            prepared.took = began.elapsed();
            Ok(prepared)
        });
        match prepared {
            Err(error) => bench.fail(id, error),
            Ok(job) if bench.is_to_be_compiled(&job) => {
                let unformed = Unformed { job, control };
                self.unformed.send(unformed).map_err(|_| Over)
            }
            Ok(job) => bench.constrain(Unformed { job, control }),
        }
    }
}

impl FormThread {
    /// Works until no more jobs come.
    pub fn run(self) {
        while let Ok(unformed) = self.unformed.recv() {
            if self.bench.shared.is_stopping() || self.bench.constrain(unformed).is_err() {
                return;
            }
        }
    }
}

impl Bench {
    /// Whether a job's form is one that is not kept.
    fn is_to_be_compiled(&self, job: &PreparedJob) -> bool {
        form_of(&self.text, job).is_some_and(|form| !self.grammars.keeps(&form))
    }

    /// Holds a job to its form, where it has one, and hands it to the step thread.
    fn constrain(&self, unformed: Unformed) -> Result<(), Over> {
        let Unformed { mut job, control } = unformed;
        let id = job.job.id;
        if control.cancelled.load(Ordering::Acquire) {
            return self.fail(id, JobError::cancelled());
        }
        let began = Instant::now();
        let constrained = guarded(|| {
            constrain(&self.grammars, &self.text, self.limits, &mut job)?;
            job.took += began.elapsed();
            Ok(job)
        });
        match constrained {
            Ok(job) => {
                let job = Box::new(job);
                let message = Message::Job { job, control };
                self.inbox.send(message).map_err(|_| Over)
            }
            Err(error) => self.fail(id, error),
        }
    }

    fn fail(&self, id: u64, error: JobError) -> Result<(), Over> {
        self.port.finish(id, failure(error), JobStats::default());
        Ok(())
    }
}

/// What panics is the error of its job.
fn guarded(work: impl FnOnce() -> Result<PreparedJob, JobError>) -> Result<PreparedJob, JobError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let why = forward::panic_text(panic.as_ref());
        let message = format!("Preparing the prompt failed inside rbee: {why}.");
        Err(JobError::new(ENGINE_ERROR, message))
    })
}
