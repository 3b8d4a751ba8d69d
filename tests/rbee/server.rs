//! `rbee serve` on one machine: a whole installation in one process, that may be killed at any moment.

use rbee_test_services::{Postgres, Redis};
use rbee_tests::cluster::{PATIENCE, TOKEN, ends_well};
use rbee_tests::process::{Home, signal};
use rbee_tests::random::Random;
use rbee_tests::server::{QUICK, Server, command, run_alone};
use rbee_tests::{prompts, wait};
use serde_json::Value as Json;
use std::time::Instant;

const JOBS: usize = 200;
/// A token takes so long that all jobs take some seconds.
const SLOW: [&str; 4] = ["--stub-token-us", "3000", "--slots", "4"];
/// A token takes so long that no endless job ends while a test runs.
const ENDLESS: [&str; 4] = ["--stub-token-us", "500000", "--slots", "2"];

#[test]
fn server_alone_does_all_that_a_cluster_does() {
    let prompts = prompts::varied(60, 8);
    let right = run_alone(&prompts);
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let id = server.submit(&home, &prompts, &["--name", "first"]);
    let done = server.until(&home, &id, "completed");
    assert_eq!(done["request_counts"]["completed"], 60);
    assert_eq!(server.export(&home, &id), right);
    let listed = server.rbee(&home, ["list", "--json"]).exits(0).json();
    assert_eq!(
        (&listed["id"], &listed["name"]),
        (&done["id"], &done["name"])
    );
    let nodes: Json = server.rbee(&home, ["nodes", "--json"]).exits(0).json();
    assert_eq!(nodes["report"]["name"], "local");
    for log in [
        vec!["logs"],
        vec!["logs", "--node", "local", "--lines", "5"],
    ] {
        let log = server.rbee(&home, log).exits(0);
        assert!(log.text().contains("INFO"), "{log}");
    }
    let absent = server.rbee(&home, ["logs", "--node", "nobody"]).run();
    assert_eq!(absent.code, Some(2), "{absent}");
    let verified = server.rbee(&home, ["verify", &id, "--sample", "100%", "--json"]);
    let verified = verified.exits(0).json();
    assert_eq!(
        (&verified["same"], &verified["different"]),
        (&60.into(), &0.into())
    );
    // The same submit again is the same batch.
    assert_eq!(server.submit(&home, &prompts, &["--name", "first"]), id);
    ends_well(server.process);
    // Without a server the store is read directly.
    let direct = home.rbee(["status", &id, "--json"]).exits(0).json();
    assert_eq!(direct["status"], "completed");
    assert_eq!(home.rbee(["export", &id]).exits(0).text(), right);
}

#[test]
fn killed_server_goes_on_where_it_was_and_gives_the_same_bytes() {
    let prompts = prompts::short(JOBS, 12);
    let right = run_alone(&prompts);
    let home = Home::new();
    let mut random = Random::new(3);
    let mut server = Server::start(&home, &SLOW);
    let id = server.submit(&home, &prompts, &[]);
    let mut before = 0;
    for _ in 0..4 {
        server.until_finished(
            &home,
            &id,
            (before + 1 + random.below(30) as u64).min(JOBS as u64),
        );
        server.process.kill();
        server = Server::start(&home, &SLOW);
        let now = server.finished(&home, &id);
        assert!(now >= before, "{now} jobs are finished where {before} were");
        before = now;
    }
    server.until(&home, &id, "completed");
    assert_eq!(server.export(&home, &id), right);
    ends_well(server.process);
}

#[test]
fn second_server_on_one_store_is_refused_and_says_so() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let second = command(&home, &[]).exits(1);
    second.says("another `rbee serve` runs on");
    server.process.kill();
    ends_well(Server::start(&home, &[]).process);
}

