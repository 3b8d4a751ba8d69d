//! Coordinators over SQLite and memory, with nodes that answer at once. What is cut off comes back,
//! and the results are those of an undisturbed run.

use super::{Coordinator, validate};
use crate::explain;
use crate::placement::Hold;
use crate::testing::{
    Cluster, LEASE, NodeSetup, coordinator, exported, input, sha, submission, until,
};
use rbee_queue::batches::Submission;
use rbee_queue::file::Asked;
use rbee_queue::queue::Held;
use rbee_queue::store::{Finish, FinishOutcome};
use rbee_queue::{
    Batch, BatchStatus, Choice, Completed, Endpoint, FileId, FinishReason, JobStats, Renewal,
    ResultRecord, Usage,
};

/// Jobs of the batches here; a tenth of the lines are bad.
const JOBS: usize = 200;
/// Those that nodes answer.
const GOOD: u64 = 180;

impl Coordinator {
    /// Reads the files of announced batches, which is a part of a leader's work, alone.
    pub(crate) async fn read_announced(self) {
        let error = validate::run(&self.shared).await;
        panic!("announced batches are read no more: {error}");
    }
}

/// A batch that a cluster with two nodes ran without a fault.
async fn undisturbed(jobs: usize) -> Vec<Option<String>> {
    let cluster = Cluster::open().await;
    let running = cluster.coordinator();
    let _one = cluster.node(NodeSetup::named("one")).await;
    let _two = cluster.node(NodeSetup::named("two")).await;
    let batch = cluster.submit(input(jobs), submission("ann")).await;
    running.handle.wake();
    let done = cluster.ended(&batch).await;
    assert_eq!(done.status, BatchStatus::Completed);
    exported(&cluster.batches, &batch).await
}

async fn assert_undisturbed(cluster: &Cluster, batch: &Batch) {
    let done = cluster.ended(batch).await;
    assert_eq!(done.status, BatchStatus::Completed);
    let counts = (done.counts.succeeded, done.counts.failed);
    assert_eq!(counts, (GOOD, JOBS as u64 - GOOD));
    assert_eq!(
        exported(&cluster.batches, batch).await,
        undisturbed(JOBS).await
    );
}

fn hanging(name: &str) -> NodeSetup {
    NodeSetup {
        hangs: true,
        ..NodeSetup::named(name)
    }
}

#[tokio::test]
async fn coordinator_brings_models_to_nodes_and_answers_every_job() {
    let cluster = Cluster::open().await;
    let running = cluster.coordinator();
    let one = cluster.node(NodeSetup::named("one")).await;
    let two = cluster.node(NodeSetup::named("two")).await;
    let batch = cluster.submit(input(400), submission("ann")).await;
    running.handle.wake();
    let done = cluster.ended(&batch).await;
    assert_eq!(done.status, BatchStatus::Completed);
    assert_eq!((done.counts.succeeded, done.counts.failed), (360, 40));
    let lines = exported(&cluster.batches, &batch).await;
    assert!(lines.iter().all(Option::is_some));
    let status = running.handle.status().borrow().clone();
    assert!(status.leading);
    assert_eq!(status.placed, 360);
    assert_eq!(one.finished() + two.finished(), 360);
    let mut loaded = [one.loaded(), two.loaded()].concat();
    assert_eq!(loaded.len() as u64, status.loads);
    loaded.sort_unstable();
    loaded.dedup();
    assert_eq!(loaded, [sha("a"), sha("b")]);
}

#[tokio::test]
async fn jobs_of_a_lost_node_are_answered_by_another() {
    let cluster = Cluster::open().await;
    let running = cluster.coordinator();
    let dying = cluster.node(hanging("dying")).await;
    let batch = cluster.submit(input(JOBS), submission("ann")).await;
    running.handle.wake();
    until("the node has jobs", async || {
        (!dying.holds().is_empty()).then_some(())
    })
    .await;
    dying.kill();
    let other = cluster.node(NodeSetup::named("other")).await;
    assert_undisturbed(&cluster, &batch).await;
    assert_eq!(other.finished() as u64, GOOD);
    let status = running.handle.status().borrow().clone();
    assert_eq!(status.lost, 1);
    assert!(status.released > 0);
}

