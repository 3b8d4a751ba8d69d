//! A Redis master with a replica, and Sentinels that watch over them.

use crate::folder;
use crate::process::{Server, free_port, program};
use crate::redis::{Redis, until};

/// Milliseconds without an answer after which the master counts as gone: longer than a busy machine makes it wait.
const DOWN_AFTER_MS: u32 = 3_000;
/// Milliseconds after which a failover that does not go on is tried again.
const FAILOVER_TIMEOUT_MS: u32 = 3_000;
/// How many Sentinels must agree that the master is gone.
const QUORUM: usize = 2;
/// How many there are.
const SENTINELS: usize = 3;

/// Master, replica and Sentinels.
pub struct Sentinels {
    /// The master of the beginning.
    pub master: Redis,
    /// What becomes master when that one is gone.
    pub replica: Redis,
    ports: Vec<u16>,
    _sentinels: Vec<Server>,
    _dir: tempfile::TempDir,
}

impl Sentinels {
    /// The name by which they know the master.
    pub const MASTER: &str = "main";

    /// Starts all, and waits until they know each other.
    pub fn start() -> Sentinels {
        let master = Redis::start();
        let port = master.port().to_string();
        let replica = Redis::with(&[
            "--replicaof",
            "127.0.0.1",
            &port,
            "--repl-diskless-sync-delay",
            "0",
        ]);
        until(replica.port(), &["INFO", "replication"], |info| {
            info.contains("master_link_status:up")
        });
        let dir = folder::temporary();
        let name = Sentinels::MASTER;
        let (mut ports, mut sentinels) = (Vec::new(), Vec::new());
        for at in 0..SENTINELS {
            let own = free_port();
            let folder = dir.path().join(at.to_string());
            std::fs::create_dir(&folder).expect("the folder can be written");
            let config = folder.join("sentinel.conf");
            // A Sentinel writes what it learns into its configuration.
            let text = format!(
                "port {own}\nbind 127.0.0.1\ndir {}\nsentinel monitor {name} 127.0.0.1 {port} {QUORUM}\n\
                 sentinel down-after-milliseconds {name} {DOWN_AFTER_MS}\n\
                 sentinel failover-timeout {name} {FAILOVER_TIMEOUT_MS}\n",
                folder.display()
            );
            std::fs::write(&config, text).expect("the folder can be written");
            let arguments = [config.display().to_string(), "--sentinel".to_owned()];
            let log = folder.join("sentinel.log");
            sentinels.push(Server::start(
                &program("redis-server", &[]),
                &arguments,
                None,
                &log,
            ));
            ports.push(own);
        }
        let made = Sentinels {
            master,
            replica,
            ports,
            _sentinels: sentinels,
            _dir: dir,
        };
        let others = format!("num-other-sentinels\n{}", SENTINELS - 1);
        for port in &made.ports {
            until(*port, &["SENTINEL", "MASTER", name], |said| {
                said.contains(&others) && said.contains("num-slaves\n1")
            });
        }
        made
    }

    /// `redis+sentinel://` with all Sentinels.
    pub fn url(&self) -> String {
        let ports = self.ports.iter().map(|port| format!("127.0.0.1:{port}"));
        let ports: Vec<String> = ports.collect();
        format!("redis+sentinel://{}/{}", ports.join(","), Sentinels::MASTER)
    }

    /// `kill -9` of the master, and its replica in its place.
    pub fn fail_over(&mut self) {
        self.master.down();
        until(self.replica.port(), &["INFO", "replication"], |info| {
            info.contains("role:master")
        });
    }
}
