//! Nodes on machines that are somebody's: they stop at their hour and lose nothing.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rbee_tests::clocks;
use rbee_tests::cluster::Cluster;
use rbee_tests::process::{Home, Rbee};
use rbee_tests::server::run_alone;
use rbee_tests::{prompts, wait};
use serde_json::Value as Json;

const PATIENCE: Duration = Duration::from_secs(180);
const A_DAY: i64 = 86_400;

/// A command whose clock says noon less so many seconds, in UTC.
fn before_noon(command: Rbee, seconds: i64) -> Rbee {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("it is after 1970").as_secs() as i64;
    let shift = A_DAY / 2 - seconds - now.rem_euclid(A_DAY);
    let environment = clocks::off_by(shift);
    let command = environment
        .iter()
        .fold(command, |command, (name, value)| command.env(name, value));
    command.env("TZ", "UTC")
}

fn nodes(cluster: &Cluster) -> Vec<Json> {
    let listed = cluster.rbee(["nodes", "--json"]).run();
    let line = |line| serde_json::from_str(line).ok();
    listed.text().lines().filter_map(line).collect()
}

#[test]
fn a_node_gives_its_jobs_back_within_two_seconds_of_its_hour() {
    let mut cluster = Cluster::new();
    let flags = ["--engine", "stub", "--lease-ms", "5000"];
    let _serve = cluster.serve(&flags);
    // Each of these takes more than six minutes: those that run cannot end within the moment that they are given.
    let words = prompts::endless(3);
    let short = prompts::short(40, 8);
    let input = format!("{short}{words}");
    cluster.home.write("in.jsonl", &input);
    let submitted = cluster.rbee(["submit", "in.jsonl"]).exits(0);
    let id = submitted.text().trim().to_owned();
    let slow = [
        "--stub-token-us",
        "100000",
        "--slots",
        "4",
        "--hours",
        "08:00-12:00",
        "--max-memory",
        "1G",
    ];
    let worker = ["--name", "desktop", "--heartbeat-ms", "250"];
    let arguments = [&worker[..], &flags, &slow].concat();
    let command = cluster.member(&["worker"], &arguments);
    // Time enough to start and to end some of the short ones.
    let node = before_noon(command, 25).start();
    let began = Instant::now();
    let busy = || {
        let found = nodes(&cluster);
        found
            .iter()
            .any(|node| node["report"]["running"].as_u64() > Some(0))
    };
    wait::until("running jobs", PATIENCE, || busy().then_some(()));
    let counts = |id: &str| {
        let status = cluster.rbee(["status", id, "--json"]).exits(0).json();
        status["request_counts"]["completed"].as_u64().unwrap_or(0)
    };
    wait::until("a node that rests", PATIENCE, || {
        let found = nodes(&cluster);
        let resting = found
            .iter()
            .find(|node| !node["report"]["resting"].is_null())?;
        (resting["report"]["running"] == 0).then_some(())
    });
    let memory = nodes(&cluster)[0]["report"]["devices"][0]["memory_bytes"].as_u64();
    assert!(memory <= Some(1 << 30), "{memory:?}");
    // Its clock says noon 25 seconds after it was started; two for the drain, and what asking takes on a busy machine. A
    // node that waited for the end of what runs would take longer.
    assert!(
        began.elapsed() < Duration::from_secs(25 + 2 + 90),
        "{:?}",
        began.elapsed()
    );
    let kept = counts(&id);
    assert!(kept > 0 && kept < 43, "{kept} are done");
    let told = cluster.rbee(["status", &id, "--json"]).exits(0).json();
    let waits = told["waiting"].as_str().unwrap_or_default().to_owned();
    assert!(waits.contains("08:00-12:00"), "{told}");
    assert!(cluster.rbee(["nodes"]).exits(0).text().contains("resting"));
    node.terminate();
    assert_eq!(node.wait().code, Some(0));
    // The next morning.
    let fast = ["--hours", "08:00-12:00,20:00-24:00"];
    let arguments = [&worker[..], &flags, &fast].concat();
    let command = cluster.member(&["worker"], &arguments);
    let _node = before_noon(command, 3600).start();
    wait::until("the end", PATIENCE, || (counts(&id) == 43).then_some(()));
    let exported = cluster.rbee(["export", &id]).exits(0);
    assert_eq!(exported.text(), run_alone(&input));
}

/// How much a process lets others go first, as the kernel says.
fn nice(pid: u32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split_whitespace().nth(16)?.parse().ok()
}

#[test]
fn a_run_rests_until_the_machine_has_been_calm() {
    let home = Home::new();
    home.write("in.jsonl", prompts::short(10, 6));
    let flags = [
        "run",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--engine",
        "stub",
        "--idle-only",
    ];
    let running = home.rbee(flags).start();
    wait::until("a run that rests", PATIENCE, || {
        running
            .stderr()
            .contains("the machine is used")
            .then_some(())
    });
    running.interrupt();
    assert_eq!(running.wait().code, Some(130));
    let status = home.rbee(["status", "--json"]).exits(0).json();
    assert_eq!(status["request_counts"]["completed"], 0);
}

#[test]
fn a_run_waits_for_its_hours() {
    let home = Home::new();
    let input = prompts::short(10, 6);
    home.write("in.jsonl", &input);
    let flags = [
        "run",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--engine",
        "stub",
        "--nice",
        "5",
    ];
    let late = home.rbee(flags.iter().chain(&["--hours", "22:00-07:00"]));
    let running = before_noon(late, 100).start();
    wait::until("a run that rests", PATIENCE, || {
        running.stderr().contains("resting").then_some(())
    });
    let computing = running.children();
    assert!(!computing.is_empty());
    for pid in computing {
        // The flag adds to what the tests themselves run with.
        let own = nice(std::process::id()).unwrap();
        assert_eq!(nice(pid), Some(own + 5), "process {pid}");
    }
    running.interrupt();
    let ended = running.wait();
    assert_eq!(ended.code, Some(130), "{ended}");
    ended.says("22:00-07:00 only (UTC)");
    let now = home.rbee(
        flags
            .iter()
            .chain(&["--hours", "22:00-07:00,11:00-13:00", "--json"]),
    );
    before_noon(now, 100).exits(0);
    assert_eq!(home.read("out.jsonl"), run_alone(&input));
}

#[test]
fn a_run_goes_on_when_its_next_hours_begin() {
    let home = Home::new();
    let input = prompts::short(10, 6);
    home.write("in.jsonl", &input);
    let flags = ["run", "in.jsonl", "-o", "out.jsonl", "--engine", "stub"];
    // Noon is far enough away for a slow start.
    let early = home.rbee(flags.iter().chain(&["--hours", "12:00-13:00"]));
    let ended = before_noon(early, 20).exits(0);
    ended.says("resting");
    ended.says("computing again");
    assert_eq!(home.read("out.jsonl"), run_alone(&input));
}

#[test]
fn wrong_hours_and_limits_are_refused() {
    let home = Home::new();
    home.write("in.jsonl", prompts::short(1, 2));
    for words in [
        ["--hours", "22-7"],
        ["--hours", "10:00-10:00"],
        ["--nice", "0"],
        ["--nice", "40"],
        ["--max-memory", "lots"],
    ] {
        home.rbee(["run", "in.jsonl", words[0], words[1]]).exits(2);
    }
}
