//! A cluster that a test disturbs: coordinators and nodes by name, killed and started again, and what must hold once
//! all of it has ended.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Coordinator, PATIENCE};
use crate::process::{Ended, Running};
use crate::wait;
use crate::workload::{Workload, size};

/// How long a connection to Postgres may outlive its process.
const CONNECTIONS_GO: Duration = Duration::from_secs(120);
/// What members log: enough to see who leads and what is mended.
const LOG: &str = "warn,rbee_queue=info,rbee_scheduler=info,rbee_worker=info";
/// Characters of each log that a failed test shows.
const LOG_SHOWN: usize = 6000;

/// How the members of a fleet are started.
#[derive(Debug, Clone)]
pub struct Pace {
    pub lease: Duration,
    pub heartbeat: Duration,
    pub sweep: Duration,
    pub slots: u32,
    /// Of the stub engine; nothing: the real one.
    pub token: Option<Duration>,
}

impl Pace {
    /// Leases of five seconds at full size; shorter ones where the test shall be quick.
    pub fn usual() -> Pace {
        let ms = Duration::from_millis;
        Pace {
            lease: size(ms(5000), ms(2000)),
            heartbeat: size(ms(1000), ms(400)),
            sweep: size(ms(1000), ms(300)),
            slots: 4,
            token: Some(ms(5)),
        }
    }

    /// The same with another lease: one of half a minute ends for no node that lives, however busy the machine is.
    pub fn lease_s(self, seconds: u64) -> Pace {
        Pace {
            lease: Duration::from_secs(seconds),
            ..self
        }
    }

    /// The same with another time for a token.
    pub fn token_ms(self, ms: u64) -> Pace {
        Pace {
            token: Some(Duration::from_millis(ms)),
            ..self
        }
    }

    /// The same with the real engine.
    pub fn real(self) -> Pace {
        Pace {
            token: None,
            ..self
        }
    }

    fn of_server(&self) -> Vec<String> {
        flags(&[
            ("--engine", self.engine().to_owned()),
            ("--lease-ms", self.lease.as_millis().to_string()),
            ("--sweep-ms", self.sweep.as_millis().to_string()),
        ])
    }

    fn of_node(&self) -> Vec<String> {
        let token = self.token.map(|token| token.as_micros().to_string());
        let of_stub = token.map(|token| flags(&[("--stub-token-us", token)]));
        let mut all = flags(&[
            ("--engine", self.engine().to_owned()),
            ("--lease-ms", self.lease.as_millis().to_string()),
            ("--heartbeat-ms", self.heartbeat.as_millis().to_string()),
            ("--slots", self.slots.to_string()),
        ]);
        all.extend(of_stub.into_iter().flatten());
        all
    }

    fn engine(&self) -> &'static str {
        match self.token {
            Some(_) => "stub",
            None => "model",
        }
    }
}

fn flags(pairs: &[(&str, String)]) -> Vec<String> {
    let pair = |(name, value): &(&str, String)| [(*name).to_owned(), value.clone()];
    pairs.iter().flat_map(pair).collect()
}

/// A node by name.
pub struct Member {
    pub name: String,
    pub process: Running,
}

/// A cluster with its members and all that those said which have ended.
pub struct Fleet {
    pub cluster: Cluster,
    pub pace: Pace,
    pub servers: Vec<Coordinator>,
    pub nodes: Vec<Member>,
    /// What a member finds in its environment beside the cluster's addresses.
    pub environment: Vec<(String, String)>,
    /// What stands before a node's command.
    pub prefix: Vec<String>,
    ended: Vec<String>,
}

/// A job under an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    pub index: u64,
    pub attempt: u64,
}

