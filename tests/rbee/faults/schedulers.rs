//! Coordinators that are killed and stopped.

use std::time::{Duration, Instant};

use rbee_tests::cluster::PATIENCE;
use rbee_tests::fleet::{Fleet, Pace};
use rbee_tests::wait;
use rbee_tests::workload::{Workload, size};

/// Results come at least so often while leaders die.
const LONGEST_GAP_US: u64 = 10_000_000;
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
    let mut fleet = Fleet::start(Pace::usual().token_ms(token_ms), &[]);
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
    assert!(gap < LONGEST_GAP_US, "no result for {gap} µs");
    fleet.finish(&id, &work);
}
