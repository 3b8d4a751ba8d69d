//! Nodes and their leases, the lead, open batches and whose end is to be told.

use super::*;
use crate::batch::Priority;
use crate::node::{NodeReport, Renewal};
use crate::state::BatchStatus;

const LONG: Duration = Duration::from_secs(600);

fn report(name: &str) -> NodeReport {
    NodeReport {
        name: name.into(),
        slots: 4,
        numerics: "x".into(),
        ..NodeReport::default()
    }
}

async fn joined(store: &dyn Store, name: &str, lease: Duration) -> NodeInstance {
    let node = NodeInstance::generate();
    store.node_join(&node, &report(name), lease).await.unwrap();
    node
}

pub async fn node_is_listed_with_its_last_report(store: &dyn Store) {
    let node = joined(store, "n", LONG).await;
    let said = NodeReport {
        running: 3,
        ..report("n")
    };
    let renewed = store.node_renew(&node, &said, LONG).await.unwrap();
    assert_eq!(renewed, Renewal::Renewed { drain: false });
    let nodes = store.node_list().await.unwrap();
    assert_eq!(nodes.len(), 1);
    assert_eq!((&nodes[0].instance, &nodes[0].report), (&node, &said));
    assert!(nodes[0].lease_left_us > 500_000_000 && !nodes[0].lost);
    store.node_leave(&node).await.unwrap();
    assert!(store.node_list().await.unwrap().is_empty());
}

pub async fn lease_that_ended_is_judged_once_and_for_good(store: &dyn Store) {
    let lives = joined(store, "lives", LONG).await;
    let dies = joined(store, "dies", Duration::ZERO).await;
    let batch = shown(store, vec![job(0), job(1)]).await;
    let placed = place_on(store, &[at(&batch, 0)], &dies, "x").await;
    let PlaceOutcome::Placed(attempt) = placed[0] else {
        panic!("{placed:?}");
    };
    place_on(store, &[at(&batch, 1)], &lives, "x").await;
    let lost = std::slice::from_ref(&dies);
    assert_eq!(store.node_judge(LONG).await.unwrap(), lost);
    // Its jobs are not released yet, so it is named again.
    assert_eq!(store.node_judge(LONG).await.unwrap(), lost);
    let renewed = store
        .node_renew(&dies, &report("dies"), LONG)
        .await
        .unwrap();
    assert_eq!(renewed, Renewal::Lost);
    assert_eq!(
        store.release_node(&dies, ReleaseCause::Lost).await.unwrap(),
        1
    );
    assert_eq!(
        store.release_node(&dies, ReleaseCause::Lost).await.unwrap(),
        0
    );
    assert!(store.node_judge(LONG).await.unwrap().is_empty());
    let late = finish(store, at(&batch, 0), attempt, answer("late")).await;
    assert_eq!(late, FinishOutcome::Fenced);
    let counts = store.recount(batch.no).await.unwrap();
    assert_eq!((counts[0], counts[1]), (1, 1));
    assert_eq!(store.node_list().await.unwrap().len(), 2);
    assert!(store.node_judge(Duration::ZERO).await.unwrap().is_empty());
    assert_eq!(store.node_list().await.unwrap().len(), 1);
}

pub async fn node_that_joins_again_renews_and_is_not_revived(store: &dyn Store) {
    let node = joined(store, "n", Duration::ZERO).await;
    let said = NodeReport {
        running: 1,
        ..report("n")
    };
    store.node_join(&node, &said, LONG).await.unwrap();
    let nodes = store.node_list().await.unwrap();
    assert_eq!((nodes.len(), &nodes[0].report), (1, &said));
    assert!(store.node_judge(LONG).await.unwrap().is_empty());
    store.node_join(&node, &said, Duration::ZERO).await.unwrap();
    let lost = std::slice::from_ref(&node);
    assert_eq!(store.node_judge(LONG).await.unwrap(), lost);
    store.node_join(&node, &said, LONG).await.unwrap();
    assert!(store.node_list().await.unwrap()[0].lost);
    let renewed = store.node_renew(&node, &said, LONG).await.unwrap();
    assert_eq!(renewed, Renewal::Lost);
}

