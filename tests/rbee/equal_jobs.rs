//! Equal jobs whose answer is determined: computed once, stored for each, and no byte is another one for it.

use std::time::{Duration, Instant};

use rbee_tests::cluster::Cluster;
use rbee_tests::process::{Home, Rbee};
use rbee_tests::random::Random;
use rbee_tests::run::finished;
use rbee_tests::server::Server;
use rbee_tests::workload::seed;
use rbee_tests::{prompts, wait};
use serde_json::{Value as Json, json};

const PATIENCE: Duration = Duration::from_secs(180);

/// Lines of few different jobs, greedy, seeded and neither, with and without ids, good and bad.
fn lines(random: &mut Random, count: usize) -> String {
    let line = |random: &mut Random, at: usize| -> Json {
        let prompt = format!("say {}", random.below(6));
        let mut line = json!({"prompt": prompt, "max_tokens": 4 + random.below(3)});
        match random.below(5) {
            0 => line["id"] = json!(format!("own-{at}")),
            1 => line["seed"] = json!(random.below(2)),
            2 => {
                line = json!({"custom_id": format!("line-{at}"), "method": "POST", "url": "/v1/completions",
                               "body": {"prompt": prompt, "max_tokens": 5, "temperature": 0}})
            }
            _ => {}
        }
        match random.below(4) {
            0 => line["temperature"] = json!(0.9),
            1 => line["n"] = json!(2),
            2 => line["topic"] = json!(at),
            _ => {}
        }
        if line.get("body").is_some() {
            for name in ["temperature", "n", "topic"] {
                line.as_object_mut().expect("an object").remove(name);
            }
        }
        line
    };
    let mut text = String::new();
    for at in 0..count {
        match random.below(12) {
            0 => text.push_str("no json\n"),
            // Over the stub's context: a verdict that equal jobs share.
            1 => text.push_str(&format!("{}\n", json!({"prompt": "x".repeat(40_000)}))),
            _ => text.push_str(&format!("{}\n", line(random, at))),
        }
    }
    text
}

fn run(home: &Home, flags: &[&str]) -> Rbee {
    let fixed = [
        "run",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--engine",
        "stub",
        "--json",
    ];
    home.rbee(fixed.iter().chain(flags))
}

/// The results and the summary of a run.
fn results(input: &str, flags: &[&str]) -> (String, Json) {
    let home = Home::new();
    home.write("in.jsonl", input);
    let ended = run(&home, flags).run();
    assert!(matches!(ended.code, Some(0 | 3)), "{ended}");
    (home.read("out.jsonl"), ended.json())
}

#[test]
fn results_counts_and_usage_are_those_of_computing_each() {
    let mut random = Random::new(seed("equal jobs"));
    for _ in 0..4 {
        let input = lines(&mut random, 120);
        let (once, figures) = results(&input, &[]);
        let (each, right) = results(&input, &["--no-compute-once"]);
        assert_eq!(once, each);
        for part in ["request_counts", "usage"] {
            assert_eq!(figures[part], right[part]);
        }
    }
}

#[test]
fn a_thousand_equal_jobs_take_the_time_of_a_few() {
    let line = json!({"prompt": "the same", "max_tokens": 40, "ignore_eos": true});
    let home = Home::new();
    home.write("in.jsonl", format!("{line}\n").repeat(1000));
    let began = Instant::now();
    // Each takes 400 ms, one after the other.
    run(&home, &["--slots", "1", "--stub-token-us", "10000"]).exits(0);
    assert!(
        began.elapsed() < Duration::from_secs(200),
        "{:?}",
        began.elapsed()
    );
    let lines = home.lines("out.jsonl");
    assert_eq!(lines.len(), 1000);
    assert!(lines.iter().all(|line| line["text"] == lines[0]["text"]));
    home.rbee(["verify", "last", "--sample", "3"]).exits(0);
}

#[test]
fn killed_runs_and_servers_give_the_same_bytes() {
    let mut random = Random::new(seed("equal jobs, killed"));
    let input = lines(&mut random, 200);
    let (right, _) = results(&input, &["--no-compute-once"]);
    let home = Home::new();
    home.write("in.jsonl", &input);
    let slow = ["--slots", "2", "--stub-token-us", "4000"];
    for _ in 0..4 {
        let mut running = run(&home, &slow).start();
        let more = finished(&home) + 1 + random.below(20) as u64;
        wait::until("some results", PATIENCE, || {
            (running.has_ended() || finished(&home) >= more).then_some(())
        });
        running.kill();
    }
    let ended = run(&home, &[]).run();
    assert_eq!(ended.code, Some(3), "{ended}");
    assert_eq!(home.read("out.jsonl"), right);

    let home = Home::new();
    let mut server = Server::start(&home, &slow);
    let id = server.submit(&home, &input, &[]);
    for _ in 0..3 {
        let more = server.finished(&home, &id) + 1 + random.below(20) as u64;
        server.until_finished(&home, &id, more.min(200));
        server.process.kill();
        server = Server::start(&home, &slow);
    }
    server.until(&home, &id, "completed");
    assert_eq!(server.export(&home, &id), right);
}

