//! A node on a real store, the memory queue and the stub engine. The tests place jobs by hand.

use super::*;
use crate::engine::step::{SeqChunk, StepError, StepModel};
use crate::engine::stub::{self, StubOptions};
use crate::engine::{Engine, EngineOptions};
use rbee_queue::batches::{Submission, Submitted};
use rbee_queue::jsonl::{LineOptions, Rendering};
use rbee_queue::queue::{Held, Work};
use rbee_queue::store::{Place, PlaceOutcome, QueuedQuery, Store};
use rbee_queue::{
    Batch, BatchModel, BatchSpec, JobError, JobState, MemoryQueue, ModelNo, ModelSha, SqliteStore,
};
use std::collections::HashSet;
use std::io::Cursor;
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use tokio::task::JoinHandle;

const MODEL: ModelSha = ModelSha([7; 32]);
const NUMERICS: &str = "stub";

/// A batch in a store, and a node.
struct Bench {
    batches: Batches,
    batch: Batch,
    node: NodeHandle,
    ended: JoinHandle<Result<(), NodeError>>,
    running: Arc<Mutex<Journal>>,
    _dir: tempfile::TempDir,
}

/// Which jobs were with the engine, and with how many others at most each was.
#[derive(Default)]
struct Journal {
    now: HashSet<JobRef>,
    crowds: Vec<(JobRef, usize)>,
}

struct Noted(Arc<Mutex<Journal>>);

impl RunningJobs for Noted {
    fn begin(&mut self, job: JobRef) {
        let mut journal = self.0.lock().unwrap();
        journal.now.insert(job);
        let crowd = journal.now.len();
        journal.crowds.push((job, crowd));
    }

    fn end(&mut self, job: JobRef) {
        assert!(self.0.lock().unwrap().now.remove(&job));
    }
}

fn stub_loader() -> LoadModel {
    loader(|| stub::load(&StubOptions::default()).0)
}

/// Loads `MODEL`, and no other.
fn loader(make: impl Fn() -> Box<dyn StepModel> + Send + Sync + 'static) -> LoadModel {
    Arc::new(move |model, events| {
        if model != MODEL {
            return Err(JobError::new("model_load_failed", "The model is not here."));
        }
        let (_, text) = stub::load(&StubOptions::default());
        let engine = Engine::start(make(), text, EngineOptions::default(), events).unwrap();
        Ok(Hosted {
            engine,
            numerics: NUMERICS.into(),
        })
    })
}

async fn bench(jobs: usize, load: LoadModel) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.sqlite");
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).await.unwrap());
    let batches = Batches::embedded(store, Arc::new(MemoryQueue::new()), &path);
    let lines: String = (0..jobs)
        .map(|i| format!("{{\"prompt\": \"job {i}\"}}\n"))
        .collect();
    let submission = Submission {
        owner: "tester".into(),
        name: None,
        key: None,
        priority: rbee_queue::Priority::Batch,
        pinned_node: None,
        on_done: None,
        spec: BatchSpec::new(LineOptions::new("m")),
        models: vec![BatchModel {
            no: ModelNo(0),
            requested: "m".into(),
            sha256: Some(MODEL),
            revision: None,
            numerics: None,
        }],
        digest: None,
    };
    let Submitted::New(batch, _) = batches
        .submit(Cursor::new(lines), submission)
        .await
        .unwrap()
    else {
        panic!("the batch is new");
    };
    let running = Arc::new(Mutex::new(Journal::default()));
    let parts = NodeParts {
        batches: batches.clone(),
        load,
        running: Box::new(Noted(Arc::clone(&running))),
    };
    let options = NodeOptions {
        name: "here".into(),
        slots: 8,
        inbox: 4096,
        numerics: NUMERICS.into(),
        stream: false,
    };
    let (node, handle) = Node::new(parts, options);
    Bench {
        batches,
        batch: *batch,
        node: handle,
        ended: tokio::spawn(node.run()),
        running,
        _dir: dir,
    }
}

impl Bench {
    /// Loads the model and waits for it.
    async fn loaded(&self) {
        self.node.load(MODEL).await;
        self.until(|status| status.resident == [MODEL]).await;
    }

