use super::*;
use crate::placement::Resident;
use crate::testing::{answer, exported, input, open, sha, submission};
use rbee_queue::BatchStatus;
use rbee_queue::owner::BatchLock;
use tokio::task::JoinHandle;

async fn submit(batches: &Batches, input: String, missing: &str) -> (Batch, Option<BatchLock>) {
    crate::testing::submit(batches, input, missing, submission("ann")).await
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
        numerics: "x".into(),
        resident: resident.into_iter().map(Resident::new).collect(),
        slots: 4,
        ..NodeSnapshot::new(node.clone(), "n")
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
