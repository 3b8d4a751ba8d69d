//! Submits, exports and watchers that are killed, of a cluster and of a server alone.

use std::io::Write;
use std::process::Command;

use rbee_tests::alone::Alone;
use rbee_tests::cluster::PATIENCE;
use rbee_tests::fleet::{Fleet, Pace};
use rbee_tests::process::{Home, Rbee};
use rbee_tests::wait;
use rbee_tests::workload::{Workload, size};

/// The parts of the file after which a submit is killed.
const PARTS: usize = 10;

/// Kills a submit after each tenth of the file, and while the server loads the whole of it.
fn kill_submits(home: &Home, work: &Workload, rbee: &dyn Fn(&[&str]) -> Rbee) {
    let fifo = home.path("in.fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo");
    for part in 0..=PARTS {
        let submit = rbee(&["submit", "in.fifo"]).start();
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
}

/// Kills an export and two watchers at each tenth of a batch that runs.
fn kill_readers(
    home: &Home,
    work: &Workload,
    id: &str,
    rbee: &dyn Fn(&[&str]) -> Rbee,
    until_finished: &dyn Fn(u64),
) {
    let out = home.path("killed.jsonl");
    let mut absent = 0;
    for part in 0..PARTS as u64 {
        let _ = std::fs::remove_file(&out);
        let export = rbee(&["export", id, "--follow", "-o", "killed.jsonl"]).start();
        let watchers = [&["watch", id][..], &["watch", id, "--all"]];
        let watchers = watchers.map(|watch| rbee(watch).start());
        until_finished(work.jobs * part / PARTS as u64);
        export.kill();
        for watcher in watchers {
            watcher.kill();
        }
        match std::fs::read_to_string(&out) {
            Ok(whole) => work.check(&whole),
            Err(_) => absent += 1,
        }
    }
    assert!(absent > 0, "no export was killed in time");
}

#[test]
fn faults_submit_killed_at_each_tenth_and_given_again_makes_one_batch() {
    let work = Workload::stub(size(20_000, 2000));
    let mut fleet = Fleet::start(Pace::usual().token_ms(0), &[]);
    let cluster = &fleet.cluster;
    kill_submits(&cluster.home, &work, &|words| cluster.rbee(words));
    let id = cluster.submit(&work.prompts, &[]);
    assert_eq!(cluster.submit(&work.prompts, &[]), id);
    wait::until("half batches to go", PATIENCE, || {
        let half = cluster.count("SELECT COUNT(*) FROM batches WHERE visible = 0");
        (half == 0).then_some(())
    });
    assert_eq!(cluster.count("SELECT COUNT(*) FROM batches"), 1);
    fleet.node("one");
    fleet.finish(&id, &work);
}

#[test]
fn faults_submit_to_a_server_alone_killed_and_given_again_makes_one_batch() {
    let work = Workload::stub(size(20_000, 2000));
    let mut alone = Alone::new(0);
    alone.start();
    kill_submits(&alone.home, &work, &|words| alone.rbee(words));
    let id = alone.submit(&work);
    assert_eq!(alone.submit(&work), id);
    let list = alone.rbee(&["list", "--json"]).exits(0);
    assert_eq!(list.text().lines().count(), 1, "{list}");
    alone.finish(&id, &work);
}

#[test]
fn faults_killed_export_leaves_no_file_or_a_whole_one() {
    let work = Workload::stub(size(20_000, 3000));
    let fleet = Fleet::start(Pace::usual().token_ms(0), &["one"]);
    let cluster = &fleet.cluster;
    let id = cluster.submit(&work.prompts, &[]);
    let rbee = |words: &[&str]| cluster.rbee(words);
    let until = |jobs| cluster.until_finished(&id, jobs);
    kill_readers(&cluster.home, &work, &id, &rbee, &until);
    // What a killed export had begun has a name that the next one does not trip over.
    fleet.finish(&id, &work);
}

#[test]
fn faults_readers_of_a_server_alone_that_are_killed_change_nothing() {
    let work = Workload::stub(size(20_000, 2000));
    let mut alone = Alone::new(size(500, 2000));
    alone.start();
    let id = alone.submit(&work);
    let rbee = |words: &[&str]| alone.rbee(words);
    let until = |jobs| alone.until_finished(&id, jobs);
    kill_readers(&alone.home, &work, &id, &rbee, &until);
    alone.finish(&id, &work);
}