#[tokio::test]
async fn node_that_was_stopped_and_continued_changes_nothing() {
    let cluster = Cluster::open().await;
    let running = cluster.coordinator();
    let stopped = cluster.node(hanging("stopped")).await;
    let batch = cluster.submit(input(JOBS), submission("ann")).await;
    running.handle.wake();
    let held = until("the node has jobs", async || {
        Some(stopped.holds()).filter(|held| !held.is_empty())
    })
    .await;
    stopped.kill();
    let _other = cluster.node(NodeSetup::named("other")).await;
    cluster.ended(&batch).await;

    let batches = &cluster.batches;
    let late = held.iter().map(late_answer).collect();
    let outcomes = batches.finish(&stopped.instance, late).await.unwrap();
    let fenced = |outcome: &FinishOutcome| *outcome == FinishOutcome::Fenced;
    assert!(outcomes.iter().all(fenced), "{outcomes:?}");
    let report = Default::default();
    let renewed = (batches.store())
        .node_renew(&stopped.instance, &report, LEASE)
        .await
        .unwrap();
    assert_eq!(renewed, Renewal::Lost);
    assert_undisturbed(&cluster, &batch).await;
}

fn late_answer(held: &Held) -> Finish {
    let choice = Choice {
        index: 0,
        text: "too late".into(),
        finish_reason: FinishReason::Stop,
        logprobs: None,
    };
    Finish {
        job: held.job,
        attempt: held.attempt,
        record: ResultRecord::completed(Completed {
            choices: vec![choice],
            usage: Usage::default(),
            ..Completed::default()
        }),
        stats: JobStats::default(),
    }
}

#[tokio::test]
async fn next_leader_goes_on_where_a_killed_one_ended() {
    let cluster = Cluster::open().await;
    let first = cluster.coordinator();
    until("the first leads", async || first.leads().then_some(())).await;
    let second = cluster.coordinator();
    let stuck = cluster
        .node(NodeSetup {
            most: 50,
            ..NodeSetup::named("stuck")
        })
        .await;
    let batch = cluster.submit(input(JOBS), submission("ann")).await;
    first.handle.wake();
    until("the run is under way", async || {
        (stuck.finished() == 50).then_some(())
    })
    .await;
    assert!(first.leads() && !second.leads());
    let term = first.handle.status().borrow().term;
    first.kill();
    until("the second leads", async || second.leads().then_some(())).await;
    assert!(second.handle.status().borrow().term > term);
    stuck.kill();
    let other = cluster.node(NodeSetup::named("other")).await;
    assert_undisturbed(&cluster, &batch).await;
    assert_eq!((stuck.finished() + other.finished()) as u64, GOOD);
}

#[tokio::test]
async fn leader_that_is_told_to_stop_gives_the_lead_back() {
    let cluster = Cluster::open().await;
    let first = cluster.coordinator();
    until("the first leads", async || first.leads().then_some(())).await;
    first.stop().await;
    let store = cluster.batches.store();
    let term = store.lead("next", LEASE).await.unwrap();
    assert!(term.is_some(), "the lead is still another's");
    store.lead_end("next").await.unwrap();
    let second = cluster.coordinator();
    until("the second leads", async || second.leads().then_some(())).await;
}

