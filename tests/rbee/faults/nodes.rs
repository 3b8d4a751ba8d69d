//! Nodes that are killed, stopped and told to go.

use std::time::{Duration, Instant};

use rbee_tests::cluster::PATIENCE;
use rbee_tests::fleet::{Fleet, Pace, Placed};
use rbee_tests::process::signal;
use rbee_tests::random::Random;
use rbee_tests::server::QUICK;
use rbee_tests::workload::{Workload, seed, size};
use rbee_tests::{prompts, wait};
use serde_json::Value as Json;

/// Jobs of a killed node run again within this: the lease, a sweep, and a placement.
const AGAIN_WITHIN: Duration = Duration::from_secs(8);

/// A node with jobs.
struct Busy {
    name: String,
    instance: String,
    held: Vec<Placed>,
}

/// Waits until one of these nodes has jobs, tried in this order. `None`: the batch has ended.
fn busy(fleet: &Fleet, names: &[&str], id: &str) -> Option<Busy> {
    wait::until("jobs on a node", PATIENCE, || {
        for name in names {
            let instance = fleet.instance(name);
            let held = fleet.placed(id, Some(&instance));
            if !held.is_empty() {
                let name = (*name).to_owned();
                return Some(Some(Busy {
                    name,
                    instance,
                    held,
                }));
            }
        }
        let status = format!("SELECT status FROM batches WHERE id = '{id}'");
        (fleet.cluster.sql(&status) == "completed").then_some(None)
    })
}

/// Lets time pass, and looks on.
fn pass(what: &str, time: Duration, mut look: impl FnMut()) {
    let begun = Instant::now();
    wait::until(what, time + PATIENCE, || {
        look();
        (begun.elapsed() >= time).then_some(())
    });
}

#[test]
fn faults_nodes_killed_at_random_cost_no_job_and_blame_none() {
    let mut random = Random::named(seed("kills"), "kills");
    let mut kills = size(50, 4);
    let work = Workload::stub(size(2000, 300));
    let pace = Pace::usual().token_ms(size(20, 12));
    let mut fleet = Fleet::start(pace, &["one", "two"]);
    let mut ids = Vec::new();
    while kills > 0 {
        let id = fleet.cluster.submit(&work.prompts, &["--new"]);
        while kills > 0 {
            let mut names = ["one", "two"];
            random.shuffle(&mut names);
            let Some(busy) = busy(&fleet, &names, &id) else {
                break;
            };
            kill_somehow(&mut fleet, &busy.name, &mut random);
            let took = fleet.until_again(&id, &busy.held);
            assert!(
                took < size(AGAIN_WITHIN, PATIENCE),
                "jobs ran again after {took:?}"
            );
            kills -= 1;
        }
        fleet.cluster.until_done(&id);
        fleet.check(&id, &work);
        ids.push(id);
    }
    fleet.finish(&ids[0], &work);
}

/// Kills a node, all of it or one of its two processes, and sees to it that it comes back.
fn kill_somehow(fleet: &mut Fleet, name: &str, random: &mut Random) {
    match random.below(3) {
        // Its parent starts it again.
        0 => fleet
            .process(name)
            .children()
            .into_iter()
            .for_each(|child| signal("KILL", child)),
        1 => {
            fleet.kill_node(name);
            fleet.start_node(name, &[]);
        }
        // What it started must notice.
        _ => {
            let at = fleet.place_of(name);
            let ended = fleet.nodes.remove(at).process.kill_parent();
            fleet.note(name, &ended);
            fleet.start_node(name, &[]);
        }
    }
}

#[test]
fn faults_node_that_slept_through_three_leases_changes_no_row() {
    let work = Workload::stub(size(2000, 200));
    // Long enough that it is lost once, by the sleep.
    let pace = Pace::usual().lease_s(6).token_ms(20);
    let mut fleet = Fleet::start(pace.clone(), &["one", "two"]);
    let id = fleet.cluster.submit(&work.prompts, &[]);
    let sleeper = busy(&fleet, &["one", "two"], &id).expect("the batch has just begun");
    fleet.process(&sleeper.name).signal_all("STOP");
    pass("three leases", pace.lease * 3, || {});
    let rows = "SELECT batch_no, idx, finish_no, attempt, finished_at_us, record FROM results ORDER BY finish_no";
    let until_now = |rows: &str| fleet.cluster.sql(rows);
    let before = until_now(rows);
    fleet.process(&sleeper.name).signal_all("CONT");
    wait::until("the sleeper to notice", PATIENCE, || {
        let said = fleet.process(&sleeper.name).stderr();
        said.contains("lease_lost").then_some(())
    });
    fleet.cluster.until_done(&id);
    let after = until_now(rows);
    assert!(
        after.starts_with(&before),
        "results that were there have changed"
    );
    // What the sleeper held was taken from it, and its results are those of others.
    for job in sleeper.held {
        let attempt = fleet.cluster.count(&format!(
            "SELECT attempt FROM results WHERE idx = {}",
            job.index
        ));
        assert!(attempt >= job.attempt);
    }
    let said = fleet.process(&sleeper.name).stderr();
    assert_eq!(said.matches("lease_lost").count(), 1, "{said}");
    fleet.check(&id, &work);
    fleet.end();
}

