//! The real `rbee` as a process: in a home of its own, with what it printed, how it ended and how much memory it took.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rbee_test_services::folder;
use serde_json::Value as Json;

use crate::tree::{Tree, resident_bytes};
use crate::wait;
use crate::workload::size;

pub use crate::tree::{signal, tree};

/// The longest that one command of a test may take on a slow, shared machine, and one with a million lines.
const PATIENCE: Duration = Duration::from_secs(300);
const PATIENCE_AT_FULL_SIZE: Duration = Duration::from_secs(1200);

/// How long a process runs between two stops.
const BETWEEN_STOPS: Duration = Duration::from_millis(100);

/// Nothing listens there: no test reaches a model hub by accident.
const DEAD_ENDPOINT: &str = "http://127.0.0.1:9";

/// The binary that is tested: `RBEE_BIN`, else the release build beside this test.
pub fn binary() -> PathBuf {
    if let Some(binary) = std::env::var_os("RBEE_BIN") {
        return PathBuf::from(binary);
    }
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("tests lie in deps/");
    let binary = folder.join("rbee");
    assert!(
        binary.is_file(),
        "{} is not there: run `cargo build --release`, or set RBEE_BIN",
        binary.display()
    );
    binary
}

/// The same program built with failpoints, beside the binary that is tested.
pub fn binary_with_failpoints() -> PathBuf {
    let binary = binary().with_file_name("rbee-with-failpoints");
    assert!(
        binary.is_file(),
        "{} is not there: `cargo xtask test` builds it",
        binary.display()
    );
    binary
}

/// A user's home: a folder with nothing in it, and `rbee` run there.
pub struct Home {
    dir: tempfile::TempDir,
}

impl Default for Home {
    fn default() -> Home {
        Home::new()
    }
}

impl Home {
    pub fn new() -> Home {
        Home {
            dir: folder::temporary(),
        }
    }

    /// A path in the home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("the home can be written");
        path
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// All files in the home, by their paths in it.
    pub fn files(&self) -> Vec<String> {
        let (mut files, mut folders) = (Vec::new(), vec![self.dir.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(name) = path.strip_prefix(self.dir.path()) {
                    files.push(name.display().to_string());
                }
            }
        }
        files.sort();
        files
    }

    /// The JSON values of a JSONL file.
    pub fn lines(&self, name: &str) -> Vec<Json> {
        let line = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"))
        };
        self.read(name).lines().map(line).collect()
    }

    /// `rbee` with these arguments, in this home.
    pub fn rbee<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Rbee {
        self.command(&binary(), arguments)
    }

    /// Another program in the same surroundings.
    pub fn command<S: AsRef<std::ffi::OsStr>>(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Rbee {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.dir.path());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["RBEE_", "XDG_", "HF_", "DBUS_", "EDITOR", "VISUAL"]
                .iter()
                .any(|start| text.starts_with(start))
            {
                command.env_remove(&name);
            }
        }
        command
            .env("HOME", self.dir.path())
            .env("HF_ENDPOINT", DEAD_ENDPOINT);
        Rbee {
            command,
            input: Vec::new(),
        }
    }
}

/// A command that has not started.
pub struct Rbee {
    command: Command,
    input: Vec<u8>,
}

impl Rbee {
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Rbee {
        self.command.env(name, value);
        self
    }

    /// The same command as the last words of another one, which becomes it.
    pub fn behind(mut self, prefix: &[String]) -> Rbee {
        let [program, words @ ..] = prefix else {
            return self;
        };
        let mut command = Command::new(program);
        command
            .args(words)
            .arg(self.command.get_program())
            .args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = self.command.get_current_dir() {
            command.current_dir(folder);
        }
        self.command = command;
        self
    }

    /// What it reads from stdin.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Rbee {
        self.input = bytes.into();
        self
    }

    pub fn start(mut self) -> Running {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let shown = format!("{:?}", self.command);
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stderr = child.stderr.take();
        let child = Tree::of(child);
        let mut stdin = stdin.expect("stdin is a pipe");
        let input = self.input;
        // A child that does not read its input closes the pipe; that is no failure of the test.
        std::thread::spawn(move || stdin.write_all(&input));
        let stdout = Output::read(stdout.expect("stdout is a pipe"));
        let stderr = Output::read(stderr.expect("stderr is a pipe"));
        Running {
            child,
            shown,
            stdout,
            stderr,
            peak_bytes: 0,
        }
    }

    /// Run to the end.
    pub fn run(self) -> Ended {
        self.start().wait()
    }

    /// Run to the end and expect this exit code.
    pub fn exits(self, code: i32) -> Ended {
        let ended = self.run();
        assert_eq!(ended.code, Some(code), "{ended}");
        ended
    }
}