#[tokio::test]
async fn inbox_that_lost_its_jobs_is_filled_again() {
    let cluster = Cluster::open().await;
    let running = cluster.coordinator();
    let stuck = cluster
        .node(NodeSetup {
            most: 20,
            ..NodeSetup::named("stuck")
        })
        .await;
    let batch = cluster.submit(input(JOBS), submission("ann")).await;
    running.handle.wake();
    let queue = cluster.batches.queue();
    let waits = async || {
        let depth = queue.depth(&stuck.instance).await.ok()?;
        (stuck.finished() == 20 && depth.waiting > 0).then_some(depth.waiting)
    };
    until("jobs wait in the inbox", waits).await;
    let lost = queue.leave(&stuck.instance).await.unwrap();
    assert!(!lost.is_empty());
    until("the inbox is there again", waits).await;
    let restored = || running.handle.status().borrow().restored;
    until("jobs were pushed again", async || {
        (restored() >= lost.len() as u64).then_some(())
    })
    .await;
    stuck.kill();
    let _other = cluster.node(NodeSetup::named("other")).await;
    assert_undisturbed(&cluster, &batch).await;
}

#[tokio::test]
async fn cancel_ends_the_jobs_that_nodes_have() {
    let cluster = Cluster::open().await;
    let running = cluster.coordinator();
    let node = cluster.node(hanging("n")).await;
    let batch = cluster.submit(input(JOBS), submission("ann")).await;
    running.handle.wake();
    until("the node has jobs", async || {
        (!node.holds().is_empty()).then_some(())
    })
    .await;
    let store = cluster.batches.store();
    store.batch_cancel(batch.no).await.unwrap();
    running.handle.wake();
    let done = cluster.ended(&batch).await;
    assert_eq!(done.status, BatchStatus::Cancelled);
    assert_eq!((done.counts.succeeded, done.counts.failed), (0, 200));
    assert!(node.holds().is_empty());
    let lines = exported(&cluster.batches, &batch).await;
    let cancelled = |line: &&Option<String>| {
        let line = line.as_ref().expect("every line has its end");
        line.contains("\"cancelled\"")
    };
    assert_eq!(lines.iter().filter(cancelled).count() as u64, GOOD);
}

#[tokio::test]
async fn batch_whose_window_passed_expires_with_what_nodes_have() {
    let cluster = Cluster::open().await;
    let running = cluster.coordinator();
    let node = cluster.node(hanging("n")).await;
    let asked = Asked {
        input_file_id: FileId::generate(),
        endpoint: Endpoint::ChatCompletions,
        completion_window: "1s".to_owned(),
        window_s: 1,
        metadata: None,
        outputs_kept_s: None,
        max_queued: None,
    };
    let short = Submission {
        asked: Some(asked),
        ..submission("ann")
    };
    let batch = cluster.submit(input(JOBS), short).await;
    let other = cluster.submit(input(JOBS), submission("bob")).await;
    running.handle.wake();
    let done = cluster.ended(&batch).await;
    assert_eq!(done.status, BatchStatus::Expired);
    assert_eq!((done.counts.succeeded, done.counts.failed), (0, 200));
    assert!(done.finished_at_us >= done.times.expires_us);
    let lines = exported(&cluster.batches, &batch).await;
    let expired = lines.iter().flatten();
    let expired = expired.filter(|line| line.contains("\"batch_expired\""));
    assert_eq!(expired.count() as u64, GOOD);
    let others = node.holds();
    assert!(others.iter().all(|held| held.job.batch == other.no));
    assert_eq!(cluster.fresh(&other).await.status, BatchStatus::InProgress);
}

#[tokio::test]
async fn paused_batch_gets_no_place_until_it_is_resumed() {
    let cluster = Cluster::open().await;
    let running = cluster.coordinator();
    let paused = cluster.submit(input(JOBS), submission("ann")).await;
    let store = cluster.batches.store();
    (store.batch_pause(paused.no, Some("by ann")).await).unwrap();
    let _node = cluster.node(NodeSetup::named("n")).await;
    let other = cluster.submit(input(JOBS), submission("bob")).await;
    running.handle.wake();
    cluster.ended(&other).await;
    let fresh = cluster.fresh(&paused).await;
    assert_eq!(fresh.status, BatchStatus::InProgress);
    assert_eq!(fresh.counts.succeeded, 0);
    store.batch_pause(paused.no, None).await.unwrap();
    running.handle.wake();
    assert_undisturbed(&cluster, &paused).await;
}

