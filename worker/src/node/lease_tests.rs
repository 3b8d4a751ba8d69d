//! A node with a lease: it fences itself, comes back, and puts up with stores and queues that go away.

use super::bench::*;
use super::cut_store::{Cut, CutStore};
use super::*;
use rbee_queue::queue::{Control, TextEvent, Work};
use rbee_queue::store::{PlacedQuery, ReleaseCause, Store};
use rbee_queue::{JobState, NodeInstance};
use std::sync::Mutex;
use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

fn leased(lease_ms: u64, grace: Duration) -> NodeOptions {
    NodeOptions {
        lease: Some(LeaseOptions {
            lease: Duration::from_millis(lease_ms),
            heartbeat: Duration::from_millis(lease_ms / 10),
            grace,
        }),
        ..NodeOptions::default()
    }
}

/// A bench whose node can be cut off from its store; the bench itself cannot.
async fn cut_bench(
    jobs: usize,
    shelf: Arc<dyn ModelShelf>,
    lease_ms: u64,
) -> (Bench, watch::Sender<Cut>) {
    let mut switch = None;
    let seen = |store: Arc<dyn Store>| {
        let (store, cut) = CutStore::before(store);
        switch = Some(cut);
        store
    };
    let bench = bench_of(jobs, shelf, seen, leased(lease_ms, Duration::from_secs(60))).await;
    (bench, switch.unwrap())
}

async fn leased_bench(jobs: usize, shelf: Arc<dyn ModelShelf>, grace: Duration) -> Bench {
    bench_of(jobs, shelf, |store| store, leased(10_000, grace)).await
}

impl Bench {
    async fn runs_something(&self) {
        self.until(|status| status.engine.is_some_and(|engine| engine.jobs > 0))
            .await;
    }

    /// Waits until so many jobs are with engines.
    async fn runs(&self, jobs: usize) {
        let begin = async {
            while self.running.lock().unwrap().now.len() != jobs {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, begin).await.unwrap();
    }

    /// Judges until the instance is lost, and queues its jobs again, as the leader does.
    async fn judged(&self, node: &NodeInstance) {
        let store = self.batches.store();
        while !store.node_judge(PATIENCE).await.unwrap().contains(node) {
            tokio::task::yield_now().await;
        }
        let cause = ReleaseCause::Lost;
        self.batches.release_all_of(node, cause).await.unwrap();
    }

    async fn placed_on(&self, node: &NodeInstance) -> usize {
        let query = PlacedQuery::Node(node.clone());
        self.batches.store().job_placed(&query).await.unwrap().len()
    }

    async fn placed_count(&self, wanted: usize) {
        let node = self.node.instance();
        let counting = async {
            while self.placed_on(&node).await != wanted {
                self.batches.queue().room_made().await;
            }
        };
        tokio::time::timeout(PATIENCE, counting).await.unwrap();
    }
}

/// Counts the records that begin with a word.
struct Counted(Arc<Mutex<Vec<String>>>);

struct Message<'a>(&'a mut Vec<String>);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0.push(format!("{value:?}"));
        }
    }
}

