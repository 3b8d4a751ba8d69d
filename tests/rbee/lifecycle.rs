//! What becomes of a batch besides being answered: cancelled, retried, paused, purged; alone and in a cluster.

use rbee_tests::cluster::{Cluster, PATIENCE, ends_well};
use rbee_tests::process::Home;
use rbee_tests::server::{QUICK, Server, run_alone};
use rbee_tests::{prompts, wait};
use serde_json::Value as Json;
use std::time::Instant;

const JOBS: usize = 200;
/// A token takes so long that all jobs take a quarter of a minute: longer than some commands on a busy machine.
const SLOW: [&str; 4] = ["--stub-token-us", "25000", "--slots", "4"];
/// A token takes so long that no endless job ends while a test runs, and a step is soon over.
const ENDLESS: [&str; 4] = ["--stub-token-us", "200000", "--slots", "2"];

/// Prompts with a line in the middle that is none.
fn with_bad_line(prompts: &str) -> String {
    let mut lines: Vec<&str> = prompts.lines().collect();
    lines.insert(lines.len() / 2, "oops");
    lines.join("\n")
}

fn lines(text: &str) -> Vec<Json> {
    let line = |line: &str| serde_json::from_str(line).expect("a result is JSON");
    text.lines().map(line).collect()
}

#[test]
fn cancelled_batch_ends_soon_and_its_export_has_every_line() {
    let home = Home::new();
    let server = Server::start(&home, &ENDLESS);
    let id = server.submit(&home, &with_bad_line(&prompts::endless(40)), &[]);
    server.until_running(&home, 2);
    let began = Instant::now();
    server.rbee(&home, ["cancel", &id]).exits(0);
    let done = server.until(&home, &id, "cancelled");
    assert!(began.elapsed() < QUICK, "{:?}", began.elapsed());
    assert_eq!(done["request_counts"]["total"], 41);
    assert_eq!(done["request_counts"]["failed"], 41);
    let exported = lines(&server.export(&home, &id));
    assert_eq!(exported.len(), 41);
    for (at, line) in exported.iter().enumerate() {
        let code = if at == 20 {
            "invalid_json"
        } else {
            "cancelled"
        };
        assert_eq!(line["error"]["code"], code, "{line}");
    }
    // The slots are free again.
    server.until_running(&home, 0);
    let again = server.rbee(&home, ["cancel", &id]).exits(2);
    again.says("nothing to cancel");
    ends_well(server.process);
}

#[test]
fn retried_batch_runs_its_failures_again_and_is_whole_in_between_and_after() {
    let prompts = with_bad_line(&prompts::short(JOBS, 12));
    let right = run_alone(&prompts);
    let home = Home::new();
    let server = Server::start(&home, &SLOW);
    let id = server.submit(&home, &prompts, &[]);
    server.until_finished(&home, &id, 20);
    server.rbee(&home, ["cancel", &id]).exits(0);
    let cancelled = server.until(&home, &id, "cancelled");
    let answered = cancelled["request_counts"]["completed"].as_u64().unwrap();
    assert!((1..JOBS as u64).contains(&answered), "{cancelled}");
    server.rbee(&home, ["retry", &id]).exits(2);
    let retried = server.rbee(&home, ["retry", &id, "--failed", "--json"]);
    let retried = retried.exits(0).json();
    assert_eq!(retried["retried"], JOBS as u64 - answered);
    assert_eq!(retried["status"], "in_progress");
    assert_eq!(retried["request_counts"]["failed"], 1);
    // What runs again has no result meanwhile: neither the old error nor a gap that nobody tells of.
    let partial = server.rbee(&home, ["export", &id]).exits(3);
    assert!(!partial.text().contains("cancelled"), "{partial}");
    let done = server.until(&home, &id, "completed");
    assert_eq!(done["request_counts"]["completed"], JOBS);
    assert_eq!(done["request_counts"]["failed"], 1);
    assert!(server.export(&home, &id) == right);
    let nothing = server.rbee(&home, ["retry", &id, "--failed"]).exits(0);
    nothing.says("no retry changes");
    assert_eq!(server.status(&home, &id)["status"], "completed");
    ends_well(server.process);
}

#[test]
fn paused_batch_waits_until_it_is_resumed() {
    let prompts = prompts::short(JOBS, 12);
    let home = Home::new();
    let server = Server::start(&home, &SLOW);
    let id = server.submit(&home, &prompts, &[]);
    server.until_finished(&home, &id, 10);
    let pause = ["pause", &id, "--reason", "lunch"];
    server.rbee(&home, pause).exits(0);
    let told = server.rbee(&home, ["status", &id]).exits(0);
    assert!(told.text().contains("lunch"), "{told}");
    assert_eq!(server.status(&home, &id)["paused_reason"], "lunch");
    // What runs finishes. Then this batch stands still for as long as another one takes, which is not held up.
    wait::until("the batch to stand still", PATIENCE, || {
        let before = server.finished(&home, &id);
        let other = server.submit(&home, &prompts::short(20, 4), &["--new"]);
        server.until(&home, &other, "completed");
        (server.finished(&home, &id) == before).then_some(())
    });
    assert!(server.finished(&home, &id) < JOBS as u64);
    server.rbee(&home, ["resume", &id]).exits(0);
    server.until(&home, &id, "completed");
    assert!(server.export(&home, &id) == run_alone(&prompts));
    let late = server.rbee(&home, ["pause", &id]).exits(2);
    late.says("nothing to pause");
    ends_well(server.process);
}

