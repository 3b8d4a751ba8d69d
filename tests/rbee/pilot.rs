//! `rbee run --pilot`: a few answers first, the rest on consent, nothing computed twice.

use rbee_tests::process::{Home, Rbee};
use rbee_tests::prompts;
use rbee_tests::server::run_alone;
use serde_json::Value as Json;

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

fn batches(home: &Home) -> Vec<Json> {
    let listed = home.rbee(["list", "--json"]).exits(0);
    let line = |line| serde_json::from_str(line).expect("each line is JSON");
    listed.text().lines().map(line).collect()
}

#[test]
fn the_rest_is_computed_on_consent_and_the_pilot_is_not_computed_again() {
    let input = prompts::varied(60, 8);
    let right = run_alone(&input);
    let home = Home::new();
    home.write("in.jsonl", &input);
    let refused = run(&home, &["--pilot", "7"]).run();
    assert_eq!(refused.code, Some(2), "{refused}");
    refused.says("--yes");
    refused.says("7 jobs");
    assert!(!home.path("out.jsonl").exists());
    let kept = batches(&home);
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0]["request_counts"]["completed"], 7);
    let summary = run(&home, &["--pilot", "7", "--yes"]).exits(0).json();
    assert_eq!(summary["run"]["taken_over"], 7, "{summary}");
    assert_eq!(summary["run"]["computed"], 53, "{summary}");
    assert_eq!(home.read("out.jsonl"), right);
    let left = batches(&home);
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["id"], summary["id"]);
}

#[test]
fn answers_are_shown_on_stderr_and_only_results_go_to_stdout() {
    let home = Home::new();
    home.write("in.jsonl", prompts::short(30, 6));
    let flags = [
        "run", "in.jsonl", "-o", "-", "--engine", "stub", "--pilot", "3", "--yes",
    ];
    let ended = home.rbee(flags).exits(0);
    assert_eq!(ended.text(), run_alone(&prompts::short(30, 6)));
    let shown = ended
        .stderr
        .lines()
        .filter(|line| line.contains("\"prompt\""));
    assert_eq!(shown.count(), 3, "{ended}");
    ended.says("the other 27 jobs");
}

#[test]
fn a_plain_run_takes_a_kept_pilot_over_and_a_larger_pilot_a_smaller_one() {
    let home = Home::new();
    home.write("in.jsonl", prompts::short(40, 6));
    run(&home, &["--pilot", "4"]).exits(2);
    run(&home, &["--pilot", "10"]).exits(2);
    let kept = batches(&home);
    assert_eq!(kept.len(), 1, "{kept:?}");
    let summary = run(&home, &[]).exits(0).json();
    assert_eq!(summary["run"]["taken_over"], 10, "{summary}");
    assert_eq!(home.read("out.jsonl"), run_alone(&prompts::short(40, 6)));
}

#[test]
fn a_pilot_of_everything_asks_nothing() {
    let home = Home::new();
    home.write("in.jsonl", prompts::short(5, 6));
    run(&home, &["--pilot", "5"]).exits(0);
    assert_eq!(home.read("out.jsonl"), run_alone(&prompts::short(5, 6)));
    // Consent to nothing is a wrong command.
    run(&home, &["--yes"]).exits(2);
}

#[test]
fn prompts_from_stdin_have_pilots_too() {
    let home = Home::new();
    let input = prompts::short(20, 6);
    let flags = ["run", "-", "--engine", "stub", "--pilot", "2", "--yes"];
    let ended = home.rbee(flags).input(input.clone()).exits(0);
    assert_eq!(ended.text(), run_alone(&input));
}