    async fn until(&self, wanted: impl FnMut(&NodeStatus) -> bool) -> NodeStatus {
        self.node.status().wait_for(wanted).await.unwrap().clone()
    }

    /// Places queued jobs and pushes what `change` makes of them.
    async fn place(&self, limit: usize, change: impl Fn(&mut Work)) -> Vec<Held> {
        let store = self.batches.store();
        let query = QueuedQuery {
            batch: self.batch.no,
            model: ModelNo(0),
            limit,
        };
        let queued = store.job_queued(query).await.unwrap();
        let place = |job| Place {
            job,
            node: self.node.instance().clone(),
            numerics: Some(NUMERICS.into()),
        };
        let places = queued.iter().map(|queued| place(queued.job)).collect();
        let outcomes = store.place_many(places).await.unwrap();
        let options = &self.batch.spec.options;
        let work = queued.iter().zip(outcomes).map(|(queued, outcome)| {
            let PlaceOutcome::Placed(attempt) = outcome else {
                panic!("it was queued");
            };
            let mut work = Work {
                job: queued.job,
                attempt,
                request: rbee_queue::jsonl::parse_line(queued.line.as_bytes(), options)
                    .request
                    .ok(),
                key: queued.key,
                seed: 0,
                template_date: "2024-07-26".into(),
                model: MODEL,
                alone: queued.alone,
                priority: rbee_queue::Priority::Batch,
            };
            change(&mut work);
            work
        });
        let work: Vec<Work> = work.collect();
        let held = work
            .iter()
            .map(|work| Held {
                job: work.job,
                attempt: work.attempt,
            })
            .collect();
        self.batches
            .queue()
            .push(self.node.instance(), work)
            .await
            .unwrap();
        held
    }

    /// Waits until the batch has its last result; returns its lines.
    async fn finished(&self) -> Vec<String> {
        while !self
            .batches
            .store()
            .batch_get(&self.batch.id)
            .await
            .unwrap()
            .unwrap()
            .status
            .is_terminal()
        {
            self.batches.queue().room_made().await;
        }
        let mut export = self
            .batches
            .export(&self.batch.id, Rendering::default())
            .await
            .unwrap();
        let mut lines = Vec::new();
        while let Some(page) = export.next_page().await.unwrap() {
            lines.extend(
                page.into_iter()
                    .map(|line| format!("{:?}", line.rendered.unwrap())),
            );
        }
        lines
    }

    /// Lets steps pass one by one, slowly enough for messages to arrive in between, until the node has left.
    async fn step_to_the_end(&mut self, open: &std_mpsc::Sender<()>) {
        let patience = Duration::from_millis(20);
        loop {
            open.send(()).unwrap();
            if let Ok(ended) = tokio::time::timeout(patience, &mut self.ended).await {
                return ended.unwrap().unwrap();
            }
        }
    }

