//! systemd, asked through its own program.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use crate::install::{Layout, Unit};

/// There while systemd is the machine's first process.
const RUNS: &str = "/run/systemd/system";

/// Whether a manager of this user's own answers.
pub fn answers_user() -> bool {
    user(&["show-environment"]).is_ok_and(|asked| asked.status.success())
}

pub fn is_active(unit: Unit) -> bool {
    user(&["is-active", "--quiet", &unit.file_name()]).is_ok_and(|asked| asked.status.success())
}

pub fn start(unit: Unit, layout: &Layout) -> Result<()> {
    let path = layout.unit(unit);
    if !path.is_file() {
        bail!(
            "{} is not there: `rbee install --user` puts it there",
            path.display()
        );
    }
    succeeds(&["daemon-reload"])?;
    succeeds(&["enable", "--now", &unit.file_name()])
}

pub fn stop(unit: Unit) -> Result<()> {
    succeeds(&["stop", &unit.file_name()])
}

pub fn log(unit: Unit, lines: u32) -> Result<String> {
    let asked = Command::new("journalctl")
        .args([
            "--user",
            "--no-pager",
            "--output=cat",
            "--unit",
            &unit.file_name(),
        ])
        .args(["--lines", &lines.to_string()])
        .output()
        .context("cannot start journalctl")?;
    Ok(String::from_utf8_lossy(&asked.stdout).into_owned())
}

/// Lets this user's services run while nobody is logged in; why not, if that is refused.
pub fn linger() -> Option<String> {
    let asked = Command::new("loginctl").arg("enable-linger").output();
    match asked {
        Ok(asked) if asked.status.success() => None,
        _ => Some(
            "services of this user end with its last session: `sudo loginctl enable-linger USER` changes that".to_owned(),
        ),
    }
}

/// The machine's own manager, for whoever may command it.
pub struct System;

impl System {
    /// If systemd runs this machine.
    pub fn running() -> Option<System> {
        Path::new(RUNS).is_dir().then_some(System)
    }

    /// Has the units read again, and makes the user that they run as.
    pub fn learn(&self, users: &Path) -> Result<()> {
        done(Command::new("systemd-sysusers").arg(users))?;
        done(Command::new("systemctl").arg("daemon-reload"))
    }

    pub fn enable(&self, unit: Unit) -> Result<()> {
        done(Command::new("systemctl").args(["enable", "--now", &unit.file_name()]))
    }

    /// Starts it again if it runs: its program is another one.
    pub fn restart(&self, unit: Unit) -> Result<()> {
        done(Command::new("systemctl").args(["try-restart", &unit.file_name()]))
    }

    /// Ends it for good. One that systemd does not know is ended already.
    pub fn disable(&self, unit: Unit) {
        let _ = Command::new("systemctl")
            .args(["disable", "--now", &unit.file_name()])
            .output();
    }
}

/// Ends a user's service for good.
pub fn disable(unit: Unit) {
    let _ = user(&["disable", "--now", &unit.file_name()]);
}

fn user(words: &[&str]) -> std::io::Result<Output> {
    Command::new("systemctl").arg("--user").args(words).output()
}

fn succeeds(words: &[&str]) -> Result<()> {
    done(Command::new("systemctl").arg("--user").args(words))
}

fn done(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} refused: {}", said.trim());
    }
    Ok(())
}
