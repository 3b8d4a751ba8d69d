//! What the tests of a node stand on: a real store, the memory queue and the stub engine. The tests place jobs by hand.

use super::*;
use crate::engine::step::{SeqChunk, StepError, StepModel};
use crate::engine::stub::{self, StubOptions};
use crate::engine::{Engine, EngineEvent, EngineOptions};
use rbee_queue::batches::{Submission, Submitted};
use rbee_queue::jsonl::{LineOptions, Rendering};
use rbee_queue::queue::{QueueError, Work};
use rbee_queue::store::{Place, PlaceOutcome, QueuedQuery, Store};
use rbee_queue::{
    Batch, BatchModel, BatchSpec, JobError, JobRef, JobState, MemoryQueue, ModelNo, SqliteStore,
};
use std::collections::HashSet;
use std::io::Cursor;
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use tokio::task::JoinHandle;

pub const MODEL: ModelSha = MODELS[0];
pub const MODELS: [ModelSha; 3] = [ModelSha([7; 32]), ModelSha([8; 32]), ModelSha([10; 32])];
pub const BYTES: u64 = 1000;
pub const NUMERICS: &str = "stub";
/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A batch in a store, and a node.
pub struct Bench {
    pub batches: Batches,
    pub batch: Batch,
    pub node: NodeHandle,
    pub ended: JoinHandle<Result<(), NodeError>>,
    pub running: Arc<Mutex<Journal>>,
    _dir: tempfile::TempDir,
}

/// Which jobs were with the engine, and with how many others at most each was.
#[derive(Default)]
pub struct Journal {
    pub now: HashSet<JobRef>,
    pub crowds: Vec<(JobRef, usize)>,
}

pub struct Noted(Arc<Mutex<Journal>>);

impl RunningJobs for Noted {
    fn begin(&mut self, held: Held) {
        let mut journal = self.0.lock().unwrap();
        assert!(journal.now.insert(held.job), "the engine has it already");
        let crowd = journal.now.len();
        journal.crowds.push((held.job, crowd));
    }

    fn end(&mut self, held: Held) {
        assert!(self.0.lock().unwrap().now.remove(&held.job));
    }
}

/// Has the models `MODELS`, each of which takes `BYTES`.
pub struct TestShelf<F>(F);

#[async_trait::async_trait]
impl<F: Fn() -> Box<dyn StepModel> + Send + Sync> ModelShelf for TestShelf<F> {
    async fn fetch(&self, wish: &LoadWish, _share: &Share) -> Result<(), JobError> {
        if MODELS.contains(&wish.model) {
            return Ok(());
        }
        Err(JobError::new("model_not_found", "The model is not here."))
    }

    fn load(
        &self,
        _wish: &LoadWish,
        memory: Option<u64>,
        events: mpsc::Sender<EngineEvent>,
    ) -> Result<Hosted, JobError> {
        if memory.is_some_and(|memory| memory < BYTES) {
            return Err(JobError::new("out_of_memory", "It does not fit."));
        }
        let (_, text) = stub::load(&StubOptions::default());
        let engine = Engine::start(self.0(), text, EngineOptions::default(), events).unwrap();
        Ok(Hosted {
            engine,
            numerics: NUMERICS.into(),
            reproducible: true,
            bytes: BYTES,
        })
    }
}

pub fn stub_shelf() -> Arc<dyn ModelShelf> {
    Arc::new(TestShelf(|| stub::load(&StubOptions::default()).0))
}

pub async fn bench(jobs: usize, shelf: Arc<dyn ModelShelf>) -> Bench {
    bench_of(jobs, shelf, |store| store, NodeOptions::default()).await
}

