//! A whole cluster as processes: real Redis, real Postgres, coordinators and nodes, and what must hold of it at the end.

use std::path::PathBuf;
use std::time::Duration;

use rbee_test_services::{Postgres, Redis};
use serde_json::Value as Json;

use crate::process::{self, Home, Rbee, Running};
use crate::wait;

/// The longest that anything in a cluster may take on a slow, shared machine.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// What every client and node shows.
pub const TOKEN: &str = "a token of the tests";

/// Redis, Postgres and a home in which commands run. Coordinators and nodes are started by the test.
pub struct Cluster {
    pub home: Home,
    pub postgres: Postgres,
    pub redis: Redis,
    pub database: String,
    /// The program that is run.
    pub program: PathBuf,
    /// Where commands find the server; the last coordinator that was started.
    pub url: String,
    /// More variables of every process.
    pub settings: Vec<(String, String)>,
}

/// A coordinator.
pub struct Coordinator {
    pub process: Running,
    pub url: String,
}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster::new()
    }
}

impl Cluster {
    /// Store and queue, and nothing that works.
    pub fn new() -> Cluster {
        Cluster::with(Postgres::with(&["-c", "fsync=off"]), Redis::start())
    }

    /// The same over servers with settings of their own.
    pub fn with(postgres: Postgres, redis: Redis) -> Cluster {
        let database = postgres.database();
        Cluster {
            home: Home::new(),
            postgres,
            redis,
            database,
            program: process::binary(),
            url: String::new(),
            settings: Vec::new(),
        }
    }

    /// A command with all that names this cluster.
    pub fn rbee<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Rbee {
        let rbee = self
            .home
            .command(&self.program, arguments)
            .env("RBEE_SERVER", &self.url)
            .env("RBEE_API_TOKEN", TOKEN);
        let settings = self.settings.iter();
        settings.fold(rbee, |rbee, (name, value)| rbee.env(name, value))
    }

