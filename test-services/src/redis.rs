//! A Redis server without persistence.

use crate::process::{Server, free_port, program};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The longest that a start may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Redis of its own. Stopping and starting it again loses everything and keeps the port.
pub struct Redis {
    port: u16,
    arguments: Vec<String>,
    server: Option<Server>,
    dir: tempfile::TempDir,
}

impl Redis {
    /// Starts one.
    pub fn start() -> Redis {
        Redis::with(&[])
    }

    /// Starts one with more settings, such as `--maxmemory 4mb`.
    pub fn with(settings: &[&str]) -> Redis {
        let mut redis = Redis {
            port: free_port(),
            arguments: settings.iter().map(|word| (*word).to_owned()).collect(),
            server: None,
            dir: tempfile::tempdir().expect("a temporary folder can be made"),
        };
        redis.up();
        redis
    }

    /// `redis://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it again on the same port.
    pub fn up(&mut self) {
        let port = self.port.to_string();
        let dir = self.dir.path().display().to_string();
        let fixed = [
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            &dir,
        ];
        let mut arguments: Vec<String> = fixed.iter().map(|word| (*word).to_owned()).collect();
        arguments.extend(self.arguments.iter().cloned());
        let log = self.dir.path().join("redis.log");
        self.server = Some(Server::start(
            &program("redis-server", &[]),
            &arguments,
            None,
            &log,
        ));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                begun.elapsed() < PATIENCE,
                "redis-server did not start: see {}",
                log.display()
            );
            std::thread::yield_now();
        }
    }

    /// `kill -9`.
    pub fn down(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        self.server.as_ref().expect("it runs").signal(name);
    }
}