impl Subscriber for Counted {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Message(&mut self.0.lock().unwrap()));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn lost_lease_is_told_once_and_nothing_is_committed_after_it() {
    let log = Arc::default();
    let _listening = tracing::subscriber::set_default(Counted(Arc::clone(&log)));
    let (open, shelf) = gated();
    let (bench, cut) = cut_bench(40, shelf, 3_000).await;
    bench.loaded().await;
    let first = bench.node.instance();
    bench.place(40, |_| ()).await;
    bench.runs_something().await;
    cut.send_replace(Cut::Hanging);
    bench.judged(&first).await;
    // All of its jobs could end now, and be committed.
    drop(open);
    cut.send_replace(Cut::Open);
    bench.until(|status| status.node != first).await;
    assert_eq!(bench.states(JobState::Succeeded).await, 0);
    assert_eq!(bench.states(JobState::Queued).await, 40);
    let lost = |line: &&String| line.starts_with("lease_lost");
    assert_eq!(log.lock().unwrap().iter().filter(lost).count(), 1);
    assert_eq!(bench.running.lock().unwrap().now.len(), 0);
    bench.place(40, |_| ()).await;
    assert_eq!(bench.finished().await.len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn store_that_is_away_for_less_than_the_lease_costs_nothing() {
    let (bench, cut) = cut_bench(300, stub_shelf(), 20_000).await;
    bench.loaded().await;
    let first = bench.node.instance();
    cut.send_replace(Cut::Failing);
    bench.place(300, |_| ()).await;
    bench.until(|status| status.blocked.is_some()).await;
    cut.send_replace(Cut::Open);
    assert_eq!(bench.finished().await.len(), 300);
    assert_eq!(bench.node.instance(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn store_that_is_away_for_longer_than_the_lease_makes_another_instance() {
    let (bench, cut) = cut_bench(30, stub_shelf(), 3_000).await;
    bench.loaded().await;
    let first = bench.node.instance();
    cut.send_replace(Cut::Failing);
    bench.place(30, |_| ()).await;
    bench.judged(&first).await;
    cut.send_replace(Cut::Open);
    bench.until(|status| status.node != first).await;
    assert_eq!(bench.states(JobState::Queued).await, 30);
    bench.place(30, |_| ()).await;
    assert_eq!(bench.finished().await.len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_that_lost_everything_gets_its_inbox_back() {
    let bench = leased_bench(40, stub_shelf(), PATIENCE).await;
    bench.loaded().await;
    let node = bench.node.instance();
    let work = bench.placed(20, |_| ()).await;
    bench.batches.queue().leave(&node).await.unwrap();
    bench.push(work).await;
    bench.placed_count(0).await;
    bench.place(20, |_| ()).await;
    assert_eq!(bench.finished().await.len(), 40);
    assert_eq!(bench.node.instance(), node);
}

#[tokio::test(flavor = "multi_thread")]
async fn job_that_is_pushed_again_runs_once() {
    let (open, shelf) = gated();
    let bench = leased_bench(60, shelf, PATIENCE).await;
    bench.loaded().await;
    let node = bench.node.instance();
    let work = bench.placed(60, |_| ()).await;
    bench.push(work.clone()).await;
    bench.runs_something().await;
    // The queue forgets what it gave out, and the coordinator brings it again.
    bench.batches.queue().leave(&node).await.unwrap();
    bench.push(work.clone()).await;
    drop(open);
    assert_eq!(bench.finished().await.len(), 60);
    bench.push(work).await;
    let empty = async {
        loop {
            let depth = bench.batches.queue().depth(&node).await.unwrap();
            if depth.waiting + depth.running == 0 {
                return;
            }
            bench.batches.queue().room_made().await;
        }
    };
    tokio::time::timeout(PATIENCE, empty).await.unwrap();
    // The journal has seen each job once.
    assert_eq!(bench.running.lock().unwrap().crowds.len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_work_is_read_from_the_store() {
    let bench = leased_bench(30, stub_shelf(), PATIENCE).await;
    bench.loaded().await;
    bench
        .place(30, |work| {
            if work.job.index.0 % 3 == 0 {
                work.request = None;
            }
        })
        .await;
    let with_large = bench.finished().await;
    let plain = leased_bench(30, stub_shelf(), PATIENCE).await;
    plain.loaded().await;
    plain.place(30, |_| ()).await;
    assert_eq!(with_large, plain.finished().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn drained_node_stays_gives_back_what_comes_and_works_again_when_undrained() {
    let (open, shelf) = gated();
    let bench = leased_bench(80, shelf, PATIENCE).await;
    bench.loaded().await;
    bench.place(8, |_| ()).await;
    bench.runs_something().await;
    let store = bench.batches.store();
    store.node_drain("here", true).await.unwrap();
    let queue = bench.batches.queue();
    let node = bench.node.instance();
    queue.control(&node, Control::Drain).await.unwrap();
    bench.until(|status| status.draining).await;
    let begun = bench.running.lock().unwrap().crowds.len();
    bench.place(72, |_| ()).await;
    bench.placed_count(begun).await;
    drop(open);
    bench.placed_count(0).await;
    assert_eq!(bench.states(JobState::Succeeded).await, begun as u64);
    assert_eq!(bench.running.lock().unwrap().crowds.len(), begun);
    store.node_drain("here", false).await.unwrap();
    bench.until(|status| !status.draining).await;
    assert_eq!(bench.node.instance(), node);
    bench.place(80, |_| ()).await;
    assert_eq!(bench.finished().await.len(), 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_does_not_wait_longer_than_the_grace_time() {
    let (open, shelf) = gated();
    let mut bench = leased_bench(30, shelf, Duration::from_millis(50)).await;
    bench.loaded().await;
    bench.place(30, |_| ()).await;
    bench.runs_something().await;
    bench.node.drain().await;
    bench.step_to_the_end(&open).await;
    assert_eq!(bench.states(JobState::Placed).await, 0);
    assert!(bench.states(JobState::Queued).await > 0);
    let nodes = bench.batches.store().node_list().await.unwrap();
    assert!(nodes.is_empty(), "it has left: {nodes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_watcher_gets_every_token_once_and_in_order() {
    let (open, shelf) = gated();
    let bench = leased_bench(2, shelf, PATIENCE).await;
    bench.loaded().await;
    let (queue, node) = (bench.batches.queue(), bench.node.instance());
    let held = bench.place(2, |_| ()).await;
    bench.runs_something().await;
    let steps = |count: usize| (0..count).for_each(|_| open.send(()).unwrap());
    let job = held[0].job;
    let mut watching = queue.watch(job).await.unwrap();
    let mut unwatched = queue.watch(held[1].job).await.unwrap();
    // Pieces may overlap, and none is missing.
    let take = |event: TextEvent, text: &mut String, next: &mut u32| {
        let end = event.first_token + event.tokens;
        assert!(event.first_token <= *next, "a piece is missing: {event:?}");
        if end > *next {
            let skip = (*next - event.first_token) as usize;
            text.push_str(&event.text[skip..]);
            *next = end;
        }
    };
    // Steps before anybody asks: the prompt and a few tokens.
    const LATE: usize = 8;
    let (mut text, mut next) = (String::new(), 0);
    for round in 0.. {
        if round >= LATE && round % 3 == 0 {
            // The second time somebody else asks for a snapshot: overlaps are dropped.
            let wish = Control::Watch(vec![job]);
            queue.control(&node, wish).await.unwrap();
        }
        steps(1);
        // The wish takes effect between two steps: the next one is not due before it may have.
        let patience = match next {
            0 if round >= LATE => Duration::from_secs(1),
            _ => Duration::from_millis(50),
        };
        while let Ok(Ok(event)) = tokio::time::timeout(patience, watching.recv()).await {
            take(event, &mut text, &mut next);
        }
        if bench.placed_on(&node).await < 2 {
            break;
        }
    }
    drop(open);
    let lines = bench.finished().await;
    // The stub's tokens are bytes, so that a token is a letter. The last ones may come after the end of the job.
    while !lines[0].contains(&format!(":\\\"{text}\\\"")) {
        let event = tokio::time::timeout(PATIENCE, watching.recv()).await;
        let event = event.unwrap_or_else(|_| panic!("{text:?} {}", lines[0]));
        take(event.unwrap(), &mut text, &mut next);
    }
    assert!(text.len() > 5, "{text:?}");
    assert!(
        unwatched.try_recv().is_err(),
        "nobody watches the other job"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn log_is_told_to_whoever_asks() {
    let bench = leased_bench(1, stub_shelf(), PATIENCE).await;
    let (queue, node) = (bench.batches.queue(), bench.node.instance());
    bench.loaded().await;
    let ask = Control::Logs {
        ask: "x".into(),
        lines: 2,
    };
    queue.control(&node, ask).await.unwrap();
    let answer = queue.answered("x", PATIENCE).await.unwrap();
    assert_eq!(answer.as_deref(), Some("2 lines"));
}

/// Sends work for another model.
fn of(model: ModelSha) -> impl Fn(&mut Work) {
    move |work| work.model = model
}

fn wish(model: ModelSha, evict: &[ModelSha]) -> LoadWish {
    LoadWish {
        model,
        reference: "m".into(),
        revision: None,
        evict: evict.to_vec(),
    }
}

async fn small_bench(shelf: Arc<dyn ModelShelf>) -> Bench {
    let options = NodeOptions {
        memory: Some(2 * BYTES),
        ..leased(10_000, PATIENCE)
    };
    bench_of(20, shelf, |store| store, options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_models_are_resident_and_a_third_is_refused_for_want_of_memory() {
    let bench = small_bench(stub_shelf()).await;
    for model in MODELS {
        bench.node.load_beside(wish(model, &[])).await;
    }
    let refused = |status: &NodeStatus| !status.report.failed_loads.is_empty();
    let status = bench.until(refused).await;
    assert_eq!(status.resident, MODELS[..2]);
    let failed = &status.report.failed_loads;
    let failed = failed.iter().map(|load| (load.model, load.code.as_str()));
    assert_eq!(failed.collect::<Vec<_>>(), [(MODELS[2], "out_of_memory")]);
    assert_eq!(status.report.resident.len(), 2);
    bench.place(10, of(MODELS[0])).await;
    bench.place(10, of(MODELS[1])).await;
    assert_eq!(bench.finished().await.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn model_with_running_jobs_is_put_away_only_after_them() {
    let (open, shelf) = gated();
    let bench = small_bench(shelf).await;
    bench.node.load_beside(wish(MODELS[0], &[])).await;
    bench.node.load_beside(wish(MODELS[1], &[])).await;
    bench.until(|status| status.resident.len() == 2).await;
    bench.place(8, of(MODELS[0])).await;
    bench.runs(8).await;
    bench.node.load_beside(wish(MODELS[2], &[MODELS[0]])).await;
    bench
        .until(|status| status.resident == [MODELS[1]] && status.loading == [MODELS[2]])
        .await;
    // No new job begins with the model that makes room, and the one that comes may wait here.
    bench.place(2, of(MODELS[0])).await;
    bench.place(2, of(MODELS[2])).await;
    bench.placed_count(10).await;
    let waiting = bench.node.status().borrow().report.loading.clone();
    assert_eq!(waiting[0].stage, rbee_queue::node::LoadStage::Waiting);
    let running = bench.running.lock().unwrap().now.len();
    assert_eq!(running, 8);
    drop(open);
    bench
        .until(|status| status.resident == [MODELS[1], MODELS[2]])
        .await;
    bench.placed_count(0).await;
    assert_eq!(bench.states(JobState::Succeeded).await, 10);
}