/// One output stream, read line by line by a thread of its own.
struct Output {
    text: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Output {
    fn read(stream: impl Read + Send + 'static) -> Output {
        let text = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            loop {
                let mut line = Vec::new();
                match stream.read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) => kept.lock().expect("no reader panics").extend(line),
                }
            }
        });
        Output { text, reader }
    }

    fn now(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("no reader panics")).into_owned()
    }

    fn end(self) -> Vec<u8> {
        self.reader.join().expect("no reader panics");
        std::mem::take(&mut *self.text.lock().expect("no reader panics"))
    }
}

/// A process that runs, and ends with this at the latest: whoever wants to speak to a server keeps it.
pub struct Running {
    child: Tree,
    shown: String,
    stdout: Output,
    stderr: Output,
    peak_bytes: u64,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.now()
    }

    /// What it has written to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.now()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_some()
    }

    /// `kill -9` of the process and of what it started.
    pub fn kill(mut self) -> Ended {
        if !self.has_ended() {
            self.child.kill();
        }
        self.wait()
    }

    /// `kill -9` of the process alone: what it started must notice.
    pub fn kill_parent(self) -> Ended {
        signal("KILL", self.pid());
        self.wait()
    }

    /// Lets it run on until `look` finds something, and stops all of it then, and whenever something is looked for: what is
    /// found still holds when the process is killed or told something, however long looking takes.
    ///
    /// # Panics
    /// When it ends before.
    pub fn stopped_once<T>(&mut self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        wait::until_every(BETWEEN_STOPS, what, PATIENCE, || {
            self.signal_all("STOP");
            assert!(!self.has_ended(), "{} ended before {what}", self.shown);
            let found = look();
            if found.is_none() {
                self.signal_all("CONT");
            }
            found
        })
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        self.tell("INT");
    }

    pub fn terminate(&self) {
        self.tell("TERM");
    }

    /// One that is stopped hears of it too.
    fn tell(&self, name: &str) {
        signal(name, self.pid());
        self.signal_all("CONT");
    }

    /// Sends a signal, such as `STOP`, to the process and to all that it started.
    pub fn signal_all(&self, name: &str) {
        for pid in tree(self.pid()) {
            signal(name, pid);
        }
    }

    /// What it started and what that started, as process ids.
    pub fn children(&self) -> Vec<u32> {
        tree(self.pid()).split_off(1)
    }

    /// Wait for its end.
    pub fn wait(mut self) -> Ended {
        let what = format!("the end of {}", self.shown);
        let patience = size(PATIENCE_AT_FULL_SIZE, PATIENCE);
        let status = wait::until(&what, patience, || {
            self.peak_bytes = self.peak_bytes.max(resident_bytes(self.child.pid()));
            self.child.try_wait()
        });
        Ended {
            code: status.code(),
            status,
            shown: self.shown,
            stdout: self.stdout.end(),
            stderr: String::from_utf8_lossy(&self.stderr.end()).into_owned(),
            peak_bytes: self.peak_bytes,
        }
    }
}

/// How a process ended.
pub struct Ended {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
    /// Most memory that it and its children held, as far as it was seen.
    pub peak_bytes: u64,
    shown: String,
}

impl Ended {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("stdout is UTF-8")
    }

    /// stdout as one JSON value.
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// Expect these words on stderr, whatever their case.
    pub fn says(&self, words: &str) -> &Ended {
        let said = self.stderr.to_lowercase();
        assert!(
            said.contains(&words.to_lowercase()),
            "stderr does not say {words:?}: {self}"
        );
        self
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |text: &str| text.chars().take(4000).collect::<String>();
        writeln!(f, "{} ended with {}", self.shown, self.status)?;
        writeln!(
            f,
            "stdout: {}",
            shown(&String::from_utf8_lossy(&self.stdout))
        )?;
        write!(f, "stderr: {}", shown(&self.stderr))
    }
}