#[tokio::test]
async fn jobs_of_a_model_that_no_node_can_load_fail_with_its_reason() {
    let cluster = Cluster::open().await;
    let running = cluster.coordinator();
    for name in ["one", "two"] {
        let setup = NodeSetup {
            fails: vec![sha("b")],
            ..NodeSetup::named(name)
        };
        // It lives as long as the runtime.
        cluster.node(setup).await;
    }
    let batch = cluster.submit(input(JOBS), submission("ann")).await;
    running.handle.wake();
    let done = cluster.ended(&batch).await;
    assert_eq!(done.status, BatchStatus::Completed);
    let lines = exported(&cluster.batches, &batch).await;
    let bad = lines.iter().flatten();
    let failed: Vec<&String> = bad
        .filter(|line| line.contains("no node could load the model"))
        .collect();
    let of_b = (0..JOBS).filter(|index| index % 10 != 9 && index % 3 == 2);
    assert_eq!(failed.len(), of_b.count());
    let reason = |line: &&String| {
        line.contains("out_of_memory")
            && (line.contains("one: it does not fit") || line.contains("two: it does not fit"))
    };
    assert!(failed.iter().all(reason), "{}", failed[0]);
    assert_eq!(done.counts.succeeded + failed.len() as u64, GOOD);
}

#[tokio::test]
async fn batch_waits_for_the_numerics_with_which_it_began_and_says_so() {
    let cluster = Cluster::open().await;
    let running = cluster.coordinator();
    let first = cluster
        .node(NodeSetup {
            most: 20,
            ..NodeSetup::named("first")
        })
        .await;
    // All of one model: the other one would begin on any node.
    let only_a = input(JOBS).replace("\"model\": \"b\"", "\"model\": \"a\"");
    let batch = cluster.submit(only_a, submission("ann")).await;
    running.handle.wake();
    until("it began", async || (first.finished() == 20).then_some(())).await;
    first.leave().await;
    let alien = cluster
        .node(NodeSetup {
            numerics: "y".into(),
            ..NodeSetup::named("alien")
        })
        .await;
    let mut status = running.handle.status();
    let held = |status: &super::CoordinatorStatus| {
        let mut holds = status.holds.iter();
        holds.any(|(no, _, hold)| *no == batch.no && *hold == Hold::OtherNumerics)
    };
    status.wait_for(held).await.unwrap();
    let store = cluster.batches.store();
    let waiting = store.job_waiting(batch.no).await.unwrap();
    let nodes = store.node_list().await.unwrap();
    let why = explain(&cluster.fresh(&batch).await, &waiting, &nodes).unwrap();
    assert!(why.contains("computes the same bytes"), "{why}");
    let _twin = cluster.node(NodeSetup::named("twin")).await;
    let done = cluster.ended(&batch).await;
    assert_eq!(done.counts.succeeded, GOOD);
    assert_eq!(alien.finished(), 0);
}

#[tokio::test]
async fn batches_of_an_owner_that_is_skipped_are_left_alone() {
    let cluster = Cluster::open().await;
    let options = super::CoordinatorOptions {
        skip_owner: Some("ann".into()),
        ..Default::default()
    };
    let running = coordinator(&cluster.batches, options);
    let _node = cluster.node(NodeSetup::named("n")).await;
    let skipped = cluster.submit(input(JOBS), submission("ann")).await;
    let other = cluster.submit(input(JOBS), submission("bob")).await;
    running.handle.wake();
    cluster.ended(&other).await;
    assert_eq!(cluster.fresh(&skipped).await.counts.succeeded, 0);
}
