//! `rbee schedule` with a server that computes itself: ticks become runs, runs become files, and users see both.

mod doors;

use std::time::{SystemTime, UNIX_EPOCH};

use rbee_queue::SqliteStore;
use rbee_queue::store::ScheduleStore;
use rbee_tests::cluster::{PATIENCE, ends_well};
use rbee_tests::process::{Home, Rbee};
use rbee_tests::schedules::{check_once, history, in_state, lines, ticks, until_runs};
use rbee_tests::server::{Server, run_alone};
use rbee_tests::{prompts, wait};
use serde_json::Value as Json;

/// Six fields: every second.
const EVERY_SECOND: &str = "* * * * * *";
/// Not soon.
const NEW_YEAR: &str = "@yearly";
const SECOND_US: i64 = 1_000_000;
/// A token takes so long that a run outlives some ticks.
const SLOW: [&str; 4] = ["--stub-token-us", "100000", "--slots", "4"];

/// A server in a home with prompts, and the commands that speak to it.
struct Site {
    home: Home,
    server: Server,
    prompts: String,
}

fn site(arguments: &[&str]) -> Site {
    let home = Home::new();
    let prompts = prompts::short(6, 4);
    home.write("nightly.jsonl", &prompts);
    let server = Server::start(&home, arguments);
    Site {
        home,
        server,
        prompts,
    }
}

impl Site {
    fn rbee(&self, arguments: &[&str]) -> Rbee {
        self.server.rbee(&self.home, arguments)
    }

    fn schedule(&self, arguments: &[&str]) -> Rbee {
        let command: Vec<&str> = [&["schedule"], arguments].concat();
        self.rbee(&command)
    }
}

/// Has the server's store believe that a schedule's next tick was so long ago, while no server is there.
fn set_back(home: &Home, seconds: i64) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let path = home.path(".local/share/rbee/rbee.db");
        let store = SqliteStore::open(&path).await.unwrap();
        let now = store.clock_us().await.unwrap();
        let tick = (now / SECOND_US - seconds) * SECOND_US;
        for schedule in store.schedule_list().await.unwrap() {
            let moved = store.schedule_pause(schedule.no, false, Some(tick));
            assert!(moved.await.unwrap());
        }
        store.close().await;
    });
}

#[test]
fn every_tick_becomes_one_batch_with_the_bytes_of_a_run_and_a_file() {
    let site = site(&[]);
    let add = [
        "add",
        EVERY_SECOND,
        "nightly.jsonl",
        "--output",
        "out-{tick}.jsonl",
    ];
    site.schedule(&add).exits(0);
    let speak = |arguments: &[&str]| site.rbee(arguments);
    let runs = until_runs(&speak, "nightly", "completed", 4);
    check_once(&runs);
    let ticks = ticks(&runs);
    assert!(
        ticks.windows(2).all(|pair| pair[0] - pair[1] == SECOND_US),
        "{ticks:?}"
    );
    let alone = run_alone(&site.prompts);
    for run in in_state(&runs, "completed") {
        assert_eq!(run["request_counts"]["completed"], 6);
        assert_eq!(run["cause"], "tick");
        let output = run["output"].as_str().unwrap();
        assert_eq!(std::fs::read_to_string(output).unwrap(), alone);
        let batch = run["batch"].as_str().unwrap();
        assert_eq!(site.server.export(&site.home, batch), alone);
    }
    let files = site.home.files();
    assert!(
        !files
            .iter()
            .any(|file| file.contains(".partial") && !file.contains(".local"))
    );
    site.schedule(&["pause", "nightly"]).exits(0);
    ends_well(site.server.process);
}

#[test]
fn five_next_runs_are_printed_in_the_zone_and_in_utc() {
    let site = site(&[]);
    let add = [
        "add",
        "30 2 * * *",
        "nightly.jsonl",
        "--tz",
        "America/New_York",
    ];
    let said = site.schedule(&add).exits(0).text().to_owned();
    assert!(said.starts_with("nightly (sched_"), "{said}");
    let next: Vec<&str> = said.lines().skip(1).collect();
    assert_eq!(next.len(), 5, "{said}");
    for line in next {
        assert!(
            line.contains(" 02:30:00-0") || line.contains(" 03:00:00-04:00"),
            "{line}"
        );
        assert!(line.ends_with(" UTC)"), "{line}");
    }
    // The machine's zone is the usual one.
    let named = [
        "add",
        "@daily",
        "nightly.jsonl",
        "--name",
        "other",
        "--json",
    ];
    let made = site
        .schedule(&named)
        .env("TZ", "Asia/Kolkata")
        .exits(0)
        .json();
    assert_eq!(made["tz"], "Asia/Kolkata");
    assert!(
        made["next_runs"][0]["local"]
            .as_str()
            .unwrap()
            .ends_with("T00:00:00+05:30")
    );
    let shown = site.schedule(&["show", "other"]).exits(0).text().to_owned();
    for words in [
        "@daily in Asia/Kolkata",
        "overlap   skip",
        "missed    once",
        "next run",
    ] {
        assert!(shown.contains(words), "{shown}");
    }
    let calendar = site.schedule(&["calendar", "--json"]).exits(0);
    let due = lines(calendar.text());
    assert_eq!(due.len(), 14);
    assert!(ticks(&due).is_sorted());
    ends_well(site.server.process);
}