/// A bench whose node sees the store through `seen`, with these settings beside the usual ones.
pub async fn bench_of(
    jobs: usize,
    shelf: Arc<dyn ModelShelf>,
    seen: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
    options: NodeOptions,
) -> Bench {
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
        asked: None,
    };
    let Submitted::New(batch, _) = batches
        .submit(Cursor::new(lines), submission)
        .await
        .unwrap()
    else {
        panic!("the batch is new");
    };
    let running = Arc::new(Mutex::new(Journal::default()));
    let its_store = seen(Arc::clone(batches.store()));
    let parts = NodeParts {
        batches: Batches::embedded(its_store, batches.queue().clone(), &path),
        shelf,
        running: Box::new(Noted(Arc::clone(&running))),
        logs: Some(Arc::new(|lines| format!("{lines} lines"))),
    };
    let options = NodeOptions {
        name: "here".into(),
        slots: 8,
        inbox: 4096,
        numerics: NUMERICS.into(),
        ..options
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
    pub async fn loaded(&self) {
        self.node.load(MODEL).await;
        self.until(|status| status.resident == [MODEL]).await;
    }

    pub async fn until(&self, wanted: impl FnMut(&NodeStatus) -> bool) -> NodeStatus {
        let mut status = self.node.status();
        let seen = tokio::time::timeout(PATIENCE, status.wait_for(wanted)).await;
        seen.expect("the node gets there").unwrap().clone()
    }

    /// Places queued jobs and pushes what `change` makes of them.
    pub async fn place(&self, limit: usize, change: impl Fn(&mut Work)) -> Vec<Held> {
        let work = self.placed(limit, change).await;
        let held = work.iter().map(Work::held).collect();
        self.push(work).await;
        held
    }

    /// Places queued jobs on the node as it is now.
    pub async fn placed(&self, limit: usize, change: impl Fn(&mut Work)) -> Vec<Work> {
        let store = self.batches.store();
        let query = QueuedQuery {
            batch: self.batch.no,
            model: ModelNo(0),
            limit,
        };
        let queued = store.job_queued(query).await.unwrap();
        let place = |job| Place {
            job,
            node: self.node.instance(),
            numerics: Some(NUMERICS.into()),
        };
        let places = queued.iter().map(|queued| place(queued.job)).collect();
        let outcomes = store.place_many(places).await.unwrap();
        let work = queued.iter().zip(outcomes).map(|(queued, outcome)| {
            let PlaceOutcome::Placed(attempt) = outcome else {
                panic!("it was queued");
            };
            let mut work = rbee_queue::batches::work_of(&self.batch, queued, attempt).unwrap();
            change(&mut work);
            work
        });
        work.collect()
    }

    /// Pushes work; an inbox that is just being made is waited for.
    pub async fn push(&self, work: Vec<Work>) {
        let queue = self.batches.queue();
        let pushing = async {
            while let Err(error) = queue.push(&self.node.instance(), work.clone()).await {
                assert!(matches!(error, QueueError::NoSuchNode { .. }), "{error}");
                queue.room_made().await;
            }
        };
        tokio::time::timeout(PATIENCE, pushing).await.unwrap();
    }

    /// Waits until the batch has its last result; returns its lines.
    pub async fn finished(&self) -> Vec<String> {
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
    pub async fn step_to_the_end(&mut self, open: &std_mpsc::Sender<()>) {
        let patience = Duration::from_millis(20);
        loop {
            open.send(()).unwrap();
            if let Ok(ended) = tokio::time::timeout(patience, &mut self.ended).await {
                return ended.unwrap().unwrap();
            }
        }
    }

    pub async fn states(&self, state: JobState) -> u64 {
        self.batches.store().recount(self.batch.no).await.unwrap()[state as usize]
    }
}

/// A model that steps only when it is let.
pub struct Gated {
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

pub fn gated() -> (std_mpsc::Sender<()>, Arc<dyn ModelShelf>) {
    let (open, gate) = std_mpsc::channel();
    let gate = Arc::new(Mutex::new(gate));
    let shelf = TestShelf(move || -> Box<dyn StepModel> {
        Box::new(Gated {
            inner: stub::load(&StubOptions::default()).0,
            gate: Arc::clone(&gate),
        })
    });
    (open, Arc::new(shelf))
}