#[test]
fn cancelled_and_retried_equal_jobs_give_the_same_bytes() {
    let mut random = Random::new(seed("equal jobs, cancelled"));
    let input = lines(&mut random, 150);
    let (right, _) = results(&input, &["--no-compute-once"]);
    let home = Home::new();
    // What is not computed twice takes long enough that it is cancelled in the middle.
    let server = Server::start(&home, &["--slots", "2", "--stub-token-us", "40000"]);
    let id = server.submit(&home, &input, &[]);
    server.until_finished(&home, &id, 20);
    server.rbee(&home, ["cancel", &id]).exits(0);
    server.until(&home, &id, "cancelled");
    server.rbee(&home, ["retry", &id, "--failed"]).exits(0);
    server.until(&home, &id, "completed");
    assert_eq!(server.export(&home, &id), right);
}

#[test]
fn a_cluster_that_loses_a_node_gives_the_same_bytes() {
    let mut random = Random::new(seed("equal jobs, cluster"));
    let input = lines(&mut random, 200);
    let (right, _) = results(&input, &["--no-compute-once"]);
    let mut cluster = Cluster::new();
    let flags = ["--engine", "stub", "--lease-ms", "5000"];
    let _serve = cluster.serve(&flags);
    let slow = [&flags[..], &["--slots", "2", "--stub-token-us", "4000"]].concat();
    let lost = cluster.worker("lost", &slow);
    cluster.home.write("in.jsonl", &input);
    let submitted = cluster.rbee(["submit", "in.jsonl"]).exits(0);
    let id = submitted.text().trim().to_owned();
    let status = || cluster.rbee(["status", &id, "--json"]).exits(0).json();
    let done = |status: &Json| {
        let count = |name: &str| status["request_counts"][name].as_u64().unwrap_or(0);
        count("completed") + count("failed")
    };
    wait::until("some results", PATIENCE, || {
        (done(&status()) >= 40).then_some(())
    });
    lost.kill();
    let _other = cluster.worker("other", &flags);
    wait::until("the end", PATIENCE, || {
        (status()["status"] == "completed").then_some(())
    });
    let exported = cluster.rbee(["export", &id]).run();
    assert_eq!(exported.text(), right);
}

#[test]
fn equal_jobs_that_an_older_node_left_out_are_computed() {
    let mut cluster = Cluster::new();
    let flags = ["--engine", "stub", "--lease-ms", "5000"];
    let _serve = cluster.serve(&flags);
    let line = json!({"prompt": "the same", "max_tokens": 6});
    let other = json!({"prompt": "another", "max_tokens": 6});
    let input = prompts::jsonl([&line, &line, &other, &line]);
    let first = cluster.worker("first", &flags);
    let done = cluster.submit(&input, &[]);
    cluster.until_done(&done);
    first.terminate();
    first.wait();
    // Nobody is there to take these. A node of a version without equal jobs takes the first, and stores its answer alone.
    let id = cluster.submit(&input, &["--new"]);
    let number = |id: &str| format!("(SELECT batch_no FROM batches WHERE id = '{id}')");
    let (from, to) = (number(&done), number(&id));
    cluster.sql(&format!(
        "BEGIN; \
         INSERT INTO results (batch_no, idx, finish_no, attempt, record, error_code, stats, finished_at_us) \
           SELECT {to}, idx, 1, 1, record, error_code, stats, finished_at_us FROM results \
           WHERE batch_no = {from} AND idx = 0; \
         UPDATE jobs SET state = 2, attempt = 1, finish_no = 1 WHERE batch_no = {to} AND idx = 0; \
         UPDATE batches SET succeeded = 1, last_finish_no = 1 WHERE batch_no = {to}; \
         COMMIT"
    ));
    let left =
        format!("SELECT COUNT(*) FROM jobs WHERE batch_no = {to} AND same_as = 0 AND state = 0");
    assert_eq!(cluster.count(&left), 2);
    let _second = cluster.worker("second", &flags);
    cluster.until_done(&id);
    assert_eq!(cluster.export(&id), cluster.export(&done));
    cluster.check_rows(&id);
}

#[test]
fn different_files_share_nothing() {
    // One line alone has the bytes that it has among equal ones.
    let line = json!({"prompt": "alone", "max_tokens": 6});
    let (alone, _) = results(&prompts::jsonl([&line]), &[]);
    let (many, _) = results(&prompts::jsonl([&line, &line, &line]), &[]);
    assert_eq!(many.lines().next(), alone.lines().next());
}
