//! What the tests of this crate share: inputs, fake nodes and waiting with a deadline.

use crate::coordinator::{Coordinator, CoordinatorHandle, CoordinatorOptions};
use rbee_queue::batches::{Submission, Submitted};
use rbee_queue::jsonl::{LineOptions, Rendering, survey};
use rbee_queue::node::{Device, FailedLoad, ResidentModel};
use rbee_queue::owner::BatchLock;
use rbee_queue::queue::{Control, Held, Work};
use rbee_queue::store::Finish;
use rbee_queue::{
    Batch, BatchModel, BatchSpec, Batches, Choice, Completed, FinishReason, JobStats, MemoryQueue,
    ModelNo, ModelSha, NodeInstance, NodeReport, Priority, Queue, Renewal, ResultRecord,
    SqliteStore, Usage,
};
use std::collections::HashSet;
use std::io::Cursor;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Tests give up waiting after this long.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often they look.
const LOOK: Duration = Duration::from_millis(10);
/// The lease of nodes in tests: one that ends while a test waits, and that a node on a busy machine keeps.
pub const LEASE: Duration = Duration::from_secs(5);
/// The lease of the lead, likewise.
const LEADER_LEASE: Duration = Duration::from_secs(4);

/// `jobs` prompts; every third one for the model `b`, every tenth a bad line.
pub fn input(jobs: usize) -> String {
    let line = |index: usize| match index {
        index if index % 10 == 9 => "oops".to_owned(),
        index if index % 3 == 2 => format!("{{\"prompt\": \"p{index}\", \"model\": \"b\"}}"),
        index => format!("{{\"prompt\": \"p{index}\"}}"),
    };
    let lines: Vec<String> = (0..jobs).map(line).collect();
    lines.join("\n")
}

/// The model of a name, by its first letter.
pub fn sha(name: &str) -> ModelSha {
    ModelSha([name.as_bytes()[0]; 32])
}

/// A submission for the model `a`; its models are filled in by [`submit`].
pub fn submission(owner: &str) -> Submission {
    Submission {
        owner: owner.into(),
        name: None,
        key: None,
        priority: Priority::Batch,
        pinned_node: None,
        on_done: None,
        models: Vec::new(),
        spec: BatchSpec::new(LineOptions::new("a")),
        digest: None,
        asked: None,
    }
}

/// Makes a batch. The model `missing` is not resolved.
pub async fn submit(
    batches: &Batches,
    input: String,
    missing: &str,
    submission: Submission,
) -> (Batch, Option<BatchLock>) {
    let found = survey(input.as_bytes(), &submission.spec.options).unwrap();
    let models = found
        .models
        .iter()
        .zip(0..)
        .map(|((name, _), no)| BatchModel {
            no: ModelNo(no),
            requested: name.clone(),
            sha256: (name != missing).then(|| sha(name)),
            revision: None,
            numerics: None,
        });
    let submission = Submission {
        models: models.collect(),
        ..submission
    };
    match batches
        .submit(Cursor::new(input), submission)
        .await
        .unwrap()
    {
        Submitted::New(batch, lock) => (*batch, lock),
        Submitted::Existing(_) => panic!("a batch without a key existed"),
    }
}

/// An answer that depends on the job's content only.
pub fn answer(work: &Work) -> Finish {
    let text = format!(
        "{:?} by {}",
        work.request.as_ref().unwrap().input,
        work.model
    );
    let choice = Choice {
        index: 0,
        text,
        finish_reason: FinishReason::Stop,
        logprobs: None,
    };
    Finish {
        job: work.job,
        attempt: work.attempt,
        record: ResultRecord::completed(Completed {
            choices: vec![choice],
            usage: Usage::default(),
            ..Completed::default()
        }),
        stats: JobStats::default(),
    }
}

/// All lines of a batch's results.
pub async fn exported(batches: &Batches, batch: &Batch) -> Vec<Option<String>> {
    let mut export = batches
        .export(&batch.id, Rendering::default())
        .await
        .unwrap();
    let mut lines = Vec::new();
    while let Some(page) = export.next_page().await.unwrap() {
        lines.extend(page.into_iter().map(|line| line.rendered.map(|r| r.line)));
    }
    lines
}

/// What a new process sees of a directory.
pub async fn open(dir: &Path) -> Batches {
    with_queue(dir, Arc::new(MemoryQueue::new())).await
}