/// Waits until the coordinator has handed out jobs to a node some times: whatever it had begun to do before is done.
fn until_handed_out(fleet: &Fleet, id: &str, to: &str) {
    const TIMES: usize = 3;
    let (mut before, mut times) = (fleet.placed(id, Some(to)), 0);
    let all = format!("SELECT total FROM batches WHERE id = '{id}'");
    let all = fleet.cluster.count(&all);
    wait::until("jobs for the other node", PATIENCE, || {
        let now = fleet.placed(id, Some(to));
        times += usize::from(now.iter().any(|job| !before.contains(job)));
        before = now;
        (times == TIMES || fleet.cluster.finished(id) == all).then_some(())
    });
}

/// Jobs that take minutes where a token takes seconds.
fn long(jobs: usize) -> Workload {
    let lines = prompts::endless(jobs).replace("4000", "200");
    Workload::of(lines, &["--engine", "stub"])
}

/// Asserts that no job counts an attempt as lost by its node.
fn nothing_lost(fleet: &Fleet) {
    let losses = "SELECT COALESCE(SUM(losses), 0) FROM jobs";
    assert_eq!(fleet.cluster.count(losses), 0, "attempts counted as lost");
}

#[test]
fn faults_node_that_is_told_to_go_finishes_what_runs() {
    let work = Workload::stub(size(2000, 80));
    let pace = Pace::usual().lease_s(30).token_ms(size(20, 100));
    let mut fleet = Fleet::start(pace, &["one", "two"]);
    let id = fleet.cluster.submit(&work.prompts, &[]);
    let goes = busy(&fleet, &["one", "two"], &id).expect("the batch has just begun");
    let (name, instance) = (goes.name, goes.instance);
    let stays = match name.as_str() {
        "one" => fleet.instance("two"),
        _ => fleet.instance("one"),
    };
    let at = fleet.place_of(&name);
    let goes = fleet.nodes.remove(at);
    goes.process.terminate();
    wait::until("the node to be known as one that goes", PATIENCE, || {
        let nodes = fleet.cluster.rbee(["nodes", "--json"]).exits(0);
        let ready = |node: Json| node["instance"] == instance.as_str() && node["state"] == "ready";
        let mut lines = nodes.text().lines();
        let is_ready = lines.any(|line| serde_json::from_str(line).is_ok_and(ready));
        (!is_ready).then_some(())
    });
    until_handed_out(&fleet, &id, &stays);
    let held = fleet.placed(&id, Some(&instance));
    let mut process = goes.process;
    wait::until("the node to go", PATIENCE, || {
        let now = fleet.placed(&id, Some(&instance));
        for job in now {
            assert!(held.contains(&job), "{job:?} came after it was to go");
        }
        process.has_ended().then_some(())
    });
    let ended = process.wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    fleet.note(&name, &ended);
    let alive = fleet.cluster.nodes_alive(&name);
    assert_eq!(alive, 0, "its lease is left");
    fleet.cluster.until_done(&id);
    nothing_lost(&fleet);
    fleet.finish(&id, &work);
}

#[test]
fn faults_node_out_of_grace_gives_its_jobs_back_uncounted() {
    let work = long(size(400, 60));
    // A job of this one takes more than six minutes.
    let mut fleet = Fleet::start(Pace::usual().lease_s(30).token_ms(2000), &[]);
    fleet.start_node("goes", &["--grace", "1"]);
    let id = fleet.cluster.submit(&work.prompts, &[]);
    busy(&fleet, &["goes"], &id).expect("its jobs take long");
    fleet.pace.token = Some(Duration::from_millis(1));
    fleet.node("stays");
    let at = fleet.place_of("goes");
    let goes = fleet.nodes.remove(at).process;
    let begun = Instant::now();
    goes.terminate();
    let ended = goes.wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    let took = begun.elapsed();
    assert!(took < QUICK, "it took {took:?}");
    fleet.note("goes", &ended);
    fleet.cluster.until_done(&id);
    nothing_lost(&fleet);
    fleet.finish(&id, &work);
}

#[test]
fn faults_second_signal_ends_a_node_at_once() {
    let work = long(60);
    let mut fleet = Fleet::start(Pace::usual().token_ms(2000), &[]);
    // It would wait for what runs.
    fleet.start_node("goes", &["--grace", "600"]);
    let id = fleet.cluster.submit(&work.prompts, &[]);
    busy(&fleet, &["goes"], &id).expect("its jobs take long");
    fleet.pace.token = Some(Duration::from_millis(1));
    fleet.node("stays");
    let at = fleet.place_of("goes");
    let goes = fleet.nodes.remove(at).process;
    goes.terminate();
    wait::until("the node to have heard", PATIENCE, || {
        goes.stderr().contains("stopping").then_some(())
    });
    let begun = Instant::now();
    goes.terminate();
    let ended = goes.wait();
    let took = begun.elapsed();
    assert!(took < QUICK, "it took {took:?}");
    assert!(ended.code.is_some(), "{ended}");
    fleet.note("goes", &ended);
    fleet.finish(&id, &work);
}
