//! The tiny parent of `rbee run`, `rbee worker` and a `rbee serve` that computes itself: it starts the same program as a child that does all the work, passes
//! signals on, waits, and starts it again if it crashed.
//!
//! Parent and child share two files without names, handed down as descriptors: a pipe on which the parent says "stop"
//! (and whose end tells the child that the parent is gone), and the crash journal. Why a crash is restarted or not is
//! decided in `verdict`; the child's side is in `child`.

mod child;
mod oom;
mod verdict;

pub use child::Child;

use std::fs::File;
use std::io::{self, PipeWriter, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result};
use rustix::io::{FdFlags, fcntl_setfd};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::talk::Talk;
use oom::OomKills;
use verdict::{Ending, Restarts, Verdict};

/// What the parent passes on when it gets a signal.
const STOP: &[u8] = b"s";

/// What is supervised.
pub struct Supervised {
    /// What people call it.
    noun: &'static str,
    /// What the child finds on its stdin.
    input: Option<File>,
    restarts: Restarts,
}

impl Supervised {
    /// A run, with the prompts if they can be read only once.
    pub fn run(input: Option<File>) -> Supervised {
        Supervised {
            noun: "run",
            input,
            restarts: Restarts::of_run(),
        }
    }

    /// A server with a node in its process.
    pub fn server() -> Supervised {
        Supervised {
            noun: "server",
            ..Supervised::node()
        }
    }

    /// A node, which is started again however often it is killed.
    pub fn node() -> Supervised {
        Supervised {
            noun: "node",
            input: None,
            restarts: Restarts::of_node(),
        }
    }
}

/// Runs this program again with the same arguments as a supervised child, until it ends by itself.
pub async fn supervise(talk: &Talk, supervised: Supervised) -> Outcome {
    let Supervised {
        noun,
        input,
        mut restarts,
    } = supervised;
    let journal = tempfile::tempfile().context("cannot make a temporary file")?;
    let mut after_crash = false;
    loop {
        let oom_before = OomKills::read();
        let status = run_child(&Legacy {
            journal: &journal,
            input: input.as_ref(),
            after_crash,
        })
        .await?;
        let ending = Ending::of(status, OomKills::read().more_than(&oom_before));
        let had_jobs = journal
            .metadata()
            .context("cannot read the crash journal")?
            .len()
            > 0;
        match restarts.judge(ending, had_jobs) {
            Verdict::Exit(code) => return Ok(code),
            Verdict::GiveUp => {
                return Err(Failure::Program(anyhow::anyhow!(
                    "the {noun} {ending}: {}",
                    verdict::ADVICE
                )));
            }
            Verdict::Restart => {
                after_crash = true;
                talk.warn(&format!(
                    "the {noun} {ending}; starting again, what is finished is kept"
                ));
                if !ending.is_evidence() {
                    // What nobody is to blame for must not look like a crash to the next child.
                    journal
                        .set_len(0)
                        .context("cannot empty the crash journal")?;
                }
            }
        }
    }
}

/// What is handed down to a child.
struct Legacy<'a> {
    journal: &'a File,
    /// What it finds on its stdin.
    input: Option<&'a File>,
    /// Another child went before it and did not end well.
    after_crash: bool,
}

async fn run_child(legacy: &Legacy<'_>) -> Result<ExitStatus> {
    let (for_child, control) = io::pipe().context("cannot make a pipe")?;
    let journal = legacy
        .journal
        .try_clone()
        .context("cannot hand the crash journal down")?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = std::process::Command::new(program);
    command.args(std::env::args_os().skip(1));
    command.env(child::CONTROL_VARIABLE, for_child.as_raw_fd().to_string());
    command.env(child::JOURNAL_VARIABLE, journal.as_raw_fd().to_string());
    if legacy.after_crash {
        command.env(child::CRASH_VARIABLE, "1");
    }
    if let Some(input) = legacy.input {
        command.stdin(Stdio::from(
            input.try_clone().context("cannot hand the prompts down")?,
        ));
        command.env(child::INPUT_VARIABLE, "1");
    }
    for descriptor in [for_child.as_fd(), journal.as_fd()] {
        fcntl_setfd(descriptor, FdFlags::empty()).context("cannot hand a descriptor down")?;
    }
    let mut child = tokio::process::Command::from(command)
        .spawn()
        .context("cannot start the child process")?;
    drop((for_child, journal));
    wait(&mut child, control).await
}

/// Waits for the child to end. Signals to this process become words on the pipe, never signals: in a terminal the child
/// gets Ctrl-C by itself already, and must not take one for two.
async fn wait(child: &mut tokio::process::Child, mut control: PipeWriter) -> Result<ExitStatus> {
    let mut int = signal(SignalKind::interrupt())?;
    let mut term = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            status = child.wait() => return status.context("cannot wait for the child process"),
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
        // A child that does not read any more is ending, and its end is what comes next.
        let _ = control.write_all(STOP);
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> ExitCode {
        match ending {
            Ending::Exited(code) => code,
            Ending::Stopped => ExitCode::Interrupted,
            Ending::Crashed(_) | Ending::OutOfMemory | Ending::Killed(_) => ExitCode::Error,
        }
    }
}