#[test]
fn server_and_run_share_a_store_and_neither_touches_the_others_batch() {
    let (submitted, run) = (prompts::short(JOBS, 12), prompts::short(JOBS + 1, 12));
    let home = Home::new();
    let server = Server::start(&home, &SLOW);
    let id = server.submit(&home, &submitted, &[]);
    home.write("run.jsonl", &run);
    let flags = [
        "run",
        "run.jsonl",
        "-o",
        "run.out.jsonl",
        "--engine",
        "stub",
        "--slots",
        "4",
        // It goes on while commands are refused.
        "--stub-token-us",
        "30000",
    ];
    let running = home.rbee(flags).start();
    let of_run = wait::until("the run's batch", PATIENCE, || {
        let listed = server.rbee(&home, ["list", "--json"]).exits(0);
        let lines: Vec<Json> = (listed.text().lines())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let other = lines.into_iter().find(|batch| batch["id"] != id.as_str())?;
        Some(other["id"].as_str()?.to_owned())
    });
    for verb in [vec!["cancel", &of_run], vec!["purge", &of_run, "--yes"]] {
        let refused = server.rbee(&home, &verb).run();
        assert_eq!(refused.code, Some(2), "{verb:?}: {refused}");
    }
    let purge = home.rbee(["purge", &of_run, "--yes"]).exits(2);
    purge.says("cancel it first");
    let ended = running.wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    server.until(&home, &id, "completed");
    assert!(home.read("run.out.jsonl") == run_alone(&run));
    assert!(server.export(&home, &id) == run_alone(&submitted));
    ends_well(server.process);
}

#[test]
fn stopped_server_gives_running_jobs_back_within_its_grace_time() {
    let prompts = prompts::short(6, 12);
    let home = Home::new();
    let server = Server::start(&home, &[&ENDLESS[..], &["--grace", "1"]].concat());
    let id = server.submit(&home, &prompts, &[]);
    server.until_running(&home, 2);
    let began = Instant::now();
    ends_well(server.process);
    assert!(began.elapsed() < QUICK, "{:?}", began.elapsed());
    let status = home.rbee(["status", &id, "--json"]).exits(0).json();
    assert_eq!(status["status"], "in_progress");
    let server = Server::start(&home, &[]);
    server.until(&home, &id, "completed");
    assert_eq!(server.export(&home, &id), run_alone(&prompts));
    ends_well(server.process);
}

#[test]
fn second_signal_ends_the_server_at_once() {
    let home = Home::new();
    let mut server = Server::start(&home, &[&ENDLESS[..], &["--grace", "600"]].concat());
    server.submit(&home, &prompts::endless(6), &[]);
    server.until_running(&home, 2);
    server.process.terminate();
    wait::until("the server to say that it stops", PATIENCE, || {
        server.process.stderr().contains("stopping").then_some(())
    });
    assert!(!server.process.has_ended());
    let began = Instant::now();
    server.process.interrupt();
    let ended = server.process.wait();
    assert_eq!(ended.code, Some(130), "{ended}");
    assert!(began.elapsed() < QUICK, "{:?}", began.elapsed());
}

#[test]
fn job_that_brings_the_server_down_alone_three_times_fails_alone() {
    let home = Home::new();
    let mut server = Server::start(&home, &ENDLESS);
    let id = server.submit(&home, &prompts::endless(1), &[]);
    let mut gone = Vec::new();
    for crash in 1..=3 {
        gone.push(server.until_running_anew(&home, 1, &gone));
        let [child] = server.process.children()[..] else {
            panic!("the server has one child");
        };
        signal("ABRT", child);
        // Port 0 is another port for each child.
        server.url = wait::until("the next child's address", PATIENCE, || {
            let said = server.process.stderr();
            let mut addresses = said.split("listening on ").skip(1 + crash);
            let (address, _) = addresses.next()?.split_once('\n')?;
            Some(address.trim().to_owned())
        });
    }
    let done = server.until(&home, &id, "completed");
    assert_eq!(done["errors"][0]["code"], "worker_crashed", "{done}");
    ends_well(server.process);
}

#[test]
fn postgres_alone_is_one_server_that_computes() {
    let postgres = Postgres::with(&["-c", "fsync=off"]);
    let prompts = prompts::short(JOBS, 12);
    let home = Home::new();
    let database = postgres.database();
    let start = || {
        let serve = command(&home, &SLOW).env("RBEE_DATABASE_URL", &database);
        Server::started(serve)
    };
    let server = start();
    let id = server.submit(&home, &prompts, &[]);
    server.until_finished(&home, &id, 10);
    server.process.kill();
    let server = start();
    server.until(&home, &id, "completed");
    assert_eq!(server.export(&home, &id), run_alone(&prompts));
    ends_well(server.process);
}

#[test]
fn redis_alone_is_refused() {
    let redis = Redis::start();
    let home = Home::new();
    for command in ["serve", "worker"] {
        let refused = home.rbee([command]).env("RBEE_REDIS_URL", redis.url());
        let refused = refused.env("RBEE_API_TOKEN", TOKEN).exits(2);
        refused.says("a cluster needs both");
    }
    let worker = home.rbee(["worker"]).exits(2);
    worker.says("RBEE_DATABASE_URL and RBEE_REDIS_URL");
}
