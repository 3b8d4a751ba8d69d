//! A Redis server without persistence.

use crate::certificates::Certificates;
use crate::folder;
use crate::process::{Server, free_port, program};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

/// The longest that a start may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A Redis of its own. Stopping and starting it again loses everything and keeps the port.
pub struct Redis {
    port: u16,
    scheme: &'static str,
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
        let port = free_port();
        let listens = ["--port", &port.to_string()].map(str::to_owned);
        Redis::listening(port, "redis", listens.to_vec(), settings)
    }

    /// Starts one that speaks TLS only.
    pub fn secure(certificates: &Certificates, settings: &[&str]) -> Redis {
        let port = free_port();
        let listens = [
            "--port",
            "0",
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &certificates.path("server.pem"),
            "--tls-key-file",
            &certificates.path("server.key"),
            "--tls-ca-cert-file",
            &certificates.path("ca.pem"),
        ];
        let listens = listens.map(str::to_owned).to_vec();
        Redis::listening(port, "rediss", listens, settings)
    }

    fn listening(
        port: u16,
        scheme: &'static str,
        listens: Vec<String>,
        settings: &[&str],
    ) -> Redis {
        let settings = settings.iter().map(|word| (*word).to_owned());
        let mut redis = Redis {
            port,
            scheme,
            arguments: listens.into_iter().chain(settings).collect(),
            server: None,
            dir: folder::temporary(),
        };
        redis.up();
        redis
    }

    /// `redis://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it again on the same port.
    pub fn up(&mut self) {
        let dir = self.dir.path().display().to_string();
        let fixed = [
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

    /// The names of all keys, in order.
    pub fn keys(&self) -> Vec<String> {
        let said = self.ask(&["KEYS", "*"]);
        let mut keys: Vec<String> = said.lines().map(str::to_owned).collect();
        keys.sort();
        keys
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        self.server.as_ref().expect("it runs").signal(name);
    }

    /// What it answers to a command, as `redis-cli` shows it. For servers without TLS and password.
    pub fn ask(&self, words: &[&str]) -> String {
        ask(self.port, words)
    }
}

/// What the server at a port answers, as `redis-cli` shows it.
pub(crate) fn ask(port: u16, words: &[&str]) -> String {
    let asked = Command::new(program("redis-cli", &[]))
        .args(["-p", &port.to_string()])
        .args(words)
        .output()
        .expect("redis-cli can be started");
    String::from_utf8_lossy(&asked.stdout).trim().to_owned()
}

/// Asks until the answer is one that is wanted.
pub(crate) fn until(port: u16, words: &[&str], wanted: impl Fn(&str) -> bool) {
    let begun = Instant::now();
    loop {
        let answer = ask(port, words);
        if wanted(&answer) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{words:?} at {port}: {answer}");
    }
}
