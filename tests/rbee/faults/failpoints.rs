//! Processes that die or stop at chosen moments, by a build that has those moments.

use std::path::PathBuf;

use rbee_tests::cluster::{Cluster, PATIENCE};
use rbee_tests::fleet::{Fleet, Pace};
use rbee_tests::process::{binary, binary_with_failpoints};
use rbee_tests::wait;
use rbee_tests::workload::{Workload, size};

/// The variable that arms a failpoint.
const VARIABLE: &str = "RBEE_FAILPOINT";

/// A fleet of the build with failpoints.
fn fleet() -> Fleet {
    let mut cluster = Cluster::new();
    cluster.program = binary_with_failpoints();
    Fleet::of(cluster, Pace::usual().token_ms(5))
}

/// What a moment does when it comes.
struct Fuse {
    moment: &'static str,
    signal: &'static str,
    /// It is there once the moment has come.
    spent: PathBuf,
}

impl Fuse {
    fn new(fleet: &Fleet, moment: &'static str, signal: &'static str) -> Fuse {
        let spent = fleet.cluster.home.path(&format!("{moment}.spent"));
        Fuse {
            moment,
            signal,
            spent,
        }
    }

    /// What is started from here on has it, for the `count`th time.
    fn arm(&self, fleet: &mut Fleet, count: u64) {
        let (moment, signal, spent) = (self.moment, self.signal, self.spent.display());
        let value = format!("{moment}:{count}:{signal}:{spent}");
        fleet.environment.push((VARIABLE.to_owned(), value));
    }

    fn until_spent(&self) {
        let what = format!("the moment {}", self.moment);
        wait::until(&what, PATIENCE, || self.spent.exists().then_some(()));
    }
}

/// What is started from here on has no failpoint.
fn disarm(fleet: &mut Fleet) {
    fleet.environment.retain(|(name, _)| name != VARIABLE);
}

#[test]
fn faults_shipped_binary_has_no_failpoints() {
    let has = |path: PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        (bytes.windows(VARIABLE.len())).any(|word| word == VARIABLE.as_bytes())
    };
    assert!(!has(binary()));
    assert!(has(binary_with_failpoints()));
}

#[test]
fn faults_node_killed_at_any_moment_costs_no_result() {
    let work = Workload::stub(size(2000, 60));
    let mut fleet = fleet();
    fleet.serve();
    fleet.node("other");
    let moments = [
        "joined",
        "claimed",
        "first-token",
        "writing",
        "written",
        "forgotten",
    ];
    let mut last = String::new();
    for (at, moment) in moments.into_iter().enumerate() {
        let fuse = Fuse::new(&fleet, moment, "KILL");
        fuse.arm(
            &mut fleet,
            if moment == "joined" {
                1
            } else {
                1 + at as u64 % 3
            },
        );
        // Its parent starts it again.
        fleet.start_node(moment, &[]);
        disarm(&mut fleet);
        let id = fleet.cluster.submit(&work.prompts, &["--new"]);
        // Whatever goes to the node is placed there alone once the other one is full.
        wait::until("the moment or the end", PATIENCE, || {
            let status = format!("SELECT status FROM batches WHERE id = '{id}'");
            (fuse.spent.exists() || fleet.cluster.sql(&status) == "completed").then_some(())
        });
        fuse.until_spent();
        fleet.cluster.until_done(&id);
        fleet.check(&id, &work);
        last = id;
    }
    fleet.finish(&last, &work);
}

#[test]
fn faults_coordinator_killed_at_any_moment_costs_no_result() {
    let work = Workload::stub(size(2000, 60));
    let mut fleet = fleet();
    fleet.node("one");
    let mut last = String::new();
    let moments: &[&str] = size(
        &[
            "placing", "placed", "pushed", "judged", "rescuing", "released",
        ],
        &["placed", "released"],
    );
    for moment in moments {
        let fuse = Fuse::new(&fleet, moment, "KILL");
        fuse.arm(&mut fleet, 1);
        fleet.serve();
        disarm(&mut fleet);
        let id = fleet.cluster.submit(&work.prompts, &["--new"]);
        if ["judged", "rescuing", "released"].contains(moment) {
            wait::until("jobs on the node", PATIENCE, || {
                (!fleet.placed(&id, None).is_empty()).then_some(())
            });
            fleet.kill_node("one");
            fleet.start_node("one", &[]);
        }
        fuse.until_spent();
        fleet.kill_server(0);
        fleet.serve();
        fleet.cluster.until_done(&id);
        fleet.check(&id, &work);
        last = id;
        fleet.kill_server(0);
    }
    fleet.serve();
    fleet.finish(&last, &work);
}

#[test]
fn faults_submit_whose_coordinator_dies_leaves_nothing_and_succeeds_again() {
    let work = Workload::stub(size(20_000, 60));
    let mut fleet = fleet();
    for moment in ["filled", "sealing", "sealed"] {
        let fuse = Fuse::new(&fleet, moment, "KILL");
        fuse.arm(&mut fleet, 1);
        fleet.serve();
        disarm(&mut fleet);
        fleet.cluster.home.write("in.jsonl", &work.prompts);
        let ended = fleet.cluster.rbee(["submit", "in.jsonl"]).run();
        assert_ne!(ended.code, Some(0), "{ended}");
        assert!(ended.stdout.is_empty(), "{ended}");
        fuse.until_spent();
        fleet.kill_server(0);
    }
    fleet.serve();
    let id = fleet.cluster.submit(&work.prompts, &[]);
    let shown = "SELECT COUNT(*) FROM batches WHERE visible = 1";
    assert_eq!(fleet.cluster.count(shown), 1);
    // Orphans of loads are swept after a quarter of an hour: this test does not wait for that.
    fleet.cluster.sql("DELETE FROM batches WHERE visible = 0");
    fleet.node("one");
    fleet.finish(&id, &work);
}

#[test]
fn faults_rescuer_that_pauses_while_a_job_finishes_changes_nothing_of_it() {
    let work = Workload::stub(60);
    let mut fleet = fleet();
    let rescuing = Fuse::new(&fleet, "rescuing", "STOP");
    rescuing.arm(&mut fleet, 1);
    fleet.serve();
    disarm(&mut fleet);
    // The node stops after it has looked at its lease, with results in its hand.
    let writing = Fuse::new(&fleet, "writing", "STOP");
    writing.arm(&mut fleet, 1);
    fleet.node("late");
    disarm(&mut fleet);
    let id = fleet.cluster.submit(&work.prompts, &[]);
    writing.until_spent();
    rescuing.until_spent();
    let before = fleet.cluster.finished(&id);
    fleet.process("late").signal_all("CONT");
    fleet.cluster.until_finished(&id, before + 1);
    let finished = "SELECT r.idx, r.finish_no, r.attempt, r.finished_at_us, j.state, j.attempt, j.losses \
                    FROM results r JOIN jobs j USING (batch_no, idx) ORDER BY r.idx";
    let before = fleet.cluster.sql(finished);
    fleet.servers[0].process.signal_all("CONT");
    fleet.cluster.until_done(&id);
    let after = fleet.cluster.sql(finished);
    for row in before.lines() {
        assert!(after.lines().any(|now| now == row), "{row} has changed");
    }
    fleet.finish(&id, &work);
}
