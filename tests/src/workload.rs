//! What fault tests have computed, and what an undisturbed run makes of it.

use crate::process::Home;
use crate::prompts;

/// Whether the long versions are wanted: `cargo xtask test faults`.
pub fn full() -> bool {
    std::env::var_os("RBEE_TEST_FULL").is_some()
}

/// The size of something, full and quick.
pub fn size<T>(at_full: T, quick: T) -> T {
    match full() {
        true => at_full,
        false => quick,
    }
}

/// The seed of a test, said in its output: `RBEE_TEST_SEED` sets another one.
pub fn seed(of: &str) -> u64 {
    let set = std::env::var("RBEE_TEST_SEED").ok();
    let seed = set.and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("{of}: RBEE_TEST_SEED={seed}");
    seed
}

/// A file of prompts with the results that it must have.
pub struct Workload {
    pub prompts: String,
    pub jobs: u64,
    /// What `rbee run` writes when nothing disturbs it.
    pub right: String,
}

/// Most tokens of an answer of the stub engine.
const STUB_TOKENS: u32 = 12;

impl Workload {
    /// Short prompts for the stub engine.
    pub fn stub(jobs: usize) -> Workload {
        Workload::of(prompts::short(jobs, STUB_TOKENS), &["--engine", "stub"])
    }

    /// Any prompts, run with these flags.
    pub fn of(prompts: String, flags: &[&str]) -> Workload {
        let home = Home::new();
        home.write("in.jsonl", &prompts);
        let run = ["run", "in.jsonl", "-o", "out.jsonl"];
        home.rbee(run.iter().chain(flags)).exits(0);
        Workload {
            jobs: prompts.lines().count() as u64,
            right: home.read("out.jsonl"),
            prompts,
        }
    }

    /// Holds an export against the undisturbed run, and names the first line that differs.
    ///
    /// # Panics
    /// When they are not equal byte for byte.
    pub fn check(&self, export: &str) {
        let pairs = export.lines().zip(self.right.lines());
        for (at, (found, right)) in pairs.enumerate() {
            assert_eq!(found, right, "line {} of the export", at + 1);
        }
        assert_eq!(export.len(), self.right.len(), "bytes of the export");
    }
}
