//! Coordinators over SQLite and memory, with nodes that answer at once.

use crate::testing::{Cluster, NodeSetup, exported, input, sha, submission};
use rbee_queue::BatchStatus;

#[tokio::test]
async fn coordinator_brings_models_to_nodes_and_answers_every_job() {
    let cluster = Cluster::open().await;
    let running = cluster.coordinator();
    let _one = cluster.node(NodeSetup::named("one")).await;
    let _two = cluster.node(NodeSetup::named("two")).await;
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
    let _ = sha("a");
}