#[test]
fn purge_shows_what_would_go_and_spares_what_runs() {
    let home = Home::new();
    let server = Server::start(&home, &ENDLESS);
    let running = server.submit(&home, &prompts::endless(4), &["--new"]);
    let cancelled = server.submit(&home, &prompts::endless(3), &["--new"]);
    server.rbee(&home, ["cancel", &cancelled]).exits(0);
    server.until(&home, &cancelled, "cancelled");
    let old = ["purge", "--older-than", "0s"];
    let shown = server.rbee(&home, old.iter().chain(&["--dry-run", "--json"]));
    assert_eq!(shown.exits(0).json()["id"], cancelled.as_str());
    let unsure = server.rbee(&home, old).exits(2);
    unsure.says("--yes");
    assert!(unsure.text().contains(&cancelled), "{unsure}");
    let both = ["purge", &cancelled, &running, "--yes"];
    server.rbee(&home, both).exits(2).says("cancel it first");
    server.status(&home, &cancelled);
    server.rbee(&home, ["purge", &cancelled, "--yes"]).exits(0);
    assert_eq!(
        server.rbee(&home, ["status", &cancelled]).run().code,
        Some(2)
    );
    // The same beside the server, on its store.
    home.rbee(both).exits(2);
    home.rbee(["purge", &running, "--yes"])
        .exits(2)
        .says("cancel it first");
    server.rbee(&home, ["cancel", &running]).exits(0);
    server.until(&home, &running, "cancelled");
    home.rbee(["purge", "--older-than", "1h", "--yes"])
        .exits(0)
        .says("nothing goes");
    home.rbee(old.iter().chain(&["--yes"])).exits(0);
    assert_eq!(home.rbee(["list", "--json"]).exits(0).text(), "");
    home.rbee(["purge"]).exits(2);
    ends_well(server.process);
}

#[test]
fn interrupted_run_can_be_purged() {
    let home = Home::new();
    home.write("in.jsonl", prompts::endless(4));
    let flags = ["run", "in.jsonl", "-o", "out.jsonl", "--engine", "stub"];
    let running = home.rbee(flags.iter().chain(&ENDLESS)).start();
    wait::until("the run's batch", PATIENCE, || {
        let listed = home.rbee(["list", "--json"]).exits(0);
        (!listed.text().is_empty()).then_some(())
    });
    home.rbee(["purge", "last", "--yes"])
        .exits(2)
        .says("nothing was deleted");
    running.kill();
    home.rbee(["purge", "last", "--yes"]).exits(0);
    assert_eq!(home.rbee(["list", "--json"]).exits(0).text(), "");
}

#[test]
fn server_deletes_finished_batches_when_their_time_is_over() {
    let home = Home::new();
    let server = Server::start(&home, &["--keep", "1s"]);
    let id = server.submit(&home, &prompts::short(3, 4), &[]);
    wait::until("the end of the batch's time", PATIENCE, || {
        let status = server.rbee(&home, ["status", &id]).run();
        (status.code == Some(2)).then_some(())
    });
    ends_well(server.process);
    for wrong in ["30", "long"] {
        home.rbee(["serve", "--keep", wrong]).exits(2);
    }
}

#[test]
fn commands_that_want_a_server_say_where_they_looked() {
    let home = Home::new();
    home.write("in.jsonl", prompts::short(1, 1));
    // Nothing listens there.
    let dead = "http://127.0.0.1:9";
    let commands: [&[&str]; 13] = [
        &["submit", "in.jsonl"],
        &["cancel", "last"],
        &["retry", "last", "--failed"],
        &["pause", "last"],
        &["resume", "last"],
        &["nodes"],
        &["logs"],
        &["list"],
        &["status", "last"],
        &["export", "last"],
        &["verify", "last"],
        &["purge", "last"],
        &["purge", "--older-than", "1d"],
    ];
    for command in commands {
        let ended = home.rbee(command).env("RBEE_SERVER", dead).exits(4);
        ended.says("127.0.0.1:9").says("rbee serve");
        assert!(ended.stdout.is_empty(), "{ended}");
    }
}

#[test]
fn cluster_cancels_retries_and_exports_whole() {
    let prompts = with_bad_line(&prompts::short(JOBS, 12));
    let mut cluster = Cluster::new();
    let coordinator = cluster.serve(&["--engine", "stub"]);
    let node = cluster.worker("one", &[&["--engine", "stub"], &SLOW[..]].concat());
    let id = cluster.submit(&prompts, &[]);
    cluster.until_finished(&id, 10);
    cluster.rbee(["cancel", &id]).exits(0);
    cluster.until_done(&id);
    cluster.check_rows(&id);
    assert_eq!(cluster.status(&id)["status"], "cancelled");
    assert_eq!(lines(&cluster.export(&id)).len(), JOBS + 1);
    cluster.rbee(["retry", &id, "--failed"]).exits(0);
    cluster.until_done(&id);
    cluster.check_rows(&id);
    assert_eq!(cluster.status(&id)["status"], "completed");
    let log = cluster.rbee(["logs", "--node", "one"]).exits(0);
    assert!(!log.text().is_empty());
    cluster.rbee(["purge", &id, "--yes"]).exits(0);
    assert_eq!(cluster.count("SELECT COUNT(*) FROM jobs"), 0);
    assert_eq!(cluster.count("SELECT COUNT(*) FROM payloads"), 0);
    ends_well(node);
    ends_well(coordinator.process);
}