pub async fn lost_node_in_a_cancelling_batch_ends_its_jobs(store: &dyn Store) {
    let node = joined(store, "n", LONG).await;
    let batch = shown(store, (0..4).map(job).collect()).await;
    let other = shown(store, vec![job(0)]).await;
    let jobs = [at(&batch, 3), at(&batch, 1), at(&other, 0)];
    place_on(store, &jobs, &node, "x").await;
    assert_eq!(store.batch_cancel(batch.no).await.unwrap(), 2);
    let released = store.release_node(&node, ReleaseCause::Lost).await;
    assert_eq!(released.unwrap(), 3);
    assert_eq!(store.recount(batch.no).await.unwrap(), [0, 0, 0, 0, 4]);
    assert_eq!(fresh(store, &batch).await.status, BatchStatus::Cancelled);
    assert_eq!(store.recount(other.no).await.unwrap(), [1, 0, 0, 0, 0]);
    check_counters(store, &batch).await;
    check_counters(store, &other).await;
}

pub async fn judge_keeps_lost_nodes_that_hold_jobs(store: &dyn Store) {
    let lives = joined(store, "lives", LONG).await;
    let dies = joined(store, "dies", Duration::ZERO).await;
    let batch = shown(store, vec![job(0)]).await;
    place_on(store, &[at(&batch, 0)], &dies, "x").await;
    let lost = std::slice::from_ref(&dies);
    for _ in 0..3 {
        assert_eq!(store.node_judge(Duration::ZERO).await.unwrap(), lost);
    }
    let renewed = store.node_renew(&lives, &report("lives"), LONG).await;
    assert_eq!(renewed.unwrap(), Renewal::Renewed { drain: false });
    assert_eq!(store.node_list().await.unwrap().len(), 2);
    store.release_node(&dies, ReleaseCause::Lost).await.unwrap();
    assert!(store.node_judge(Duration::ZERO).await.unwrap().is_empty());
    let left = store.node_list().await.unwrap();
    assert_eq!((left.len(), &left[0].instance), (1, &lives));
}

pub async fn drain_is_a_wish_about_a_name(store: &dyn Store) {
    let node = joined(store, "n", LONG).await;
    store.node_drain("n", true).await.unwrap();
    store.node_drain("n", true).await.unwrap();
    let renewed = store.node_renew(&node, &report("n"), LONG).await.unwrap();
    assert_eq!(renewed, Renewal::Renewed { drain: true });
    joined(store, "n", LONG).await;
    assert!(
        store
            .node_list()
            .await
            .unwrap()
            .iter()
            .all(|node| node.drain_wanted)
    );
    store.node_drain("n", false).await.unwrap();
    let renewed = store.node_renew(&node, &report("n"), LONG).await.unwrap();
    assert_eq!(renewed, Renewal::Renewed { drain: false });
}

pub async fn lead_is_held_by_one_and_passes_on(store: &dyn Store) {
    assert_eq!(store.lead("a", LONG).await.unwrap(), Some(1));
    assert_eq!(store.lead("b", LONG).await.unwrap(), None);
    assert_eq!(store.lead("a", LONG).await.unwrap(), Some(1));
    store.lead_end("b").await.unwrap();
    assert_eq!(store.lead("b", LONG).await.unwrap(), None);
    store.lead_end("a").await.unwrap();
    assert_eq!(store.lead("b", LONG).await.unwrap(), Some(2));
    assert_eq!(store.lead("a", LONG).await.unwrap(), None);
}

pub async fn lead_that_ended_passes_on(store: &dyn Store) {
    assert_eq!(store.lead("a", Duration::ZERO).await.unwrap(), Some(1));
    // Nobody took it meanwhile, so it is the same term.
    assert_eq!(store.lead("a", Duration::ZERO).await.unwrap(), Some(1));
    assert_eq!(store.lead("b", LONG).await.unwrap(), Some(2));
    assert_eq!(store.lead("a", LONG).await.unwrap(), None);
}

