//! A disk without room under the results or under a node's model files: said, waited for, and gone on with.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use candle_core::quantized::GgmlDType;
use rbee_tests::cluster::{Cluster, PATIENCE, TOKEN};
use rbee_tests::fleet::{Fleet, Pace};
use rbee_tests::loaded::OnDisk;
use rbee_tests::process::Home;
use rbee_tests::prompts;
use rbee_tests::small_disk::SmallDisk;
use rbee_tests::spec::ModelSpec;
use rbee_tests::to_gguf::BlockTypes;
use rbee_tests::wait;
use rbee_tests::workload::{Workload, size};

/// Has the results go to a table space on a disk with little room. `None` where mounting is refused.
fn little_room(fleet: &Fleet, folder: &tempfile::TempDir) -> Option<SmallDisk> {
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let place = folder.path().join("small");
    let disk = SmallDisk::mount(&place, "64k")?;
    // Whoever may mount is root, and Postgres then runs as its own user.
    let given = Command::new("chown").arg("postgres").arg(&place).status();
    assert!(given.unwrap().success());
    let place = place.display();
    (fleet.cluster).sql(&format!("CREATE TABLESPACE small LOCATION '{place}'"));
    (fleet.cluster).sql("ALTER TABLE results SET TABLESPACE small");
    Some(disk)
}

#[test]
fn faults_full_disk_under_postgres_pauses_the_batch_until_there_is_room() {
    let work = Workload::stub(size(2000, 400));
    let fleet = Fleet::start(Pace::usual().lease_s(30).token_ms(2), &["one", "two"]);
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = little_room(&fleet, &folder) else {
        // Without a disk of its own there is no way to fill one: the store's unit tests have the error.
        println!("mounting is refused here: a full disk under Postgres was not tried");
        return;
    };
    let id = fleet.cluster.submit(&work.prompts, &[]);
    for node in ["one", "two"] {
        wait::until("the node to name it", PATIENCE, || {
            let said = fleet.process(node).stderr();
            (said.contains("results wait for the store") && said.contains("is full")).then_some(())
        });
    }
    wait::until("the batch to say why it waits", PATIENCE, || {
        let status = fleet.cluster.status(&id).to_string();
        status.contains("results cannot be stored").then_some(())
    });
    let before = fleet.cluster.finished(&id);
    assert!(before < work.jobs);
    disk.grow("64m");
    fleet.cluster.until_done(&id);
    let losses = "SELECT COALESCE(SUM(losses), 0) FROM jobs";
    assert_eq!(fleet.cluster.count(losses), 0, "attempts counted as lost");
    fleet.finish(&id, &work);
    drop(disk);
}

#[test]
fn faults_full_disk_under_a_nodes_models_pauses_the_batch_until_there_is_room() {
    let model = OnDisk::new(&ModelSpec::llama3(), BlockTypes::All(GgmlDType::Q8_0));
    // The client's own file, in a folder that no node sees.
    let own = Home::new();
    std::fs::copy(&model.path, own.path("own.gguf")).unwrap();
    let jobs = size(200, 20);
    let prompts = prompts::short(jobs, 8);
    own.write("in.jsonl", &prompts);
    let flags = ["in.jsonl", "--model", "./own.gguf"];
    let run = ["run", "-o", "out.jsonl"].iter().chain(&flags);
    own.rbee(run).exits(0);
    let work = Workload {
        jobs: jobs as u64,
        right: own.read("out.jsonl"),
        prompts,
    };
    let mut fleet = Fleet::of(Cluster::new(), Pace::usual().real());
    let data = fleet.cluster.home.path("node");
    let Some(disk) = SmallDisk::mount(&data, "256k") else {
        // Without a disk of its own there is no way to fill one: `rbee models pull` has the same with a limit.
        println!("mounting is refused here: a full disk under a node's models was not tried");
        return;
    };
    fleet.serve();
    fleet.start_node("one", &["--data-dir", "node"]);
    let submit = own.rbee(["submit"].iter().chain(&flags));
    let submit = submit.env("RBEE_SERVER", &fleet.cluster.url);
    let id = submit.env("RBEE_API_TOKEN", TOKEN).exits(0);
    let id = id.text().trim().to_owned();
    wait::until("the batch to say why it waits", PATIENCE, || {
        let status = fleet.cluster.status(&id);
        let waiting = status["waiting"].as_str()?.to_owned();
        (waiting.contains("one could not load") && waiting.contains("not enough room"))
            .then_some(())
    });
    assert_eq!(
        fleet.cluster.finished(&id),
        0,
        "nothing fails for want of room"
    );
    disk.grow("256m");
    fleet.finish(&id, &work);
    drop(disk);
}
