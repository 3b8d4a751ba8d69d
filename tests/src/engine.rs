//! Jobs through the engine, in this process.

use rbee_queue::{Endpoint, Input, JobError, JobKey, Outcome, Params, Request, ResultRecord};
use rbee_worker::engine::step::{SeqChunk, StepError, StepModel};
use rbee_worker::engine::{Engine, EngineEvent, EngineJob, EngineOptions, Priority, TextFace};

/// Events that may wait for the collecting test.
const EVENTS: usize = 256;

/// A raw prompt with parameters; its number keys its randomness.
pub fn job(id: u64, text: &str, params: Params) -> EngineJob {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&id.to_le_bytes());
    EngineJob {
        id,
        request: Request {
            endpoint: Endpoint::Completions,
            model: "test".into(),
            input: Input::Prompt {
                text: text.into(),
                raw: true,
            },
            params,
        },
        job_key: JobKey(key),
        batch_seed: 0,
        template_date: "2024-07-26".into(),
        priority: Priority::Batch,
        stream: false,
    }
}

/// An engine and the end of its events.
pub struct Answering {
    engine: Engine,
    events: tokio::sync::mpsc::Receiver<EngineEvent>,
    /// Jobs that run already, whose answers are still to come.
    begun: usize,
}

impl Answering {
    pub fn start(model: Box<dyn StepModel>, text: TextFace, options: EngineOptions) -> Answering {
        let (sender, events) = tokio::sync::mpsc::channel(EVENTS);
        let engine = Engine::start(model, text, options, sender).expect("the engine starts");
        Answering {
            engine,
            events,
            begun: 0,
        }
    }

    /// Submits a job to an idle engine and waits until it runs: all others are younger, and all of its choices run
    /// before any of theirs.
    pub fn begin(&mut self, job: EngineJob) {
        self.engine.submit(job).expect("the engine takes the job");
        self.begun += 1;
        match self.events.blocking_recv() {
            Some(EngineEvent::Started { .. }) => {}
            other => panic!("the job did not start: {other:?}"),
        }
    }

    /// What the engine stored for each job, by the jobs' numbers, submitted in the order given; for those that were begun
    /// before too.
    pub fn answers(&mut self, jobs: Vec<EngineJob>) -> Vec<(u64, ResultRecord)> {
        let count = jobs.len() + std::mem::take(&mut self.begun);
        for job in jobs {
            self.engine.submit(job).expect("the engine takes the job");
        }
        let mut answers = Vec::new();
        while answers.len() < count {
            match self.events.blocking_recv() {
                Some(EngineEvent::Finished { id, record, .. }) => answers.push((id, record)),
                Some(_) => {}
                None => panic!(
                    "the engine ended with {} of {count} jobs done",
                    answers.len()
                ),
            }
        }
        answers.sort_by_key(|(id, _)| *id);
        answers
    }

    /// Preemptions so far.
    pub fn preemptions(&self) -> u64 {
        self.engine.stats().preemptions
    }
}

/// The error of a result, if it is one.
pub fn error(record: &ResultRecord) -> Option<&JobError> {
    match &record.outcome {
        Outcome::Failed(error) => Some(error),
        Outcome::Completed(_) => None,
    }
}

/// A model with fewer KV blocks than it has, so that the engine must preempt.
pub struct FewBlocks {
    pub model: Box<dyn StepModel>,
    pub blocks: usize,
}

impl StepModel for FewBlocks {
    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn context_len(&self) -> usize {
        self.model.context_len()
    }

    fn kv_blocks(&self) -> usize {
        self.blocks.min(self.model.kv_blocks())
    }

    fn forward(&mut self, step: &[SeqChunk<'_>], logits: &mut Vec<f32>) -> Result<(), StepError> {
        self.model.forward(step, logits)
    }

    fn share_out(&mut self, units: usize, work: &(dyn Fn(usize) + Sync)) {
        self.model.share_out(units, work);
    }
}
