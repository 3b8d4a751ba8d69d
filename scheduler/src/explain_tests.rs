use super::*;
use crate::testing::{Cluster, LEASE, input, sha, submission};
use rbee_queue::node::{Device, FailedLoad, LoadingModel};
use rbee_queue::{ModelNo, NodeInstance, NodeReport};

fn node(name: &str) -> StoredNode {
    StoredNode {
        instance: NodeInstance::generate(),
        report: NodeReport {
            name: name.into(),
            numerics: "x".into(),
            slots: 1,
            devices: vec![Device {
                name: "cpu".into(),
                memory_bytes: 1_000,
            }],
            ..NodeReport::default()
        },
        lease_left_us: LEASE.as_micros() as i64,
        silent_us: 0,
        joined_at_us: 0,
        lost: false,
        drain_wanted: false,
    }
}

#[tokio::test]
async fn each_reason_to_wait_has_its_sentence() {
    let cluster = Cluster::open().await;
    let batch = cluster.submit(input(3), submission("ann")).await;
    let waits = [JobSummary {
        model: ModelNo(0),
        queued: 2,
        placed: 0,
    }];
    let why = |batch: &Batch, nodes: &[StoredNode]| explain(batch, &waits, nodes).unwrap();
    assert_eq!(explain(&batch, &[], &[]), None);
    assert_eq!(why(&batch, &[]), "no node is alive");
    let mut one = node("one");
    assert!(why(&batch, &[one.clone()]).starts_with("no node has a in memory yet"));

    one.report.failed_loads.push(FailedLoad {
        model: sha("a"),
        code: "out_of_memory".into(),
        message: "it does not fit".into(),
    });
    let failed = why(&batch, &[one.clone()]);
    assert_eq!(failed, "one could not load a: it does not fit");
    one.report.loading.push(LoadingModel {
        model: sha("a"),
        stage: LoadStage::Loading,
        share: 0.6,
    });
    let loading = why(&batch, &[one.clone()]);
    assert_eq!(loading, "a is being loaded on one (60 %)");

    let mut pinned = batch.clone();
    pinned.pinned_node = Some("two".into());
    assert!(why(&pinned, &[one.clone()]).starts_with("node two, to which"));
    let mut numerics = batch.clone();
    numerics.models[0].numerics = Some("y".into());
    assert!(why(&numerics, &[one.clone()]).contains("(numerics y)"));
    let mut paused = batch.clone();
    paused.paused_reason = Some("disk_full".into());
    assert_eq!(why(&paused, &[one.clone()]), "paused: disk_full");

    one.drain_wanted = true;
    assert!(why(&batch, &[one.clone()]).contains("draining"));
    one.lost = true;
    assert_eq!(why(&batch, &[one]), "no node is alive");
}
