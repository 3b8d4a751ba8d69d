//! A run that is stopped goes on where it stopped, and its file is that of an undisturbed run.

use std::time::Duration;

use rbee_tests::process::{Home, Rbee, Running};
use rbee_tests::prompts;
use rbee_tests::random::Random;
use rbee_tests::run::finished;
use rbee_tests::wait;
use serde_json::Value as Json;

const JOBS: usize = 300;
/// A token takes so long that a run of all jobs takes half a minute, and is in the middle when something is done to it.
const SLOW_US: u32 = 30_000;
const PATIENCE: Duration = Duration::from_secs(180);

/// The run under test: 300 jobs of up to 12 tokens.
fn run(home: &Home, token_us: u32) -> Rbee {
    let token_us = token_us.to_string();
    home.rbee([
        "run",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--engine",
        "stub",
        "--slots",
        "4",
        "--stub-token-us",
        &token_us,
    ])
}

fn undisturbed() -> String {
    let home = Home::new();
    home.write("in.jsonl", prompts::short(JOBS, 12));
    run(&home, 0).exits(0);
    home.read("out.jsonl")
}

/// Start the run and wait until at least this many jobs have ended.
fn started_until(home: &Home, jobs: u64) -> Running {
    let mut running = run(home, SLOW_US).start();
    wait::until(&format!("{jobs} jobs to end"), PATIENCE, || {
        (running.has_ended() || finished(home) >= jobs).then_some(())
    });
    running
}

#[test]
fn killed_run_resumes_to_the_same_bytes_wherever_it_was_killed() {
    let right = undisturbed();
    let home = Home::new();
    home.write("in.jsonl", prompts::short(JOBS, 12));
    let mut random = Random::new(1);
    let mut before = 0;
    let mut kills = 0;
    loop {
        let ended = started_until(&home, before + 1 + random.below(25) as u64).kill();
        if ended.code == Some(0) {
            break;
        }
        kills += 1;
        // A kill may come between the renaming of the whole file and the end of the process.
        if home.path("out.jsonl").exists() {
            assert_eq!(home.read("out.jsonl"), right, "a file that is not whole");
        }
        let now = finished(&home);
        assert!(now >= before, "{now} jobs are finished where {before} were");
        before = now;
        assert!(kills < 100, "the run never ends");
    }
    assert!(kills >= 3, "killed only {kills} times");
    assert_eq!(home.read("out.jsonl"), right);
}

#[test]
fn killing_the_parent_alone_leaves_nothing_behind_and_the_run_resumes() {
    let right = undisturbed();
    let home = Home::new();
    home.write("in.jsonl", prompts::short(JOBS, 12));
    let ended = started_until(&home, 10).kill_parent();
    assert_ne!(ended.code, Some(0), "it ended before it was killed");
    wait::until("what the killed run started to go", PATIENCE, || {
        let ended = run(&home, 0).run();
        (ended.code == Some(0)).then_some(())
    });
    assert_eq!(home.read("out.jsonl"), right);
}

#[test]
fn interrupted_run_exits_with_130_and_resumes() {
    let right = undisturbed();
    let home = Home::new();
    home.write("in.jsonl", prompts::short(JOBS, 12));
    let running = started_until(&home, 10);
    running.interrupt();
    let ended = running.wait();
    assert_eq!(ended.code, Some(130), "{ended}");
    assert!(!home.path("out.jsonl").exists());
    let kept = finished(&home);
    assert!((10..JOBS as u64).contains(&kept), "{kept} jobs are kept");
    run(&home, 0).exits(0);
    assert_eq!(home.read("out.jsonl"), right);
}

#[test]
fn terminated_run_resumes_too() {
    let right = undisturbed();
    let home = Home::new();
    home.write("in.jsonl", prompts::short(JOBS, 12));
    let running = started_until(&home, 5);
    running.terminate();
    let ended = running.wait();
    assert_ne!(ended.code, Some(0), "{ended}");
    run(&home, 0).exits(0);
    assert_eq!(home.read("out.jsonl"), right);
}

#[test]
fn finished_run_is_answered_from_the_store_and_says_so() {
    let home = Home::new();
    home.write("in.jsonl", prompts::short(40, 8));
    run(&home, 0).exits(0);
    let right = home.read("out.jsonl");
    std::fs::remove_file(home.path("out.jsonl")).unwrap();
    // A token takes a second now: only an answer from the store is quick.
    let ended = run(&home, 1_000_000).exits(0);
    ended.says("kept");
    assert_eq!(home.read("out.jsonl"), right);
}

#[test]
fn fresh_run_computes_anew_and_gives_the_same_bytes() {
    let home = Home::new();
    home.write("in.jsonl", prompts::short(40, 8));
    run(&home, 0).exits(0);
    let right = home.read("out.jsonl");
    let batches = || {
        home.rbee(["list", "--json"])
            .exits(0)
            .text()
            .lines()
            .count()
    };
    assert_eq!(batches(), 1);
    let arguments = [
        "run",
        "in.jsonl",
        "-o",
        "again.jsonl",
        "--engine",
        "stub",
        "--fresh",
    ];
    home.rbee(arguments).exits(0);
    assert_eq!(home.read("again.jsonl"), right);
    assert_eq!(batches(), 2);
}

#[test]
fn slots_and_threads_and_output_do_not_make_another_run() {
    let home = Home::new();
    home.write("in.jsonl", prompts::short(40, 8));
    run(&home, 0).exits(0);
    let other = [
        "run",
        "in.jsonl",
        "-o",
        "b.jsonl",
        "--engine",
        "stub",
        "--slots",
        "7",
        "--threads",
        "1",
    ];
    home.rbee(other).exits(0);
    assert_eq!(home.read("b.jsonl"), home.read("out.jsonl"));
    assert_eq!(
        home.rbee(["list", "--json"])
            .exits(0)
            .text()
            .lines()
            .count(),
        1
    );
}

#[test]
fn second_equal_run_is_refused_while_the_first_one_works() {
    let home = Home::new();
    home.write("in.jsonl", prompts::short(JOBS, 12));
    let running = started_until(&home, 1);
    let second = run(&home, 0).run();
    assert!(!matches!(second.code, Some(0) | Some(3)), "{second}");
    second.says(&running.pid().to_string());
    running.kill();
}

#[test]
fn a_changed_line_recomputes_no_other_line() {
    let home = Home::new();
    home.write("in.jsonl", prompts::varied(30, 8));
    run(&home, 0).exits(0);
    let before = home.lines("out.jsonl");
    let mut lines: Vec<String> = home.read("in.jsonl").lines().map(str::to_string).collect();
    lines.insert(0, r#"{"prompt": "one more", "id": "first"}"#.into());
    home.write("in.jsonl", lines.join("\n"));
    run(&home, 0).exits(0);
    let after = home.lines("out.jsonl");
    assert_eq!(after.len(), 31);
    for (before, after) in before.iter().zip(&after[1..]) {
        assert_eq!(text(before), text(after));
    }
}

fn text(line: &Json) -> &Json {
    match line.get("response") {
        Some(response) => &response["body"]["choices"],
        None => &line["text"],
    }
}
