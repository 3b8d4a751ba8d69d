//! A server process that ends with the test process, however that ends.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

/// Tests take ports from here on: above those of the usual servers.
const LOWEST_PORT: u16 = 10_240;
/// Where the range of outgoing connections begins if nothing else is set.
const USUAL_FIRST_OUTGOING_PORT: u16 = 32_768;
/// How far apart processes begin to look for a port.
const PORTS_A_PROCESS: usize = 64;

/// Starts the server, says its process id, and ends it when the pipe from the test closes.
const KEEPER: &str = r#""$@" & server=$!; echo $server; read _; kill -KILL $server 2>/dev/null; wait $server 2>/dev/null"#;

/// A running server.
pub struct Server {
    keeper: Child,
    leash: Option<ChildStdin>,
    pid: u32,
}

impl Server {
    /// Starts `program`; with `user`, as that user (uid, gid). What it prints goes to `log`.
    pub fn start(
        program: &Path,
        arguments: &[String],
        user: Option<(u32, u32)>,
        log: &Path,
    ) -> Server {
        let log_file = std::fs::File::create(log).expect("the log can be made");
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(KEEPER)
            .arg("keeper")
            .arg(program)
            .args(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file);
        command.current_dir("/");
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        let mut keeper = command.spawn().expect("sh can be started");
        let leash = keeper.stdin.take();
        let mut said = BufReader::new(keeper.stdout.take().expect("stdout is a pipe"));
        let mut line = String::new();
        said.read_line(&mut line)
            .expect("the keeper says a process id");
        let pid = line.trim().parse().expect("a process id is a number");
        // The server writes there too, and nobody else reads it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Server { keeper, leash, pid }
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal by name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -{name} {}", self.pid))
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "kill -{name} {} failed",
            self.pid
        );
    }

    /// `kill -9`, and its end.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.leash.take());
        // It ends by itself once its pipe is closed.
        let _ = self.keeper.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// A TCP port of this machine that nothing listens on. No other test gets it as long as this process lives, and the system
/// gives it to no outgoing connection: whoever is started on it, and started again, finds it free.
pub fn free_port() -> u16 {
    // The UDP port of the same number, which nothing else here uses, says that a test has it.
    static CLAIMED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    let mut claimed = CLAIMED.lock().expect("no test panics there");
    let ports = LOWEST_PORT..first_outgoing_port().max(LOWEST_PORT + 1);
    // Processes begin at different places, so that they seldom meet.
    let begin = std::process::id() as usize * PORTS_A_PROCESS % ports.len();
    let mut candidates = ports.clone().cycle().skip(begin + claimed.len());
    for port in candidates.by_ref().take(ports.len()) {
        let address = (Ipv4Addr::LOCALHOST, port);
        if let Ok(claim) = UdpSocket::bind(address)
            && TcpListener::bind(address).is_ok()
        {
            claimed.push(claim);
            return port;
        }
    }
    panic!("no port is free between {} and {}", ports.start, ports.end);
}

/// The system takes ports from here on for connections that name none.
fn first_outgoing_port() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first = (range.ok()).and_then(|range| range.split_whitespace().next()?.parse().ok());
    first.unwrap_or(USUAL_FIRST_OUTGOING_PORT)
}

/// A program on PATH, or in one of `folders`.
///
/// # Panics
/// When it is nowhere: a test must not pass without its server.
pub fn program(name: &str, folders: &[PathBuf]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = folders.iter().cloned().chain(std::env::split_paths(&path));
    places
        .find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()))
        .unwrap_or_else(|| panic!("{name} is not installed: `cargo xtask test` installs it as root, else your package manager does"))
}
