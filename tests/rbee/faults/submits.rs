//! Submits and exports that are killed.

use std::io::Write;
use std::process::Command;

use rbee_tests::cluster::PATIENCE;
use rbee_tests::fleet::{Fleet, Pace};
use rbee_tests::wait;
use rbee_tests::workload::{Workload, size};

/// The parts of the file after which a submit is killed.
const PARTS: usize = 10;

#[test]
fn faults_submit_killed_at_each_tenth_and_given_again_makes_one_batch() {
    let work = Workload::stub(size(20_000, 2000));
    let mut fleet = Fleet::start(Pace::usual().token_ms(0), &[]);
    let fifo = fleet.cluster.home.path("in.fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo");
    for part in 0..=PARTS {
        let submit = fleet.cluster.rbee(["submit", "in.fifo"]).start();
        let bytes = &work.prompts.as_bytes()[..work.prompts.len() * part / PARTS];
        // Opened once the submit has opened it, and full until it has read nearly all.
        let mut pipe = std::fs::File::options().write(true).open(&fifo).unwrap();
        pipe.write_all(bytes).unwrap();
        if part == PARTS {
            // The end of the file, and the kill while the server loads it.
            drop(pipe);
        }
        submit.kill();
    }
    std::fs::remove_file(&fifo).unwrap();
    let id = fleet.cluster.submit(&work.prompts, &[]);
    assert_eq!(fleet.cluster.submit(&work.prompts, &[]), id);
    wait::until("half batches to go", PATIENCE, || {
        (fleet
            .cluster
            .count("SELECT COUNT(*) FROM batches WHERE visible = 0")
            == 0)
            .then_some(())
    });
    assert_eq!(fleet.cluster.count("SELECT COUNT(*) FROM batches"), 1);
    fleet.node("one");
    fleet.finish(&id, &work);
}

#[test]
fn faults_killed_export_leaves_no_file_or_a_whole_one() {
    let work = Workload::stub(size(20_000, 3000));
    let fleet = Fleet::start(Pace::usual().token_ms(0), &["one"]);
    let id = fleet.cluster.submit(&work.prompts, &[]);
    let out = fleet.cluster.home.path("killed.jsonl");
    let mut absent = 0;
    for part in 0..PARTS as u64 {
        let _ = std::fs::remove_file(&out);
        let export = ["export", &id, "--follow", "-o", "killed.jsonl"];
        let export = fleet.cluster.rbee(export).start();
        fleet
            .cluster
            .until_finished(&id, work.jobs * part / PARTS as u64);
        export.kill();
        match std::fs::read_to_string(&out) {
            Ok(whole) => work.check(&whole),
            Err(_) => absent += 1,
        }
    }
    assert!(absent > 0, "no export was killed in time");
    // What a killed export had begun has a name that the next one does not trip over.
    fleet.cluster.until_done(&id);
    fleet.finish(&id, &work);
}
