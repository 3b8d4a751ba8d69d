use super::*;
use rbee_queue::batches::{Submission, Submitted};
use rbee_queue::jsonl::{LineOptions, Rendering, survey};
use rbee_queue::owner::BatchLock;
use rbee_queue::{
    BatchSpec, BatchStatus, Choice, Completed, FinishReason, MemoryQueue, ModelSha, Priority,
    SqliteStore, Usage,
};
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// What a new process sees of a directory.
async fn open(dir: &Path) -> Batches {
    let path = dir.join("rbee.db");
    let store = SqliteStore::open(&path).await.unwrap();
    Batches::embedded(Arc::new(store), Arc::new(MemoryQueue::new()), &path)
}

/// `jobs` prompts; every third one for the model `b`, every tenth a bad line.
fn input(jobs: usize) -> String {
    let line = |index: usize| match index {
        index if index % 10 == 9 => "oops".to_owned(),
        index if index % 3 == 2 => format!("{{\"prompt\": \"p{index}\", \"model\": \"b\"}}"),
        index => format!("{{\"prompt\": \"p{index}\"}}"),
    };
    let lines: Vec<String> = (0..jobs).map(line).collect();
    lines.join("\n")
}

fn sha(name: &str) -> ModelSha {
    ModelSha([name.as_bytes()[0]; 32])
}

async fn submit(batches: &Batches, input: String, missing: &str) -> (Batch, Option<BatchLock>) {
    let spec = BatchSpec::new(LineOptions::new("a"));
    let found = survey(input.as_bytes(), &spec.options).unwrap();
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
        owner: "ann".into(),
        name: None,
        key: None,
        priority: Priority::Batch,
        pinned_node: None,
        on_done: None,
        models: models.collect(),
        spec,
        digest: None,
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

/// A node that answers with what it was asked, and loads models when told to.
struct Node {
    node: NodeInstance,
    nodes: watch::Receiver<Vec<NodeSnapshot>>,
    loads: mpsc::Sender<Load>,
    loaded: JoinHandle<Vec<ModelSha>>,
    works: JoinHandle<usize>,
}

fn snapshot(node: &NodeInstance, resident: Vec<ModelSha>) -> NodeSnapshot {
    NodeSnapshot {
        node: node.clone(),
        numerics: "x".into(),
        resident,
        loading: vec![],
        slots: 4,
        jobs_per_s: 0.0,
        held: 0,
        draining: false,
    }
}

/// Stops after `most` jobs, as a killed node would: without a word.
async fn node(batches: &Batches, most: usize) -> Node {
    let node = NodeInstance::generate();
    batches.queue().join(&node, 64).await.unwrap();
    let (snapshots, nodes) = watch::channel(vec![snapshot(&node, vec![])]);
    let (loads, mut wishes) = mpsc::channel::<Load>(4);
    let name = node.clone();
    let loaded = tokio::spawn(async move {
        let mut loaded = Vec::new();
        while let Some(load) = wishes.recv().await {
            loaded.push(load.model);
            snapshots.send_replace(vec![snapshot(&name, vec![load.model])]);
        }
        loaded
    });
    let works = tokio::spawn(work(batches.clone(), node.clone(), most));
    Node {
        node,
        nodes,
        loads,
        loaded,
        works,
    }
}

async fn work(batches: Batches, node: NodeInstance, most: usize) -> usize {
    let mut done = 0;
    while done < most {
        let taken = batches.queue().take(&node, 3.min(most - done)).await;
        let Ok(taken) = taken else {
            break;
        };
        done += taken.len();
        let finishes = taken.iter().map(answer).collect();
        batches.finish(&node, finishes).await.unwrap();
    }
    done
}

fn answer(work: &Work) -> Finish {
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
        }),
        stats: JobStats::default(),
    }
}