/// The store of a directory, with a queue.
pub async fn with_queue(dir: &Path, queue: Arc<dyn Queue>) -> Batches {
    let path = dir.join("rbee.db");
    let store = SqliteStore::open(&path).await.unwrap();
    Batches::embedded(Arc::new(store), queue, &path)
}

/// A store that its nodes and coordinators share.
pub struct Cluster {
    pub batches: Batches,
    _dir: tempfile::TempDir,
}

impl Cluster {
    pub async fn open() -> Cluster {
        Cluster::with(Arc::new(MemoryQueue::new())).await
    }

    /// A cluster over this queue.
    pub async fn with(queue: Arc<dyn Queue>) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("rbee.db"))
            .await
            .unwrap();
        Cluster {
            batches: Batches::shared(Arc::new(store), queue),
            _dir: dir,
        }
    }

    pub fn coordinator(&self) -> Running {
        coordinator(&self.batches, CoordinatorOptions::default())
    }

    pub async fn node(&self, setup: NodeSetup) -> Node {
        Node::start(&self.batches, setup).await
    }

    pub async fn submit(&self, input: String, submission: Submission) -> Batch {
        submit(&self.batches, input, "", submission).await.0
    }

    /// The batch once it is terminal.
    pub async fn ended(&self, batch: &Batch) -> Batch {
        until("the batch ends", async || {
            let batch = self.fresh(batch).await;
            batch.status.is_terminal().then_some(batch)
        })
        .await
    }

    pub async fn fresh(&self, batch: &Batch) -> Batch {
        let found = self.batches.store().batch_get(&batch.id).await.unwrap();
        found.unwrap()
    }
}

/// What `look` finds, once it finds something.
pub async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: not in time");
        tokio::time::sleep(LOOK).await;
    }
}

/// A coordinator in a task.
pub struct Running {
    pub handle: CoordinatorHandle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// A coordinator whose clocks run fast.
pub fn coordinator(batches: &Batches, options: CoordinatorOptions) -> Running {
    let options = CoordinatorOptions {
        lease: LEASE,
        sweep: Duration::from_millis(100),
        leader_lease: LEADER_LEASE,
        ..options
    };
    let (coordinator, handle) = Coordinator::new(batches.clone(), options);
    let stop = CancellationToken::new();
    let run = coordinator.run(stop.clone());
    Running {
        handle,
        stop,
        task: tokio::spawn(async move { run.await.unwrap() }),
    }
}

impl Running {
    /// Ends it as SIGTERM does.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Ends it as SIGKILL does.
    pub fn kill(self) {
        self.task.abort();
    }

    pub fn leads(&self) -> bool {
        self.handle.status().borrow().leading
    }
}

/// What a fake node is like.
#[derive(Clone)]
pub struct NodeSetup {
    pub name: String,
    pub numerics: String,
    pub slots: usize,
    /// Models that it fails to load.
    pub fails: Vec<ModelSha>,
    /// It stops without a word after so many jobs, as if killed.
    pub most: usize,
    /// It takes jobs but answers none.
    pub hangs: bool,
    /// Models that fit in its memory.
    pub models: u64,
}

impl NodeSetup {
    pub fn named(name: &str) -> NodeSetup {
        NodeSetup {
            name: name.into(),
            numerics: "x".into(),
            slots: 4,
            fails: Vec::new(),
            most: usize::MAX,
            hangs: false,
            models: 1,
        }
    }
}

/// What a fake node's tasks share.
struct Inside {
    setup: NodeSetup,
    report: Mutex<NodeReport>,
    loaded: Mutex<Vec<ModelSha>>,
    finished: Mutex<Vec<Held>>,
    holds: Mutex<HashSet<Held>>,
}

/// A node that answers with what it was asked, and loads models when told to.
pub struct Node {
    pub instance: NodeInstance,
    batches: Batches,
    inside: Arc<Inside>,
    tasks: Vec<JoinHandle<()>>,
}

/// What a model takes on a fake node.
const MODEL_BYTES: u64 = 1_000;

impl Node {
    async fn start(batches: &Batches, setup: NodeSetup) -> Node {
        let report = NodeReport {
            name: setup.name.clone(),
            numerics: setup.numerics.clone(),
            slots: setup.slots,
            reproducible: true,
            devices: vec![Device {
                name: "cpu".into(),
                memory_bytes: MODEL_BYTES * setup.models,
            }],
            ..NodeReport::default()
        };
        let inside = Arc::new(Inside {
            setup,
            report: Mutex::new(report),
            loaded: Mutex::default(),
            finished: Mutex::default(),
            holds: Mutex::default(),
        });
        let instance = NodeInstance::generate();
        let mut node = Node {
            instance: instance.clone(),
            batches: batches.clone(),
            inside: Arc::clone(&inside),
            tasks: Vec::new(),
        };
        let said = inside.report.lock().unwrap().clone();
        let store = batches.store();
        store.node_join(&instance, &said, LEASE).await.unwrap();
        batches.queue().join(&instance, 4_096).await.unwrap();
        let parts = || (batches.clone(), instance.clone(), Arc::clone(&inside));
        node.tasks = vec![
            tokio::spawn(beat(parts())),
            tokio::spawn(listen(parts())),
            tokio::spawn(work(parts())),
        ];
        node
    }