pub async fn placed_jobs_are_found_by_node_and_by_batch(store: &dyn Store) {
    let (one, two) = (NodeInstance::generate(), NodeInstance::generate());
    let batch = shown(store, (0..4).map(job).collect()).await;
    let other = shown(store, (0..4).map(job).collect()).await;
    place_on(store, &[at(&batch, 2), at(&other, 1)], &one, "x").await;
    place_on(store, &[at(&batch, 0)], &two, "x").await;
    let of_node = store
        .job_placed(&PlacedQuery::Node(one.clone()))
        .await
        .unwrap();
    let jobs: Vec<JobRef> = of_node.iter().map(|placed| placed.held.job).collect();
    assert_eq!(jobs, [at(&batch, 2), at(&other, 1)]);
    assert_eq!(of_node[0].held.attempt, Attempt(1));
    let of_batch = store
        .job_placed(&PlacedQuery::Batch(batch.no))
        .await
        .unwrap();
    let nodes: Vec<&NodeInstance> = of_batch.iter().map(|placed| &placed.node).collect();
    assert_eq!(nodes, [&two, &one]);
    let stored = store
        .job_get(&[at(&batch, 2), at(&batch, 1)])
        .await
        .unwrap();
    assert_eq!(stored[0].clone().unwrap().node, Some(one));
    assert_eq!(stored[1].clone().unwrap().node, None);
    let waiting = store.job_waiting(batch.no).await.unwrap();
    assert_eq!((waiting[0].queued, waiting[0].placed), (2, 2));
}

pub async fn open_batches_come_by_priority_and_age(store: &dyn Store) {
    let old = shown(store, vec![job(0)]).await;
    let urgent = NewBatch {
        priority: Priority::Interactive,
        pinned_node: Some("n".into()),
        ..new_batch(None)
    };
    let urgent = match sealed(store, urgent, vec![job(0)]).await {
        Sealed::Shown(batch) => *batch,
        other => panic!("{other:?}"),
    };
    assert_eq!(urgent.pinned_node.as_deref(), Some("n"));
    let young = shown(store, vec![job(0), job(1)]).await;
    let done = shown(store, vec![job(0)]).await;
    store.batch_cancel(done.no).await.unwrap();
    placed(store, at(&young, 0)).await;
    store.batch_cancel(young.no).await.unwrap();
    let open = store.batch_open().await.unwrap();
    let numbers: Vec<BatchNo> = open.iter().map(|batch| batch.no).collect();
    assert_eq!(numbers, [urgent.no, old.no, young.no]);
    assert_eq!(open[2].status, BatchStatus::Cancelling);
}

pub async fn end_of_a_batch_is_told_until_it_is_heard(store: &dyn Store) {
    let wanted = NewBatch {
        on_done: Some("http://there/hook".into()),
        ..new_batch(None)
    };
    let batch = match sealed(store, wanted, vec![job(0)]).await {
        Sealed::Shown(batch) => *batch,
        other => panic!("{other:?}"),
    };
    assert!(store.batch_untold(9).await.unwrap().is_empty());
    let attempt = placed(store, at(&batch, 0)).await;
    finish(store, at(&batch, 0), attempt, answer("a")).await;
    let untold = store.batch_untold(9).await.unwrap();
    assert_eq!((untold[0].batch.no, untold[0].tries), (batch.no, 0));
    assert_eq!(
        untold[0].batch.on_done.as_deref(),
        Some("http://there/hook")
    );
    store
        .batch_told(batch.no, Some(Duration::ZERO))
        .await
        .unwrap();
    assert_eq!(store.batch_untold(9).await.unwrap()[0].tries, 1);
    store.batch_told(batch.no, Some(LONG)).await.unwrap();
    assert!(store.batch_untold(9).await.unwrap().is_empty());
    store.batch_told(batch.no, None).await.unwrap();
    assert!(store.batch_untold(9).await.unwrap().is_empty());
}
