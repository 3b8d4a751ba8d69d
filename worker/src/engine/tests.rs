//! The engine as a whole, on models without weights: the bytes of a result do not depend on what else runs, and what
//! goes wrong with one job stays with it.

mod events;
mod faults;
mod invariance;
mod models;
mod structured;

use super::stub::{StubModel, StubOptions};
use super::*;
use crate::chat_template::ChatTemplate;
use crate::engine::step::StepModel;
use crate::tokenizer::Tokenizer;
use rbee_queue::{Endpoint, Input, JobKey, JobStats, Outcome, Params, Request, ResultRecord};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, channel};

/// Events that a test's channel holds.
const EVENTS: usize = 64;

/// A raw prompt; its key derives from the id.
fn job(id: u64, prompt: &str, params: Params) -> EngineJob {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&id.to_le_bytes());
    EngineJob {
        id,
        request: Request {
            endpoint: Endpoint::Completions,
            model: "stub".into(),
            input: Input::Prompt {
                text: prompt.into(),
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

fn text_face() -> TextFace {
    let tokenizer = Arc::new(Tokenizer::bytes());
    let source = "{{ messages[0].content }}";
    let template = ChatTemplate::new(source, &tokenizer).unwrap();
    TextFace {
        tokenizer,
        template: Some(Arc::new(template)),
    }
}

fn stub(kv_blocks: usize) -> Box<dyn StepModel> {
    Box::new(StubModel::new(&StubOptions {
        slots: 1,
        token_time: Duration::ZERO,
        kv_blocks: Some(kv_blocks),
    }))
}

fn options(slots: usize, chunk_tokens: usize) -> EngineOptions {
    EngineOptions {
        slots,
        chunk_tokens,
        share_prefixes: true,
    }
}

fn start(model: Box<dyn StepModel>, options: EngineOptions) -> (Engine, Receiver<EngineEvent>) {
    let (sender, receiver) = channel(EVENTS);
    let engine = Engine::start(model, text_face(), options, sender).unwrap();
    (engine, receiver)
}

/// Results and stats of jobs by their id.
type Finished = BTreeMap<u64, (ResultRecord, JobStats)>;

/// Runs all jobs to their end.
fn run(model: Box<dyn StepModel>, options: EngineOptions, jobs: &[EngineJob]) -> Finished {
    let (engine, mut events) = start(model, options);
    for job in jobs {
        engine.submit(job.clone()).unwrap();
    }
    collect(&mut events, jobs.len())
}

/// Submits a job to an idle engine and waits until it runs. All of its choices enter in one step, and whatever is
/// submitted then is younger than they are: what it needs does not depend on when others come.
fn begin(engine: &Engine, events: &mut Receiver<EngineEvent>, job: &EngineJob) {
    engine.submit(job.clone()).unwrap();
    let event = events.blocking_recv();
    assert!(
        matches!(event, Some(EngineEvent::Started { id, .. }) if id == job.id),
        "{event:?}"
    );
}

fn collect(events: &mut Receiver<EngineEvent>, wanted: usize) -> Finished {
    let mut finished = Finished::new();
    while finished.len() < wanted {
        let event = events
            .blocking_recv()
            .expect("the engine tells every job's end");
        if let EngineEvent::Finished { id, record, stats } = event {
            let before = finished.insert(id, (record, stats));
            assert!(before.is_none(), "job {id} finished twice");
        }
    }
    finished
}

/// The next event, if it comes within a moment: for tests that step until something has happened, and have steps enough
/// for minutes.
fn soon(events: &mut Receiver<EngineEvent>) -> Option<EngineEvent> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let next = async { tokio::time::timeout(Duration::from_millis(5), events.recv()).await };
    runtime.block_on(next).ok().flatten()
}

fn records(finished: &Finished) -> BTreeMap<u64, String> {
    finished
        .iter()
        .map(|(id, (record, _))| (*id, record.to_json()))
        .collect()
}

fn text(record: &ResultRecord) -> &str {
    match &record.outcome {
        Outcome::Completed(completed) => &completed.choices[0].text,
        Outcome::Failed(error) => panic!("the job failed: {error:?}"),
    }
}

fn error_code(record: &ResultRecord) -> &str {
    match &record.outcome {
        Outcome::Completed(completed) => panic!("the job succeeded: {completed:?}"),
        Outcome::Failed(error) => &error.code,
    }
}
