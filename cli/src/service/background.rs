//! A service as a process of its own in the background, where no systemd of the user runs.
//!
//! Which process it is lies in a file, with the moment that it began: process ids are used again.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use etcetera::BaseStrategy;
use rustix::process::{Pid, Signal, kill_process};

use crate::install::{Unit, remove, write_file};

/// A service that ends by itself within this time after its first word could not be started.
const PROVEN: Duration = Duration::from_secs(1);
/// A service that starts says something, and one that cannot says why: on a slow machine within this time.
const SPEAKS_WITHIN: Duration = Duration::from_secs(20);
/// How long a service may take to end: a node's grace time, and what comes after it.
const END_PATIENCE: Duration = Duration::from_secs(180);
/// How often it is looked at meanwhile.
const POLL: Duration = Duration::from_millis(50);
/// What is read of a log to find its last lines.
const LOG_TAIL_BYTES: u64 = 256 << 10;

/// A process, as long as it lives.
pub struct Process {
    pid: Pid,
}

/// The service's process, if it runs.
pub fn running(unit: Unit) -> Result<Option<Process>> {
    let Ok(text) = std::fs::read_to_string(pid_file(unit)?) else {
        return Ok(None);
    };
    let mut words = text.split_whitespace();
    let (pid, began) = (
        words.next().and_then(|word| word.parse().ok()),
        words.next(),
    );
    let Some(pid) = pid.and_then(Pid::from_raw) else {
        return Ok(None);
    };
    let same = began_at(pid).is_some_and(|found| Some(found.as_str()) == began);
    Ok(same.then_some(Process { pid }))
}

/// Starts the service, and sees that it does not end at once.
pub fn start(unit: Unit, binary: &Path) -> Result<()> {
    let log = log_file(unit)?;
    let folder = log.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    let said_before = output.metadata()?.len();
    let mut child = Command::new(binary)
        .arg(unit.name())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        // Signals of the terminal, and of the connection that it was started over, are not for it.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    let pid = Pid::from_child(&child);
    let began = began_at(pid).unwrap_or_default();
    let text = format!("{} {began}\n", pid.as_raw_nonzero());
    write_file(&pid_file(unit)?, text.as_bytes(), 0o600)?;
    let begun = Instant::now();
    let mut spoke_at = None;
    while spoke_at.is_none_or(|at: Instant| at.elapsed() < PROVEN) {
        if let Some(status) = child.try_wait()? {
            remove(&pid_file(unit)?)?;
            let said = self::log(unit, 5)?;
            bail!(
                "rbee {} ended at once with {status}: {}",
                unit.name(),
                said.trim()
            );
        }
        let said = std::fs::metadata(&log).is_ok_and(|log| log.len() > said_before);
        if spoke_at.is_none() && (said || begun.elapsed() > SPEAKS_WITHIN) {
            spoke_at = Some(Instant::now());
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// Has the service end, and waits for it.
pub fn stop(unit: Unit) -> Result<()> {
    let Some(process) = running(unit)? else {
        return Ok(());
    };
    // It may end in this very moment.
    let _ = kill_process(process.pid, Signal::TERM);
    let begun = Instant::now();
    while running(unit)?.is_some() {
        if begun.elapsed() > END_PATIENCE {
            bail!(
                "rbee {} (process {}) did not end in {} s",
                unit.name(),
                process.pid.as_raw_nonzero(),
                END_PATIENCE.as_secs()
            );
        }
        std::thread::sleep(POLL);
    }
    remove(&pid_file(unit)?)?;
    Ok(())
}

/// The last lines that the service said.
pub fn log(unit: Unit, lines: u32) -> Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let Ok(mut file) = std::fs::File::open(log_file(unit)?) else {
        return Ok(String::new());
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let from = all.len().saturating_sub(lines as usize);
    Ok(all[from..].iter().map(|line| format!("{line}\n")).collect())
}

fn pid_file(unit: Unit) -> Result<PathBuf> {
    Ok(state_dir()?.join(format!("{}.pid", unit.name())))
}

/// Where a service says what it does.
pub fn log_file(unit: Unit) -> Result<PathBuf> {
    Ok(state_dir()?.join(format!("{}.log", unit.name())))
}

fn state_dir() -> Result<PathBuf> {
    let homes = etcetera::choose_base_strategy().map_err(|error| anyhow!("{error}: set HOME"))?;
    let state = homes.state_dir().unwrap_or_else(|| homes.data_dir());
    Ok(state.join("rbee"))
}

/// When a process began, in the system's ticks; `None` once it has ended, also while nobody has taken note of its end.
fn began_at(pid: Pid) -> Option<String> {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let stat = std::fs::read_to_string(path).ok()?;
    // The program's name stands in parentheses, and may hold blanks and parentheses itself.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    // The 22nd field of the line is the 20th behind the name.
    let began = fields.nth(18)?;
    (!["Z", "X"].contains(&state)).then(|| began.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_beginning_and_gone_when_it_ended() {
        let own = rustix::process::getpid();
        assert!(began_at(own).is_some_and(|ticks| ticks.parse::<u64>().is_ok()));
        let mut child = Command::new("true").spawn().unwrap();
        let pid = Pid::from_child(&child);
        child.wait().unwrap();
        assert_eq!(began_at(pid), None);
    }
}