/// Every quarter of an hour, and not within the next five minutes.
fn four_an_hour() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let minute = now.expect("it is after 1970").as_secs() / 60;
    let first = (minute + 7) % 15;
    let minutes = [0, 15, 30, 45].map(|quarter| (first + quarter).to_string());
    format!("{} * * * *", minutes.join(","))
}

#[test]
fn three_hours_down_are_made_up_for_by_one_run() {
    let site = site(&[]);
    let speak = |arguments: &[&str]| site.rbee(arguments);
    let cron = four_an_hour();
    for missed in ["once", "none"] {
        let add = [
            "add",
            &cron,
            "nightly.jsonl",
            "--name",
            missed,
            "--missed",
            missed,
        ];
        site.schedule(&add).exits(0);
    }
    assert_eq!(history(&speak, "once").len(), 0);
    ends_well(site.server.process);
    set_back(&site.home, 3 * 3_600);
    let server = Server::start(&site.home, &[]);
    let speak = |arguments: &[&str]| server.rbee(&site.home, arguments);
    let runs = until_runs(&speak, "once", "completed", 1);
    check_once(&runs);
    let made_up = |runs: &[Json]| runs.iter().filter(|run| run["cause"] == "catch-up").count();
    assert_eq!(made_up(&runs), 1, "{runs:?}");
    let missed = in_state(&runs, "missed");
    assert!(
        missed[0]["reason"].as_str().unwrap().contains("ticks"),
        "{missed:?}"
    );
    let none = until_runs(&speak, "none", "missed", 1);
    assert_eq!(made_up(&none), 0, "{none:?}");
    ends_well(server.process);
}

#[test]
fn overlapping_ticks_are_skipped_or_wait_or_replace() {
    let site = site(&SLOW);
    // A run of the one takes two seconds and more, of the other longer than this looks.
    for (name, tokens) in [("some.jsonl", 20), ("endless.jsonl", 10_000)] {
        let line = format!("{{\"prompt\":\"a\",\"max_tokens\":{tokens},\"ignore_eos\":true}}\n");
        site.home.write(name, line);
    }
    let add = |name: &str, overlap: &str, file: &str| {
        let add = [
            "add",
            EVERY_SECOND,
            file,
            "--name",
            name,
            "--overlap",
            overlap,
        ];
        site.schedule(&add).exits(0);
    };
    let speak = |arguments: &[&str]| site.rbee(arguments);
    add("skip", "skip", "endless.jsonl");
    until_runs(&speak, "skip", "running", 1);
    let runs = until_runs(&speak, "skip", "skipped", 2);
    let running = in_state(&runs, "running");
    assert_eq!(running.len(), 1, "{runs:?}");
    assert!(
        in_state(&runs, "skipped")[0]["reason"]
            .as_str()
            .unwrap()
            .contains("not at its end")
    );
    site.schedule(&["run", "skip"]).exits(2).says("under way");
    site.schedule(&["remove", "skip"]).exits(0);
    let batch = running[0]["batch"].as_str().unwrap();
    site.rbee(&["cancel", batch]).exits(0);
    add("queue", "queue", "some.jsonl");
    let runs = until_runs(&speak, "queue", "waiting", 2);
    assert!(in_state(&runs, "running").len() <= 1, "{runs:?}");
    site.schedule(&["pause", "queue"]).exits(0);
    until_runs(&speak, "queue", "completed", 2);
    site.schedule(&["remove", "queue"]).exits(0);
    add("replace", "cancel-running", "endless.jsonl");
    let runs = until_runs(&speak, "replace", "cancelled", 2);
    assert!(in_state(&runs, "running").len() <= 2, "{runs:?}");
    site.schedule(&["remove", "replace"]).exits(0);
    drop(site.server);
}

#[test]
fn pause_resume_and_remove_do_what_they_say() {
    let site = site(&[]);
    let speak = |arguments: &[&str]| site.rbee(arguments);
    site.schedule(&["add", EVERY_SECOND, "nightly.jsonl"])
        .exits(0);
    until_runs(&speak, "nightly", "completed", 1);
    let paused = site
        .schedule(&["pause", "nightly", "--json"])
        .exits(0)
        .json();
    assert_eq!(paused["paused"], true);
    assert_eq!(paused["next_runs"], serde_json::json!([]));
    let settled = wait::until("the last run's end", PATIENCE, || {
        let runs = history(&speak, "nightly");
        let open = ["waiting", "loading", "running"];
        let ended = runs
            .iter()
            .all(|run| !open.contains(&run["state"].as_str().unwrap()));
        ended.then_some(runs)
    });
    let resumed = site
        .schedule(&["resume", "nightly", "--json"])
        .exits(0)
        .json();
    let next = resumed["next_runs"][0]["tick_us"].as_i64().unwrap();
    assert!(next > ticks(&settled)[0]);
    let runs = until_runs(&speak, "nightly", "completed", settled.len() + 1);
    // What passed by while it was paused is not made up for.
    let between = ticks(&runs)
        .into_iter()
        .filter(|tick| *tick > ticks(&settled)[0] && *tick < next);
    assert_eq!(between.count(), 0);
    let batch = runs.iter().find(|run| run["state"] == "completed").unwrap()["batch"].clone();
    site.schedule(&["remove", "nightly"]).exits(0);
    site.schedule(&["history", "nightly"]).exits(2);
    assert_eq!(
        lines(site.schedule(&["list", "--json"]).exits(0).text()).len(),
        0
    );
    // Its batches stay.
    let status = site.server.status(&site.home, batch.as_str().unwrap());
    assert_eq!(status["status"], "completed");
    ends_well(site.server.process);
}