    async fn states(&self, state: JobState) -> u64 {
        self.batches.store().recount(self.batch.no).await.unwrap()[state as usize]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_placed_job_gets_its_result_and_the_inbox_is_empty() {
    let mut bench = bench(300, stub_loader()).await;
    bench.loaded().await;
    bench.place(300, |_| ()).await;
    assert_eq!(bench.finished().await.len(), 300);
    let depth = bench
        .batches
        .queue()
        .depth(bench.node.instance())
        .await
        .unwrap();
    assert_eq!((depth.waiting, depth.running), (0, 0));
    assert!(bench.running.lock().unwrap().now.is_empty());
    bench.node.drain().await;
    (&mut bench.ended).await.unwrap().unwrap();
    assert_eq!(bench.running.lock().unwrap().crowds.len(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn job_that_runs_alone_has_no_mates() {
    let bench = bench(60, stub_loader()).await;
    bench.loaded().await;
    let lonely = |index: u64| index % 20 == 5;
    bench
        .place(60, |work| work.alone = lonely(work.job.index.0))
        .await;
    bench.finished().await;
    let journal = bench.running.lock().unwrap();
    let crowds = |alone| {
        journal
            .crowds
            .iter()
            .filter(move |(job, _)| lonely(job.index.0) == alone)
    };
    assert!(crowds(true).all(|(_, crowd)| *crowd == 1));
    assert!(crowds(false).any(|(_, crowd)| *crowd > 1));
}

/// A model that steps only when it is let.
struct Gated {
    inner: Box<dyn StepModel>,
    gate: Arc<Mutex<std_mpsc::Receiver<()>>>,
}

impl StepModel for Gated {
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    fn context_len(&self) -> usize {
        self.inner.context_len()
    }

    fn kv_blocks(&self) -> usize {
        self.inner.kv_blocks()
    }

    fn forward(&mut self, step: &[SeqChunk<'_>], logits: &mut Vec<f32>) -> Result<(), StepError> {
        // Once the test has dropped its end, everything passes.
        let _ = self.gate.lock().unwrap().recv();
        self.inner.forward(step, logits)
    }
}

fn gated() -> (std_mpsc::Sender<()>, LoadModel) {
    let (open, gate) = std_mpsc::channel();
    let gate = Arc::new(Mutex::new(gate));
    let load = loader(move || {
        Box::new(Gated {
            inner: stub::load(&StubOptions::default()).0,
            gate: Arc::clone(&gate),
        })
    });
    (open, load)
}

#[tokio::test(flavor = "multi_thread")]
async fn drained_node_finishes_what_runs_and_gives_the_rest_back() {
    let (open, load) = gated();
    let mut bench = bench(200, load).await;
    bench.loaded().await;
    bench.place(200, |_| ()).await;
    bench
        .until(|status| status.engine.is_some_and(|engine| engine.jobs > 0))
        .await;
    bench.node.drain().await;
    bench.until(|status| status.draining).await;
    drop(open);
    (&mut bench.ended).await.unwrap().unwrap();
    let (done, back) = (JobState::Succeeded, JobState::Queued);
    let begun = bench.running.lock().unwrap().crowds.len() as u64;
    assert!(begun > 0 && begun < 200);
    assert_eq!(
        (bench.states(done).await, bench.states(back).await),
        (begun, 200 - begun)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_node_gives_back_what_it_had_begun() {
    let (open, load) = gated();
    let mut bench = bench(50, load).await;
    bench.loaded().await;
    bench.place(50, |_| ()).await;
    bench
        .until(|status| status.engine.is_some_and(|engine| engine.jobs > 0))
        .await;
    bench.node.stop().await;
    bench.step_to_the_end(&open).await;
    assert_eq!(bench.states(JobState::Placed).await, 0);
    assert!(bench.states(JobState::Queued).await > 0);
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_jobs_end_with_their_error_whether_begun_or_not() {
    let (open, load) = gated();
    let mut bench = bench(120, load).await;
    bench.loaded().await;
    let held = bench.place(120, |_| ()).await;
    bench
        .until(|status| status.engine.is_some_and(|engine| engine.jobs > 0))
        .await;
    let left = bench
        .batches
        .queue()
        .cancel(bench.node.instance(), &held)
        .await
        .unwrap();
    bench
        .batches
        .release(bench.node.instance(), &left, ReleaseCause::Returned)
        .await
        .unwrap();
    bench.node.drain().await;
    bench.step_to_the_end(&open).await;
    assert_eq!(bench.states(JobState::Queued).await, left.len() as u64);
    assert_eq!(bench.states(JobState::Placed).await, 0);
    assert!(bench.states(JobState::Cancelled).await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn model_that_cannot_be_loaded_is_told_and_other_models_jobs_go_back() {
    let mut bench = bench(10, stub_loader()).await;
    let other = ModelSha([9; 32]);
    bench.node.load(other).await;
    let status = bench.until(|status| status.load_failure.is_some()).await;
    let failure = status.load_failure.unwrap();
    assert_eq!(
        (failure.model, failure.error.code.as_str()),
        (other, "model_load_failed")
    );
    bench.place(10, |_| ()).await;
    bench.loaded().await;
    bench.node.drain().await;
    (&mut bench.ended).await.unwrap().unwrap();
    assert_eq!(bench.states(JobState::Placed).await, 0);
}
