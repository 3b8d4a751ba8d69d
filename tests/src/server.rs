//! `rbee serve` without a cluster: store, queue, coordinator and node in one process, in a home of its own.

use std::time::Duration;

use serde_json::Value as Json;

use crate::cluster::{PATIENCE, listening};
use crate::process::{Home, Rbee, Running};
use crate::wait;

/// A server that computes itself, with the stub engine.
pub struct Server {
    pub process: Running,
    pub url: String,
}

impl Server {
    /// Starts one with these flags behind it, and waits until it listens.
    pub fn start(home: &Home, arguments: &[&str]) -> Server {
        Server::started(command(home, arguments))
    }

    /// Waits until it listens.
    pub fn started(command: Rbee) -> Server {
        let process = command.start();
        let url = listening(&process);
        Server { process, url }
    }

    /// A command that speaks to it, with the token that lies in the home.
    pub fn rbee<S: AsRef<std::ffi::OsStr>>(
        &self,
        home: &Home,
        arguments: impl IntoIterator<Item = S>,
    ) -> Rbee {
        home.rbee(arguments).env("RBEE_SERVER", &self.url)
    }

    /// Writes the prompts and submits them; the batch's id.
    pub fn submit(&self, home: &Home, prompts: &str, arguments: &[&str]) -> String {
        home.write("submitted.jsonl", prompts);
        let command = ["submit", "submitted.jsonl"].iter().chain(arguments);
        let ended = self.rbee(home, command).exits(0);
        ended.text().trim().to_owned()
    }

    /// What `rbee status --json` says of a batch.
    pub fn status(&self, home: &Home, id: &str) -> Json {
        self.rbee(home, ["status", id, "--json"]).exits(0).json()
    }

    /// Jobs of a batch that have their result.
    pub fn finished(&self, home: &Home, id: &str) -> u64 {
        let counts = &self.status(home, id)["request_counts"];
        let count = |name: &str| counts[name].as_u64().expect("a count is a number");
        count("completed") + count("failed")
    }

    /// Waits until so many jobs of a batch have their result.
    pub fn until_finished(&self, home: &Home, id: &str, jobs: u64) {
        wait::until(&format!("{jobs} finished jobs"), PATIENCE, || {
            (self.finished(home, id) >= jobs).then_some(())
        });
    }

    /// Waits until a batch is in this state.
    pub fn until(&self, home: &Home, id: &str, status: &str) -> Json {
        wait::until(&format!("a batch that is {status}"), PATIENCE, || {
            Some(self.status(home, id)).filter(|batch| batch["status"] == status)
        })
    }

    /// The export of a batch.
    pub fn export(&self, home: &Home, id: &str) -> String {
        let _ = std::fs::remove_file(home.path("exported.jsonl"));
        self.rbee(home, ["export", id, "-o", "exported.jsonl"])
            .exits(0);
        home.read("exported.jsonl")
    }

    /// Waits until its node runs so many jobs.
    pub fn until_running(&self, home: &Home, jobs: u64) {
        self.until_running_anew(home, jobs, &[]);
    }

    /// The same for a node that is none of these; its instance.
    pub fn until_running_anew(&self, home: &Home, jobs: u64, gone: &[String]) -> String {
        // A node counts what it took, the next jobs of its engine included.
        let enough = |runs: u64| if jobs == 0 { runs == 0 } else { runs >= jobs };
        wait::until(&format!("{jobs} running jobs"), PATIENCE, || {
            // While it is being started again, nobody answers.
            let nodes = self.rbee(home, ["nodes", "--json"]).run();
            nodes.text().lines().find_map(|line| {
                let node: Json = serde_json::from_str(line).ok()?;
                let instance = node["instance"].as_str()?.to_owned();
                let runs = node["report"]["running"].as_u64()?;
                (enough(runs) && node["state"] != "lost" && !gone.contains(&instance))
                    .then_some(instance)
            })
        })
    }
}

/// The command that starts one: a free port, the stub engine, quick looks.
pub fn command(home: &Home, arguments: &[&str]) -> Rbee {
    let fixed = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--engine",
        "stub",
        "--lease-ms",
        "5000",
    ];
    home.rbee(fixed.iter().chain(arguments))
}

/// What `rbee run` writes for the prompts, undisturbed.
pub fn run_alone(prompts: &str) -> String {
    let home = Home::new();
    home.write("in.jsonl", prompts);
    let run = ["run", "in.jsonl", "-o", "out.jsonl", "--engine", "stub"];
    let ended = home.rbee(run).run();
    assert!(matches!(ended.code, Some(0 | 3)), "{ended}");
    home.read("out.jsonl")
}

/// The longest that something may take which is quick, also on a machine that has much else to do: what it is held
/// against takes longer still.
pub const QUICK: Duration = Duration::from_secs(120);