async fn exported(batches: &Batches, batch: &Batch) -> Vec<Option<String>> {
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

async fn undisturbed(jobs: usize) -> Vec<Option<String>> {
    let dir = tempfile::tempdir().unwrap();
    let batches = open(dir.path()).await;
    let (batch, _lock) = submit(&batches, input(jobs), "").await;
    let node = node(&batches, usize::MAX).await;
    let dispatcher = Dispatcher::new(batches.clone());
    let ended = dispatcher
        .run(&batch.id, node.nodes, node.loads)
        .await
        .unwrap();
    assert_eq!(ended, Dispatched::Done);
    // Each model was loaded once, in the order of the lines.
    assert_eq!(node.loaded.await.unwrap(), [sha("a"), sha("b")]);
    batches.leave(&node.node).await.unwrap();
    assert_eq!(node.works.await.unwrap(), jobs - jobs / 10);
    exported(&batches, &batch).await
}

#[tokio::test]
async fn every_job_is_answered_model_by_model() {
    let lines = undisturbed(200).await;
    assert_eq!(lines.len(), 200);
    assert!(lines.iter().all(Option::is_some));
}

#[tokio::test]
async fn node_killed_at_any_job_changes_no_byte() {
    let expected = undisturbed(40).await;
    for killed_after in [0, 1, 3, 17, 35] {
        let dir = tempfile::tempdir().unwrap();
        let batches = open(dir.path()).await;
        let (batch, lock) = submit(&batches, input(40), "").await;
        let dying = node(&batches, killed_after).await;
        let dispatcher = Dispatcher::new(batches.clone());
        let feeding = {
            let id = batch.id.clone();
            tokio::spawn(async move { dispatcher.run(&id, dying.nodes, dying.loads).await })
        };
        dying.works.await.unwrap();
        feeding.abort();
        let _ = feeding.await;
        drop(lock);
        drop(batches);

        let batches = open(dir.path()).await;
        let _lock = batches.take(&batch.id).unwrap();
        batches.resume(&batch).await.unwrap();
        let node = node(&batches, usize::MAX).await;
        let dispatcher = Dispatcher::new(batches.clone());
        dispatcher
            .run(&batch.id, node.nodes, node.loads)
            .await
            .unwrap();
        let done = batches.store().batch_get(&batch.id).await.unwrap().unwrap();
        assert_eq!(done.status, BatchStatus::Completed);
        assert_eq!(
            exported(&batches, &batch).await,
            expected,
            "killed after {killed_after}"
        );
    }
}

#[tokio::test]
async fn jobs_of_a_model_that_cannot_be_found_fail_and_the_rest_runs() {
    let dir = tempfile::tempdir().unwrap();
    let batches = open(dir.path()).await;
    let (batch, _lock) = submit(&batches, input(30), "b").await;
    let node = node(&batches, usize::MAX).await;
    let dispatcher = Dispatcher::new(batches.clone());
    dispatcher
        .run(&batch.id, node.nodes, node.loads)
        .await
        .unwrap();
    let lines = exported(&batches, &batch).await;
    let missing = lines
        .iter()
        .flatten()
        .filter(|line| line.contains("model_not_found"))
        .count();
    assert_eq!(missing, 9);
    assert_eq!(node.loaded.await.unwrap(), [sha("a")]);
    // Once the model is there, the same batch can go on, on whatever node comes first.
    let batch = batches.store().batch_get(&batch.id).await.unwrap().unwrap();
    assert_eq!(batch.models[1].numerics, None);
}

#[tokio::test]
async fn inbox_without_room_gives_the_jobs_back() {
    let dir = tempfile::tempdir().unwrap();
    let batches = open(dir.path()).await;
    let (batch, _lock) = submit(&batches, input(30), "").await;
    let small = NodeInstance::generate();
    batches.queue().join(&small, 2).await.unwrap();
    let dispatcher = Dispatcher::new(batches.clone());
    let nodes = vec![snapshot(&small, vec![sha("a")])];
    let tick = dispatcher
        .tick(std::slice::from_ref(&batch), nodes)
        .await
        .unwrap();
    assert_eq!(tick.placed, 0);
    let counts = batches.store().recount(batch.no).await.unwrap();
    assert_eq!((counts[0], counts[1]), (27, 0));
}

#[tokio::test]
async fn inbox_is_kept_only_a_little_deeper_than_the_slots() {
    let dir = tempfile::tempdir().unwrap();
    let batches = open(dir.path()).await;
    let (batch, _lock) = submit(&batches, input(200), "").await;
    let idle = NodeInstance::generate();
    batches.queue().join(&idle, 64).await.unwrap();
    let dispatcher = Dispatcher::new(batches.clone());
    for _ in 0..3 {
        let nodes = vec![snapshot(&idle, vec![sha("a")])];
        let tick = dispatcher
            .tick(std::slice::from_ref(&batch), nodes)
            .await
            .unwrap();
        assert!(tick.waiting > 0);
    }
    let depth = batches.queue().depth(&idle).await.unwrap();
    assert_eq!((depth.waiting, depth.running), (7, 0));
}
