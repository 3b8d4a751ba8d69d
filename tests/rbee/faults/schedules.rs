//! Fault 16: two schedulers, three hours down, leaders that die: each tick at most once, and caught up as stated.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rbee_tests::cluster::{Cluster, PATIENCE, ends_well};
use rbee_tests::fleet::{Fleet, Pace};
use rbee_tests::process::{Home, Rbee, binary_with_failpoints};
use rbee_tests::schedules::{check_once, history, in_state, ticks, until_runs};
use rbee_tests::server::{Server, run_alone};
use rbee_tests::workload::size;
use rbee_tests::{prompts, wait};

/// Six fields: every second.
const EVERY_SECOND: &str = "* * * * * *";
/// The variable that arms a failpoint.
const FAILPOINT: &str = "RBEE_FAILPOINT";
const SECOND_US: i64 = 1_000_000;

fn fleet(cluster: Cluster) -> Fleet {
    let mut fleet = Fleet::of(cluster, Pace::usual().token_ms(1));
    fleet.serve();
    fleet.node("one");
    let home = &fleet.cluster.home;
    home.write("nightly.jsonl", prompts::short(4, 2));
    fleet
}

fn schedule(fleet: &Fleet, arguments: &[&str]) -> Rbee {
    let command = [&["schedule"], arguments].concat();
    fleet.cluster.rbee(command)
}

/// Batches that the store has for ticks, hidden ones included, beyond one a tick.
fn batches_too_many(fleet: &Fleet) -> u64 {
    fleet.cluster.count(
        "SELECT COUNT(*) - COUNT(DISTINCT key) FROM (SELECT COALESCE(idempotency_key, wanted_key) AS key \
         FROM batches WHERE COALESCE(idempotency_key, wanted_key) LIKE 'schedule:%') keys",
    )
}

/// Every batch is that of a run, and has all its jobs.
fn check(fleet: &Fleet, name: &str) {
    let speak = |arguments: &[&str]| fleet.cluster.rbee(arguments);
    let runs = history(&speak, name);
    check_once(&runs);
    assert_eq!(batches_too_many(fleet), 0);
    let alone = run_alone(&prompts::short(4, 2));
    let completed = in_state(&runs, "completed");
    for output in completed.iter().filter_map(|run| run["output"].as_str()) {
        assert_eq!(std::fs::read_to_string(output).unwrap(), alone);
    }
    let batches: BTreeSet<&str> = completed
        .iter()
        .filter_map(|run| run["batch"].as_str())
        .collect();
    assert_eq!(batches.len(), completed.len());
    for batch in batches {
        assert_eq!(fleet.cluster.export(batch), alone);
        fleet.cluster.check_rows(batch);
    }
}

/// Waits until every run has ended.
fn settle(fleet: &Fleet, name: &str) {
    schedule(fleet, &["pause", name]).exits(0);
    wait::until("the end of all runs", PATIENCE, || {
        let open =
            "SELECT COUNT(*) FROM schedule_runs WHERE state IN ('waiting', 'loading', 'running')";
        (fleet.cluster.count(open) == 0).then_some(())
    });
}

/// What is started from here on sends itself a signal when a moment comes for the first time; the file is there then.
fn arm(fleet: &mut Fleet, moment: &str, signal: &str) -> PathBuf {
    let spent = fleet.cluster.home.path(&format!("{moment}.spent"));
    let fuse = format!("{moment}:1:{signal}:{}", spent.display());
    fleet.environment.push((FAILPOINT.to_owned(), fuse));
    spent
}

/// What is started from here on has no failpoint.
fn disarm(fleet: &mut Fleet) {
    fleet.environment.retain(|(name, _)| name != FAILPOINT);
}

#[test]
fn faults_two_schedulers_fire_each_tick_once_while_leaders_die() {
    let mut fleet = fleet(Cluster::new());
    fleet.serve();
    schedule(
        &fleet,
        &["add", EVERY_SECOND, "nightly.jsonl", "--overlap", "allow"],
    )
    .exits(0);
    for round in 1..=size(10, 3) {
        let done = "SELECT COUNT(*) FROM schedule_runs WHERE state = 'completed'";
        let before = fleet.cluster.count(done);
        wait::until("more runs", PATIENCE, || {
            (fleet.cluster.count(done) >= before + 3).then_some(())
        });
        // The older of the two leads, or did.
        fleet.kill_server(0);
        fleet.serve();
        assert_eq!(batches_too_many(&fleet), 0, "round {round}");
    }
    settle(&fleet, "nightly");
    check(&fleet, "nightly");
    let speak = |arguments: &[&str]| fleet.cluster.rbee(arguments);
    let runs = history(&speak, "nightly");
    // Where there is a gap, it is said: a leader is found sooner than a tick counts as missed, but on a very slow machine.
    for pair in runs.windows(2) {
        let between = ticks(&pair[..1])[0] - ticks(&pair[1..])[0];
        assert!(
            between == SECOND_US || pair[1]["state"] == "missed",
            "{pair:?}"
        );
    }
    fleet.end();
}