    /// Ends it without a word.
    pub fn kill(&self) {
        for task in &self.tasks {
            task.abort();
        }
    }

    /// Drains and leaves.
    pub async fn leave(self) {
        self.kill();
        self.batches.leave(&self.instance).await.unwrap();
        let store = self.batches.store();
        store.node_leave(&self.instance).await.unwrap();
    }

    pub fn loaded(&self) -> Vec<ModelSha> {
        self.inside.loaded.lock().unwrap().clone()
    }

    /// How many jobs it answered.
    pub fn finished(&self) -> usize {
        self.inside.finished.lock().unwrap().len()
    }

    /// Jobs that it took and did not answer.
    pub fn holds(&self) -> Vec<Held> {
        self.inside.holds.lock().unwrap().iter().copied().collect()
    }
}

type Parts = (Batches, NodeInstance, Arc<Inside>);

async fn beat((batches, node, inside): Parts) {
    loop {
        let said = inside.report.lock().unwrap().clone();
        match batches.store().node_renew(&node, &said, LEASE).await {
            Ok(Renewal::Renewed { drain }) => inside.report.lock().unwrap().draining = drain,
            Ok(Renewal::Lost) => return,
            Err(error) => panic!("{error}"),
        }
        let _ = batches.queue().join(&node, 4_096).await;
        tokio::time::sleep(LEASE / 40).await;
    }
}

async fn listen((batches, node, inside): Parts) {
    loop {
        match batches.queue().next_control(&node).await {
            Ok(Control::Load(wish)) => {
                let mut report = inside.report.lock().unwrap();
                if inside.setup.fails.contains(&wish.model) {
                    report.failed_loads.push(FailedLoad {
                        model: wish.model,
                        code: "out_of_memory".into(),
                        message: "it does not fit".into(),
                    });
                    continue;
                }
                inside.loaded.lock().unwrap().push(wish.model);
                report
                    .resident
                    .retain(|there| !wish.evict.contains(&there.model));
                report.resident.push(ResidentModel {
                    model: wish.model,
                    bytes: MODEL_BYTES,
                    running: 0,
                    jobs_per_s: 0.0,
                    tokens_per_s: 0.0,
                    idle_ms: 0,
                });
                let taken = report.resident.len() as u64;
                assert!(taken <= inside.setup.models, "more models than memory");
            }
            Ok(Control::Cancel(jobs)) => {
                for held in jobs {
                    if inside.holds.lock().unwrap().remove(&held) {
                        let cause = rbee_queue::store::ReleaseCause::Returned;
                        batches.release(&node, &[held], cause).await.unwrap();
                    }
                }
            }
            Ok(_) => {}
            // Its next heartbeat makes a new inbox.
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

async fn work((batches, node, inside): Parts) {
    let mut done = 0;
    while done < inside.setup.most {
        let most = 3.min(inside.setup.most - done);
        let Ok(taken) = batches.queue().take(&node, most).await else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        for work in &taken {
            let report = inside.report.lock().unwrap();
            let there = report
                .resident
                .iter()
                .any(|there| there.model == work.model);
            assert!(there, "a job came whose model is not in memory");
        }
        let held: Vec<Held> = taken.iter().map(Work::held).collect();
        inside.holds.lock().unwrap().extend(held.iter().copied());
        if inside.setup.hangs {
            continue;
        }
        done += taken.len();
        let finishes = taken.iter().map(answer).collect();
        batches.finish(&node, finishes).await.unwrap();
        inside
            .holds
            .lock()
            .unwrap()
            .retain(|there| !held.contains(there));
        inside.finished.lock().unwrap().extend(held);
    }
    // Killed: no heartbeat any more.
    std::future::pending::<()>().await
}
