//! A Postgres server, with as many databases as tests want.

use crate::folder;
use crate::process::{Server, free_port, program};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// The longest that a start may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// A Postgres of its own. Stopping and starting it again keeps its data and its port.
pub struct Postgres {
    port: u16,
    settings: Vec<String>,
    server: Mutex<Option<Server>>,
    dir: tempfile::TempDir,
    databases: AtomicU32,
}

impl Postgres {
    /// One server for all tests of this process.
    pub fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Postgres::with(&["-c", "fsync=off"]))
    }

    /// Starts one that keeps what it committed, as a real one does.
    pub fn start() -> Postgres {
        Postgres::with(&[])
    }

    /// Starts one with more settings, such as `-c max_connections=20`.
    pub fn with(settings: &[&str]) -> Postgres {
        let dir = folder::temporary();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("the folder's mode can be set");
        let data = dir.path().join("data");
        copy(&new_data(), &data);
        let postgres = Postgres {
            port: free_port(),
            settings: settings.iter().map(|word| (*word).to_owned()).collect(),
            server: Mutex::new(None),
            dir,
            databases: AtomicU32::new(0),
        };
        postgres.up();
        postgres
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a new, empty database.
    pub fn database(&self) -> String {
        let name = format!("rbee_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The URL of a database by its name.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs a statement by `psql` and returns what it printed, without headers.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let ran = Command::new(tool("psql"))
            .args([
                "-X",
                "-A",
                "-t",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                &self.url(database),
                "-c",
                statement,
            ])
            .output()
            .expect("psql can be started");
        assert!(
            ran.status.success(),
            "{statement}: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    }

    /// Starts it again.
    pub fn up(&self) {
        let fixed = [
            "-D",
            &self.data().display().to_string(),
            "-p",
            &self.port.to_string(),
            "-h",
            "127.0.0.1",
            "-k",
            "",
        ]
        .map(str::to_owned);
        let arguments: Vec<String> = fixed
            .into_iter()
            .chain(self.settings.iter().cloned())
            .collect();
        // A killed server leaves this behind, and its process id may be another process's by now.
        let _ = std::fs::remove_file(self.data().join("postmaster.pid"));
        let log = self.dir.path().join("postgres.log");
        let server = Server::start(&tool("postgres"), &arguments, user(), &log);
        *self.server.lock().expect("no test panics there") = Some(server);
        let begun = Instant::now();
        while !self.answers() {
            assert!(
                begun.elapsed() < PATIENCE,
                "postgres did not start: {}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
        }
    }

    /// `kill -9`: the server's processes notice, and its next start recovers.
    pub fn down(&self) {
        if let Some(server) = self.server.lock().expect("no test panics there").take() {
            let children = format!("pkill -KILL -P {0}; kill -KILL {0}", server.pid());
            // Some of them may have gone already.
            let _ = Command::new("sh").args(["-c", &children]).status();
            server.kill();
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn answers(&self) -> bool {
        if TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            std::thread::yield_now();
            return false;
        }
        let asked = Command::new(tool("psql"))
            .args(["-X", "-d", &self.url("postgres"), "-c", "SELECT 1"])
            .output();
        asked.is_ok_and(|asked| asked.status.success())
    }
}

/// A data folder as `initdb` leaves it. Making one takes seconds and copying it does not, so that it is kept among the
/// temporary files of the machine, by the version of Postgres.
fn new_data() -> PathBuf {
    let version = Command::new(tool("initdb")).arg("--version").output();
    let version = version.expect("initdb can be started").stdout;
    let version: String = String::from_utf8_lossy(&version)
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '.')
        .collect();
    let uid = rustix::process::getuid().as_raw();
    let kept = std::env::temp_dir().join(format!("rbee-{version}-{uid}"));
    if !kept.is_dir() {
        let dir = folder::temporary();
        if let Some((uid, gid)) = user() {
            chown(dir.path(), Some(uid), Some(gid)).expect("root can give a folder away");
        }
        initialise(dir.path());
        // Another process may have been quicker: its folder is as good.
        if std::fs::rename(dir.path(), &kept).is_ok() {
            let _ = dir.keep();
        }
    }
    kept
}

/// Copies a folder with its owners and modes.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "{} cannot be copied",
        from.display()
    );
}

/// Makes a data folder that lets every local user in: it is a test's own.
fn initialise(data: &Path) {
    use std::os::unix::process::CommandExt;
    let mut initdb = Command::new(tool("initdb"));
    initdb.args([
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale",
        "C.UTF-8",
        "--no-sync",
        "-D",
    ]);
    initdb.arg(data).current_dir("/");
    if let Some((uid, gid)) = user() {
        initdb.uid(uid).gid(gid);
    }
    let made = initdb.output().expect("initdb can be started");
    assert!(
        made.status.success(),
        "initdb: {}",
        String::from_utf8_lossy(&made.stderr)
    );
}

/// Debian keeps the servers' programs of each version in a folder of its own; the newest one.
fn tool(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    program(name, &folders)
}

/// Postgres does not run as root: then it runs as the user that its package made.
fn user() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("there are users");
    let fields = users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&"postgres"))
        .expect("root runs Postgres as the user `postgres`, which its package makes");
    let number = |at: usize| fields[at].parse().expect("a user has numbers");
    Some((number(2), number(3)))
}