    /// A command with all that a member of this cluster knows: its store, its queue, its token.
    pub fn member<'a>(&self, command: &[&'a str], arguments: &[&'a str]) -> Rbee {
        self.rbee(command.iter().chain(arguments))
            .env("RBEE_DATABASE_URL", &self.database)
            .env("RBEE_REDIS_URL", self.redis.url())
    }

    /// Starts `rbee serve` with these flags behind it, waits until it listens, and has commands speak to it.
    pub fn serve(&mut self, arguments: &[&str]) -> Coordinator {
        self.serve_at("127.0.0.1:0", arguments, &[])
    }

    /// The same with more variables in its environment.
    pub fn serve_with(
        &mut self,
        arguments: &[&str],
        environment: &[(String, String)],
    ) -> Coordinator {
        self.serve_at("127.0.0.1:0", arguments, environment)
    }

    /// The same at an address, which a coordinator that was killed may have had.
    pub fn serve_at(
        &mut self,
        address: &str,
        arguments: &[&str],
        environment: &[(String, String)],
    ) -> Coordinator {
        let mut serve = self.member(&["serve", "--listen", address], arguments);
        for (name, value) in environment {
            serve = serve.env(name, value);
        }
        let process = serve.start();
        let url = listening(&process);
        self.url.clone_from(&url);
        Coordinator { process, url }
    }

    /// Starts `rbee worker` with these flags behind it, and waits for its lease.
    pub fn worker(&self, name: &str, arguments: &[&str]) -> Running {
        let mut worker = self.member(&["worker", "--name", name], arguments).start();
        wait::until("the node's lease", PATIENCE, || {
            assert!(!worker.has_ended(), "the node ended: {}", worker.stderr());
            (self.nodes_alive(name) > 0).then_some(())
        });
        worker
    }

    /// Nodes of a name whose lease was not judged to be over.
    pub fn nodes_alive(&self, name: &str) -> u64 {
        self.count(&format!(
            "SELECT COUNT(*) FROM nodes WHERE lost = 0 AND name = '{name}'"
        ))
    }

    /// What `psql` prints of a statement.
    pub fn sql(&self, statement: &str) -> String {
        let name = self.database.rsplit('/').next();
        self.postgres
            .sql(name.expect("a URL names its database"), statement)
    }

    /// The number that a statement gives.
    pub fn count(&self, statement: &str) -> u64 {
        let said = self.sql(statement);
        said.parse()
            .unwrap_or_else(|_| panic!("{statement}: {said}"))
    }

    /// Writes the prompts and submits them; the batch's id.
    pub fn submit(&self, prompts: &str, arguments: &[&str]) -> String {
        self.home.write("in.jsonl", prompts);
        let command = ["submit", "in.jsonl"].iter().chain(arguments);
        self.rbee(command).exits(0).text().trim().to_owned()
    }

    /// Jobs of a batch that have their result.
    pub fn finished(&self, id: &str) -> u64 {
        self.count(&format!(
            "SELECT succeeded + failed FROM batches WHERE id = '{id}'"
        ))
    }

    /// Waits until so many jobs of a batch have their result.
    pub fn until_finished(&self, id: &str, jobs: u64) {
        wait::until(&format!("{jobs} finished jobs"), PATIENCE, || {
            (self.finished(id) >= jobs).then_some(())
        });
    }

    /// Waits for the end of a batch.
    pub fn until_done(&self, id: &str) {
        let status = format!("SELECT status FROM batches WHERE id = '{id}'");
        wait::until("the end of the batch", PATIENCE, || {
            let status = self.sql(&status);
            ["completed", "failed", "cancelled", "expired"]
                .contains(&status.as_str())
                .then_some(())
        });
    }

    /// The export of a batch.
    pub fn export(&self, id: &str) -> String {
        let _ = std::fs::remove_file(self.home.path("out.jsonl"));
        self.rbee(["export", id, "-o", "out.jsonl"]).exits(0);
        self.home.read("out.jsonl")
    }

    /// What `rbee status --json` says of a batch.
    pub fn status(&self, id: &str) -> Json {
        self.rbee(["status", id, "--json"]).exits(0).json()
    }

    /// Holds the rows of a finished batch against each other: no job lost, none twice, one result each, counters equal
    /// rows.
    pub fn check_rows(&self, id: &str) {
        let of = format!("batch_no = (SELECT batch_no FROM batches WHERE id = '{id}')");
        let row = self.sql(&format!(
            "SELECT total, succeeded, failed FROM batches WHERE id = '{id}'"
        ));
        let counts: Vec<u64> = row
            .split('|')
            .map(|count| count.parse().expect("a count is a number"))
            .collect();
        let [total, succeeded, failed] = counts[..] else {
            panic!("{row}");
        };
        assert_eq!(succeeded + failed, total, "every job has ended");
        let jobs = |state: &str| {
            self.count(&format!(
                "SELECT COUNT(*) FROM jobs WHERE {of} AND state IN ({state})"
            ))
        };
        assert_eq!(jobs("0, 1"), 0, "no job waits or is placed");
        assert_eq!(jobs("2"), succeeded, "succeeded jobs");
        assert_eq!(jobs("3, 4"), failed, "failed and cancelled jobs");
        let results =
            |what: &str| self.count(&format!("SELECT COUNT({what}) FROM results WHERE {of}"));
        assert_eq!(results("*"), total, "one result a job");
        assert_eq!(results("DISTINCT idx"), total, "no job has two results");
    }
}

/// The address that a server says it listens on.
pub fn listening(serve: &Running) -> String {
    wait::until("the server's address", PATIENCE, || {
        let said = serve.stderr();
        let (_, rest) = said.split_once("listening on ")?;
        let (address, _) = rest.split_once('\n')?;
        Some(address.trim().to_owned())
    })
}

/// Expects a process that was told to end to do so with exit 0 and without a panic in its log.
pub fn ends_well(process: Running) {
    process.terminate();
    let ended = process.wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(!ended.stderr.contains("panicked"), "{ended}");
}
