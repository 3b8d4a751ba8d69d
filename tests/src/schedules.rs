//! Schedules of a server, as its commands show them.

use serde_json::Value as Json;

use crate::cluster::PATIENCE;
use crate::process::Rbee;
use crate::wait;

/// Gives commands that speak to a server.
pub type Speak<'a> = &'a dyn Fn(&[&str]) -> Rbee;

/// The runs of a schedule, newest first.
pub fn history(speak: Speak, name: &str) -> Vec<Json> {
    let command = ["schedule", "history", name, "--limit", "1000", "--json"];
    lines(speak(&command).exits(0).text())
}

/// JSON values, one a line.
pub fn lines(text: &str) -> Vec<Json> {
    let read = |line: &str| serde_json::from_str(line).expect("a line is JSON");
    text.lines().map(read).collect()
}

/// The runs of a schedule that are in this state.
pub fn in_state(runs: &[Json], state: &str) -> Vec<Json> {
    let mut found = runs.to_vec();
    found.retain(|run| run["state"] == state);
    found
}

/// Waits until so many runs of a schedule are in this state; all its runs.
pub fn until_runs(speak: Speak, name: &str, state: &str, count: usize) -> Vec<Json> {
    wait::until(&format!("{count} runs that are {state}"), PATIENCE, || {
        let runs = history(speak, name);
        (in_state(&runs, state).len() >= count).then_some(runs)
    })
}

/// The ticks of runs, in microseconds.
pub fn ticks(runs: &[Json]) -> Vec<i64> {
    let tick = |run: &Json| run["tick_us"].as_i64().expect("a tick is a number");
    runs.iter().map(tick).collect()
}

/// Expects that no two runs have one tick, and no two one batch.
pub fn check_once(runs: &[Json]) {
    let unique = |mut values: Vec<String>| {
        let count = values.len();
        values.sort();
        values.dedup();
        assert_eq!(values.len(), count, "{runs:#?}");
    };
    unique(ticks(runs).iter().map(i64::to_string).collect());
    let batches = runs.iter().filter_map(|run| run["batch"].as_str());
    unique(batches.map(str::to_owned).collect());
}
