//! Coordinators that are killed and stopped.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use rbee_tests::cluster::PATIENCE;
use rbee_tests::fleet::{Fleet, Pace};
use rbee_tests::server::QUICK;
use rbee_tests::wait;
use rbee_tests::workload::{Workload, size};

/// Results come at least so often while leaders die: every ten seconds where there is nothing else to do.
fn longest_gap_us() -> u64 {
    size(10_000_000, 60_000_000)
}

/// How long a leader lives.
const LEADER_LIVES: Duration = Duration::from_secs(5);

/// The place of the coordinator that leads, as it says.
fn leader(fleet: &Fleet) -> usize {
    wait::until("a leader", PATIENCE, || {
        fleet.servers.iter().position(|server| {
            let said = server.process.stderr();
            let ends = said.matches("this process leads no more").count();
            said.matches("this process leads").count() > 2 * ends
        })
    })
}

#[test]
fn faults_leader_killed_again_and_again_stops_nothing_for_long() {
    let kills = size(12, 1);
    let work = Workload::stub(size(2000, 250));
    // The batch outlives all kills.
    let token_ms = size(40, 25);
    let mut fleet = Fleet::start(Pace::usual().lease_s(30).token_ms(token_ms), &[]);
    fleet.serve();
    fleet.node("one");
    fleet.node("two");
    let id = fleet.cluster.submit(&work.prompts, &[]);
    for _ in 0..kills {
        let begun = Instant::now();
        let led = leader(&fleet);
        wait::until("the leader's time", PATIENCE, || {
            (begun.elapsed() >= LEADER_LIVES / size(1, 5)).then_some(())
        });
        fleet.kill_server(led);
        fleet.serve();
    }
    fleet.cluster.until_done(&id);
    let twice = "SELECT COUNT(*) FROM jobs WHERE attempt <> 1";
    assert_eq!(fleet.cluster.count(twice), 0, "jobs that were placed twice");
    let gap = "SELECT MAX(gap) FROM (SELECT finished_at_us - LAG(finished_at_us) OVER \
               (ORDER BY finished_at_us) AS gap FROM results) gaps";
    let gap = fleet.cluster.count(gap);
    assert!(gap < longest_gap_us(), "no result for {gap} µs");
    fleet.finish(&id, &work);
}

#[test]
fn faults_coordinator_that_is_told_to_go_hands_the_lead_over() {
    let work = Workload::stub(size(2000, 250));
    let mut fleet = Fleet::start(Pace::usual().lease_s(30).token_ms(10), &[]);
    fleet.serve();
    fleet.node("one");
    let id = fleet.cluster.submit(&work.prompts, &[]);
    fleet.cluster.until_finished(&id, 10);
    let first = fleet.servers.remove(leader(&fleet));
    fleet.speak_to(0);
    first.process.terminate();
    let ended = first.process.wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    fleet.note("coordinator", &ended);
    leader(&fleet);
    fleet.cluster.until_done(&id);
    let twice = "SELECT COUNT(*) FROM jobs WHERE attempt <> 1";
    assert_eq!(fleet.cluster.count(twice), 0, "jobs that were placed twice");
    fleet.finish(&id, &work);
}

#[test]
fn faults_second_signal_ends_a_coordinator_at_once() {
    let work = Workload::stub(100);
    let mut fleet = Fleet::start(Pace::usual(), &["one"]);
    // An upload that goes on for ever: the first signal waits for it.
    let endless = fleet.cluster.home.path("endless");
    let made = Command::new("mkfifo").arg(&endless).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo");
    let submit = fleet.cluster.rbee(["submit", "endless"]).start();
    let mut pipe = std::fs::File::options().write(true).open(&endless).unwrap();
    pipe.write_all(work.prompts.as_bytes()).unwrap();
    let spool = fleet.cluster.home.path(".local/share/rbee/spool");
    wait::until("the upload", PATIENCE, || spool.exists().then_some(()));
    let first = fleet.servers.remove(0);
    first.process.terminate();
    wait::until("the coordinator to have heard", PATIENCE, || {
        first.process.stderr().contains("stopping").then_some(())
    });
    let begun = Instant::now();
    first.process.terminate();
    let ended = first.process.wait();
    // The upload would hold it up for ever.
    assert!(begun.elapsed() < QUICK, "{ended}");
    fleet.note("coordinator", &ended);
    drop(pipe);
    assert_ne!(submit.wait().code, Some(0));
    fleet.serve();
    let id = fleet.cluster.submit(&work.prompts, &[]);
    fleet.finish(&id, &work);
}
