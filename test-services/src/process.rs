//! A server process that ends with the test process, however that ends.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

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

/// A TCP port that nothing listened on just now.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port can be had");
    listener
        .local_addr()
        .expect("a listener has an address")
        .port()
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