impl Fleet {
    /// A cluster without members.
    pub fn of(cluster: Cluster, pace: Pace) -> Fleet {
        Fleet {
            cluster,
            pace,
            servers: Vec::new(),
            nodes: Vec::new(),
            environment: vec![("RBEE_LOG".to_owned(), LOG.to_owned())],
            prefix: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// One coordinator and these nodes.
    pub fn start(pace: Pace, nodes: &[&str]) -> Fleet {
        let mut fleet = Fleet::of(Cluster::new(), pace);
        fleet.serve();
        for name in nodes {
            fleet.node(name);
        }
        fleet
    }

    /// Starts one more coordinator; commands go to it.
    pub fn serve(&mut self) -> &mut Coordinator {
        let flags = self.pace.of_server();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let server = self.cluster.serve_with(&flags, &self.environment);
        self.servers.push(server);
        self.servers.last_mut().expect("one was just pushed")
    }

    /// Starts a node and waits for its lease.
    pub fn node(&mut self, name: &str) -> &mut Member {
        let before = self.joined(name);
        self.start_node(name, &[]);
        wait::until("the node's lease", PATIENCE, || {
            (self.joined(name) > before).then_some(())
        });
        self.nodes.last_mut().expect("one was just pushed")
    }

    /// Starts a node with more flags and waits for nothing.
    pub fn start_node(&mut self, name: &str, more: &[&str]) -> &mut Member {
        let mut flags = self.pace.of_node();
        flags.extend(more.iter().map(|word| (*word).to_owned()));
        let command = ["worker", "--name", name].map(str::to_owned);
        let command: Vec<&str> = (command.iter().chain(&flags)).map(String::as_str).collect();
        let mut rbee = self.cluster.member(&[], &command).behind(&self.prefix);
        for (name, value) in &self.environment {
            rbee = rbee.env(name, value);
        }
        self.nodes.push(Member {
            name: name.to_owned(),
            process: rbee.start(),
        });
        self.nodes.last_mut().expect("one was just pushed")
    }

    fn joined(&self, name: &str) -> u64 {
        (self.cluster).count(&format!("SELECT COUNT(*) FROM nodes WHERE name = '{name}'"))
    }

    /// The instance of a name's newest lease that was not judged to be over.
    pub fn instance(&self, name: &str) -> String {
        self.cluster.sql(&format!(
            "SELECT instance FROM nodes WHERE name = '{name}' AND lost = 0 ORDER BY joined_at_us DESC LIMIT 1"
        ))
    }

    /// `kill -9` of a node and of all that it started.
    pub fn kill_node(&mut self, name: &str) {
        let at = self.place_of(name);
        let ended = self.nodes.remove(at).process.kill();
        self.note(name, &ended);
    }

    /// `kill -9` of a coordinator, by its place.
    pub fn kill_server(&mut self, at: usize) {
        let ended = self.servers.remove(at).process.kill();
        self.note("coordinator", &ended);
    }

    /// Has commands go to the coordinator at this place.
    pub fn speak_to(&mut self, at: usize) {
        self.cluster.url.clone_from(&self.servers[at].url);
    }

    /// A node's place among the members.
    pub fn place_of(&self, name: &str) -> usize {
        let found = self.nodes.iter().position(|node| node.name == name);
        found.unwrap_or_else(|| panic!("there is no node {name}"))
    }

    /// A node's process.
    pub fn process(&self, name: &str) -> &Running {
        &self.nodes[self.place_of(name)].process
    }

    /// Keeps what an ended member said, for the checks at the end.
    pub fn note(&mut self, who: &str, ended: &Ended) {
        self.ended.push(format!(
            "{who} ended with {}\n{}",
            ended.status, ended.stderr
        ));
    }

    /// Placed jobs of a batch, of one node or of all.
    pub fn placed(&self, id: &str, instance: Option<&str>) -> Vec<Placed> {
        let whose = instance.map_or_else(String::new, |node| format!("AND node = '{node}'"));
        let found = self.cluster.sql(&format!(
            "SELECT idx, attempt FROM jobs WHERE state = 1 {whose} AND batch_no = \
             (SELECT batch_no FROM batches WHERE id = '{id}')"
        ));
        let row = |row: &str| {
            let (index, attempt) = row.split_once('|')?;
            Some(Placed {
                index: index.parse().ok()?,
                attempt: attempt.parse().ok()?,
            })
        };
        found.lines().filter_map(row).collect()
    }

    /// Waits until each of these jobs has ended or runs under a newer attempt; how long that took.
    pub fn until_again(&self, id: &str, jobs: &[Placed]) -> Duration {
        let begun = Instant::now();
        wait::until("lost jobs to run again", PATIENCE, || {
            let now = self.placed(id, None);
            let queued = self.cluster.sql(&format!(
                "SELECT idx FROM jobs WHERE state = 0 AND batch_no = \
                 (SELECT batch_no FROM batches WHERE id = '{id}')"
            ));
            let waits = |job: &Placed| {
                now.contains(job) || queued.lines().any(|idx| idx == job.index.to_string())
            };
            (!jobs.iter().any(waits)).then_some(())
        });
        begun.elapsed()
    }

    /// What all members have said, those that ended and those that run.
    pub fn logs(&self) -> Vec<String> {
        let servers = self.servers.iter().map(|server| &server.process);
        let running = servers.chain(self.nodes.iter().map(|node| &node.process));
        let said = running.map(Running::stderr);
        self.ended.iter().cloned().chain(said).collect()
    }

    /// Waits for the end of a batch, holds all that must be true of it, ends the members, and looks for what they left.
    pub fn finish(mut self, id: &str, work: &Workload) {
        self.cluster.until_done(id);
        self.check(id, work);
        self.end();
    }

    /// What must hold of a finished batch.
    pub fn check(&self, id: &str, work: &Workload) {
        self.cluster.check_rows(id);
        work.check(&self.cluster.export(id));
        let of = format!("batch_no = (SELECT batch_no FROM batches WHERE id = '{id}')");
        let blamed =
            format!("SELECT COUNT(*) FROM jobs WHERE {of} AND (blamed <> 0 OR crashes <> 0)");
        assert_eq!(self.cluster.count(&blamed), 0, "jobs that are blamed");
        let failed = format!("SELECT failed FROM batches WHERE id = '{id}'");
        assert_eq!(self.cluster.count(&failed), 0, "jobs that failed");
    }

    /// Ends all members, nodes first, and looks for what they left.
    pub fn end(&mut self) {
        for node in std::mem::take(&mut self.nodes) {
            let name = node.name;
            self.end_member(&name, node.process);
        }
        self.let_lost_nodes_go();
        for server in std::mem::take(&mut self.servers) {
            self.end_member("coordinator", server.process);
        }
        for log in &self.ended {
            assert!(!log.contains("panicked"), "{log}");
        }
        self.check_leftovers();
    }

    fn end_member(&mut self, who: &str, process: Running) {
        process.terminate();
        let ended = process.wait();
        self.note(who, &ended);
        assert_eq!(ended.code, Some(0), "{who}: {ended}");
    }

    /// Leases of killed nodes end by themselves, and a coordinator judges them.
    fn let_lost_nodes_go(&self) {
        if self.servers.is_empty() {
            return;
        }
        wait::until("leases of killed nodes to be judged", PATIENCE, || {
            let alive = self
                .cluster
                .count("SELECT COUNT(*) FROM nodes WHERE lost = 0");
            (alive == 0).then_some(())
        });
        wait::until("inboxes of killed nodes to go", PATIENCE, || {
            self.cluster.redis.keys().is_empty().then_some(())
        });
    }

    /// No process, lease, inbox, connection or file of the members is there any more.
    fn check_leftovers(&self) {
        let left = processes_in(&self.cluster.home.path(""));
        assert!(left.is_empty(), "processes are left: {left:?}");
        assert_eq!(self.cluster.redis.keys(), [""; 0], "keys are left in Redis");
        let connections = "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'rbee'";
        wait::until("connections to go", CONNECTIONS_GO, || {
            (self.cluster.count(connections) == 0).then_some(())
        });
        let placed = "SELECT COUNT(*) FROM jobs WHERE state = 1";
        assert_eq!(self.cluster.count(placed), 0, "jobs are left placed");
        let hidden = "SELECT COUNT(*) FROM batches WHERE visible = 0";
        assert_eq!(self.cluster.count(hidden), 0, "half batches are left");
        let files = self.cluster.home.files();
        let left: Vec<_> = files.iter().filter(|path| is_temporary(path)).collect();
        assert!(left.is_empty(), "temporary files are left: {left:?}");
    }
}

/// A name that stands for something unfinished.
pub fn is_temporary(path: &str) -> bool {
    let marks = ["spool/", ".tmp", ".part", ".incomplete", "/."];
    let path = path.trim_start_matches(".local/");
    marks.iter().any(|mark| path.contains(mark))
}

/// Processes whose home is this folder.
pub fn processes_in(home: &Path) -> Vec<String> {
    let found = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let home = format!("HOME={}", home.display());
    let home = home.trim_end_matches('/').as_bytes();
    let has = |entry: &std::fs::DirEntry| {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        (environment.split(|byte| *byte == 0)).any(|variable| variable == home)
    };
    let name = |entry: std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        format!("{}: {line}", entry.file_name().to_string_lossy())
    };
    found.filter(has).map(name).collect()
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for log in self.logs() {
            let from = log.len().saturating_sub(LOG_SHOWN);
            let from = (from..log.len()).find(|at| log.is_char_boundary(*at));
            println!("--- {}", &log[from.unwrap_or(0)..]);
        }
    }
}
