//! `rbee run` in a home: with a real model, and how far it has come.

use crate::process::{Home, Rbee};
use crate::test_models;

/// A run of `in.jsonl` to `out.jsonl` by the small real model.
pub fn real(home: &Home, flags: &[&str]) -> Rbee {
    let model = test_models::smollm2();
    let model = model.to_str().expect("a path of the tests is UTF-8");
    let fixed = ["run", "in.jsonl", "-o", "out.jsonl", "--model", model];
    home.rbee(fixed.iter().chain(flags))
}

/// How many jobs of the home's last batch have ended; none while there is no batch.
pub fn finished(home: &Home) -> u64 {
    let ended = home.rbee(["status", "last", "--json"]).run();
    if ended.code != Some(0) {
        return 0;
    }
    let counts = &ended.json()["request_counts"];
    let count = |name: &str| counts[name].as_u64().unwrap_or(0);
    count("completed") + count("failed")
}