#[test]
fn faults_cluster_that_was_down_for_three_hours_catches_up_as_stated() {
    let mut fleet = fleet(Cluster::new());
    for missed in ["once", "all", "none"] {
        let add = [
            "add",
            "*/10 * * * *",
            "nightly.jsonl",
            "--name",
            missed,
            "--missed",
            missed,
        ];
        schedule(&fleet, &add).exits(0);
    }
    fleet.kill_server(0);
    // The last tick lies five minutes back, whatever the clock says.
    fleet
        .cluster
        .sql("UPDATE schedules SET next_tick_us = (rbee_now_us() / 600000000 - 18) * 600000000");
    fleet.serve();
    fleet.serve();
    let speak = |arguments: &[&str]| fleet.cluster.rbee(arguments);
    let all = until_runs(&speak, "all", "completed", 19);
    check_once(&all);
    assert!((19..=21).contains(&all.len()), "{}", all.len());
    assert_eq!(
        in_state(&all, "skipped").len(),
        0,
        "each of them was asked for"
    );
    let once = until_runs(&speak, "once", "completed", 1);
    assert!(in_state(&once, "completed").len() <= 2, "{once:?}");
    assert_eq!(in_state(&once, "missed").len(), 1);
    let none = until_runs(&speak, "none", "missed", 1);
    assert!(
        in_state(&none, "completed")
            .iter()
            .all(|run| run["cause"] == "tick"),
        "{none:?}"
    );
    for name in ["once", "all", "none"] {
        settle(&fleet, name);
    }
    check(&fleet, "all");
    fleet.end();
}

#[test]
fn faults_leader_killed_at_any_moment_of_a_run_leaves_one_batch() {
    let moments: &[&str] = size(
        &[
            "firing", "fired", "filled", "sealing", "sealed", "noting", "noted",
        ],
        &["fired", "sealed", "noted"],
    );
    for moment in moments {
        let mut cluster = Cluster::new();
        cluster.program = binary_with_failpoints();
        let mut fleet = fleet(cluster);
        fleet.kill_server(0);
        let spent = arm(&mut fleet, moment, "KILL");
        fleet.serve();
        disarm(&mut fleet);
        let add = [
            "add",
            EVERY_SECOND,
            "nightly.jsonl",
            "--output",
            "out-{tick}.jsonl",
        ];
        schedule(&fleet, &add).exits(0);
        wait::until(&format!("the moment {moment}"), PATIENCE, || {
            spent.exists().then_some(())
        });
        fleet.kill_server(0);
        fleet.serve();
        let speak = |arguments: &[&str]| fleet.cluster.rbee(arguments);
        until_runs(&speak, "nightly", "completed", 2);
        settle(&fleet, "nightly");
        check(&fleet, "nightly");
        fleet.end();
    }
}

#[test]
fn faults_leader_that_slept_in_the_middle_of_a_run_makes_no_second_batch() {
    let moments: &[&str] = size(
        &["firing", "fired", "filled", "sealing", "sealed", "noting"],
        &["firing", "sealing"],
    );
    for moment in moments {
        let mut cluster = Cluster::new();
        cluster.program = binary_with_failpoints();
        let mut fleet = fleet(cluster);
        fleet.kill_server(0);
        let spent = arm(&mut fleet, moment, "STOP");
        fleet.serve();
        disarm(&mut fleet);
        let add = ["add", EVERY_SECOND, "nightly.jsonl"];
        schedule(&fleet, &add).exits(0);
        wait::until(&format!("the moment {moment}"), PATIENCE, || {
            spent.exists().then_some(())
        });
        // Another one leads, and takes up what the first has in its hands.
        fleet.serve();
        let speak = |arguments: &[&str]| fleet.cluster.rbee(arguments);
        until_runs(&speak, "nightly", "completed", 2);
        fleet.servers[0].process.signal_all("CONT");
        wait::until("the sleeper to notice", PATIENCE, || {
            let said = fleet.servers[0].process.stderr();
            said.contains("leads no more").then_some(())
        });
        until_runs(&speak, "nightly", "completed", 4);
        settle(&fleet, "nightly");
        check(&fleet, "nightly");
        fleet.end();
    }
}

#[test]
fn faults_embedded_server_killed_again_and_again_fires_each_tick_once() {
    let home = Home::new();
    let prompts = prompts::short(4, 2);
    home.write("nightly.jsonl", &prompts);
    let mut server = Server::start(&home, &[]);
    let add = [
        "schedule",
        "add",
        EVERY_SECOND,
        "nightly.jsonl",
        "--output",
        "out-{tick}.jsonl",
    ];
    server.rbee(&home, add).exits(0);
    for kills in 1..=size(10, 3) {
        let speak = |arguments: &[&str]| server.rbee(&home, arguments);
        until_runs(&speak, "nightly", "completed", 2 * kills);
        server.process.kill();
        server = Server::start(&home, &[]);
    }
    let speak = |arguments: &[&str]| server.rbee(&home, arguments);
    speak(&["schedule", "pause", "nightly"]).exits(0);
    let runs = wait::until("the end of all runs", PATIENCE, || {
        let runs = history(&speak, "nightly");
        let open = |state| in_state(&runs, state).len();
        (open("waiting") + open("loading") + open("running") == 0).then_some(runs)
    });
    check_once(&runs);
    let alone = run_alone(&prompts);
    for run in in_state(&runs, "completed") {
        let output = run["output"].as_str().unwrap();
        assert_eq!(std::fs::read_to_string(output).unwrap(), alone);
    }
    // Every run was ended anew where a kill had cut it off, and took what was left of its file.
    let files = home.files();
    assert!(
        !files.iter().any(|file| file.ends_with(".partial")),
        "{files:?}"
    );
    ends_well(server.process);
}
