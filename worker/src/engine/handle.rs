//! The engine's handle and its threads: those that prepare jobs, and one that steps.

use super::EngineEvent;
use super::embedding::{self, VectorLoop, VectorModel};
use super::grammar::Grammars;
use super::inbox::Message;
use super::job::{EngineJob, SubmitError};
use super::meter::Meter;
use super::options::{EngineOptions, EngineStats, MAX_SLOTS};
use super::planner::{Capacity, Planner};
use super::prepare::{Limits, TextFace};
use super::preparer::{Bench, FormThread, PREPARE_THREADS, Preparer};
use super::run::{StepLoop, StepStart};
use super::shared::{EnterError, EventPort, JobControl, Shared};
use super::step::{BLOCK_TOKENS, StepModel};
use rbee_queue::{JobError, Outcome, ResultRecord};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// A running engine. Dropping it is a [`shutdown`](Engine::shutdown).
pub struct Engine {
    shared: Arc<Shared>,
    /// `None` once it is shut down.
    submissions: Option<Sender<Submission>>,
    inbox: Sender<Message>,
    threads: Vec<JoinHandle<()>>,
}

/// A job on its way to the engine's threads.
pub(super) struct Submission {
    pub job: EngineJob,
    pub control: Arc<JobControl>,
}

impl Engine {
    /// Starts the engine's threads on a loaded model. Events go to `events`; a receiver that does not read holds the
    /// engine up, one that is dropped ends it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        model: Box<dyn StepModel>,
        text: TextFace,
        options: EngineOptions,
        events: tokio::sync::mpsc::Sender<EngineEvent>,
    ) -> std::io::Result<Engine> {
        let (planner, limits) = lay_out(model.as_ref(), &options);
        let stats = EngineStats {
            slots: planner.slots(),
            kv_blocks: planner.pool().total(),
            ..EngineStats::default()
        };
        let shared = Arc::new(Shared::new(Meter::new(stats, Instant::now())));
        let port = EventPort::new(events, Arc::clone(&shared));
        // Neither channel holds more than MAX_LIVE_JOBS jobs: `submit` counts them.
        let (submissions, submitted) = channel();
        let (inbox, messages) = channel();
        let mut engine = Engine {
            shared: Arc::clone(&shared),
            submissions: Some(submissions),
            inbox: inbox.clone(),
            threads: Vec::new(),
        };
        let submitted = Arc::new(Mutex::new(submitted));
        let bench = Bench {
            grammars: Arc::new(Grammars::new(Arc::clone(&text.tokenizer))),
            text: text.clone(),
            limits,
            inbox,
            port: port.clone(),
            shared: Arc::clone(&shared),
        };
        // Ended by the end of the last preparing thread.
        let (unformed, waiting) = channel();
        let forms = FormThread {
            bench: bench.clone(),
            unformed: waiting,
        };
        engine.spawn("rbee-forms".into(), move || forms.run())?;
        for number in 0..PREPARE_THREADS {
            let preparer = Preparer {
                bench: bench.clone(),
                submitted: Arc::clone(&submitted),
                unformed: unformed.clone(),
            };
            engine.spawn(format!("rbee-prepare-{number}"), move || preparer.run())?;
        }
        let step_loop = StepLoop::new(StepStart {
            model,
            text,
            planner,
            chunk_tokens: options.chunk_tokens,
            share_prefixes: options.share_prefixes,
            port,
            shared,
        });
        engine.spawn("rbee-step".into(), move || step_loop.run(&messages))?;
        Ok(engine)
    }

    /// Starts the one thread of a model that gives vectors. Events as in [`start`](Engine::start).
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start_vectors(
        model: Box<dyn VectorModel>,
        events: tokio::sync::mpsc::Sender<EngineEvent>,
    ) -> std::io::Result<Engine> {
        let shared = Arc::new(Shared::new(embedding::meter()));
        let (submissions, submitted) = channel();
        // Nobody listens: the thread looks at what is wanted of a job between texts.
        let (inbox, _) = channel();
        let mut engine = Engine {
            shared: Arc::clone(&shared),
            submissions: Some(submissions),
            inbox,
            threads: Vec::new(),
        };
        let vector_loop = VectorLoop {
            model,
            submitted,
            port: EventPort::new(events, Arc::clone(&shared)),
            shared,
            waiting: Default::default(),
        };
        engine.spawn("rbee-vectors".into(), move || vector_loop.run())?;
        Ok(engine)
    }

    fn spawn(&mut self, name: String, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads
            .push(thread::Builder::new().name(name).spawn(body)?);
        Ok(())
    }

    /// Hands in a job. It never waits; events follow as [`EngineEvent`] says.
    ///
    /// # Errors
    /// When the job is not taken; it comes back, and no event follows.
    pub fn submit(&self, job: EngineJob) -> Result<(), SubmitError> {
        let Some(submissions) = self.submissions.as_ref().filter(|_| !self.is_closed()) else {
            return Err(SubmitError::Closed(Box::new(job)));
        };
        let control = match self.shared.enter(job.id) {
            Ok(control) => control,
            Err(EnterError::Full) => return Err(SubmitError::Full(Box::new(job))),
            Err(EnterError::Duplicate) => return Err(SubmitError::Duplicate(Box::new(job))),
        };
        submissions
            .send(Submission { job, control })
            .map_err(|back| {
                self.shared.leave(back.0.job.id);
                SubmitError::Closed(Box::new(back.0.job))
            })
    }

    /// Ends a job within two steps, with the code `cancelled`. One that has ended meanwhile, or is not known, is passed
    /// over.
    pub fn cancel(&self, id: u64) {
        if let Some(control) = self.shared.control(id) {
            control.cancelled.store(true, Ordering::Release);
            self.attend();
        }
    }

    /// Asks for the text of a job: first a snapshot of each running choice (`first_token` 0), then every delta.
    pub fn watch(&self, id: u64) {
        if let Some(control) = self.shared.control(id) {
            control.watched.store(true, Ordering::Release);
            self.attend();
        }
    }

    /// Wakes the step thread, once for any number of changes.
    fn attend(&self) {
        if !self.shared.attention.swap(true, Ordering::AcqRel) {
            // Without a step thread there is nothing to wake.
            let _ = self.inbox.send(Message::Wake);
        }
    }

    /// The figures of this moment.
    pub fn stats(&self) -> EngineStats {
        let mut stats = self.shared.meter().read(Instant::now());
        stats.jobs = self.shared.jobs();
        stats
    }

    /// Takes no more jobs; those that are held run to their end.
    pub fn drain(&self) {
        self.shared.closed.store(true, Ordering::Release);
    }

    fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Ends after the step that runs and gives the model's memory back. Unfinished jobs get no further event. It waits
    /// for the threads: not to be called on an async runtime's own threads.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.drain();
        self.shared.stopping.store(true, Ordering::Release);
        self.submissions = None;
        let _ = self.inbox.send(Message::Wake);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("an engine thread had panicked");
            }
        }
    }
}

/// The planner for a model, and the limits for its jobs. The private KV of a sequential model holds one whole context.
fn lay_out(model: &dyn StepModel, options: &EngineOptions) -> (Planner, Limits) {
    let sequential = model.sequential();
    let blocks = if sequential {
        model.context_len().div_ceil(BLOCK_TOKENS)
    } else {
        model.kv_blocks()
    };
    let planner = Planner::new(Capacity {
        slots: options.slots.clamp(1, MAX_SLOTS),
        blocks,
        sequential,
    });
    let limits = Limits {
        context_len: model.context_len(),
        kv_positions: blocks * BLOCK_TOKENS,
        vocab_size: model.vocab_size(),
    };
    (planner, limits)
}

/// The record of a failed job.
pub(super) fn failure(error: JobError) -> ResultRecord {
    ResultRecord {
        version: rbee_queue::record::RECORD_VERSION,
        outcome: Outcome::Failed(error),
    }
}
