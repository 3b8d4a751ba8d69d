//! A process with all that it started: signals to it, its memory, and its end.

use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// The longest that killed processes may take to have their last turn.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process and what it started. Both end with this.
pub(crate) struct Tree(Child);

impl Tree {
    pub fn of(child: Child) -> Tree {
        Tree(child)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a child can be waited for")
    }

    /// `kill -9` of all of it, and its end.
    pub fn kill(&mut self) {
        // One that stands cannot start another one in place of what is killed.
        signal("STOP", self.pid());
        let all = tree(self.pid());
        all.iter().for_each(|pid| signal("KILL", *pid));
        self.0.wait().expect("a child can be waited for");
        // The others are dead once they have had their last turn: until then they hold locks and ports.
        wait::until("what it started to die", PATIENCE, || {
            all[1..].iter().all(|pid| is_dead(*pid)).then_some(())
        });
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.kill();
        }
    }
}

/// Sends a signal. A process that is gone already is passed over.
pub fn signal(name: &str, pid: u32) {
    let signal = match name {
        "ABRT" => Signal::ABORT,
        "CONT" => Signal::CONT,
        "INT" => Signal::INT,
        "KILL" => Signal::KILL,
        "STOP" => Signal::STOP,
        "TERM" => Signal::TERM,
        other => panic!("no test sends {other}"),
    };
    let pid = Pid::from_raw(pid.cast_signed()).expect("no process has the number 0");
    let _ = kill_process(pid, signal);
}

/// Whether a process is gone, or waits only for somebody to ask how it ended.
fn is_dead(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, fields)| &fields[..1]);
    matches!(state, None | Some("Z" | "X"))
}

/// A process and its descendants, itself first.
pub fn tree(pid: u32) -> Vec<u32> {
    let mut pids = vec![pid];
    let mut next = 0;
    while let Some(&parent) = pids.get(next) {
        next += 1;
        let Ok(threads) = std::fs::read_dir(format!("/proc/{parent}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let children =
                std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            pids.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
    }
    pids
}

/// The peak resident memory of a process and its descendants, as the kernel counts it.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let peak = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    };
    tree(pid).into_iter().map(peak).sum()
}
