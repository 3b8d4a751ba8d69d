//! launchd, asked through its own program: a user's services on macOS.

use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use super::background;
use crate::install::{Layout, Unit, label};

pub fn is_active(unit: Unit) -> bool {
    let asked = launchctl(&["print", &service(unit)]);
    asked.is_ok_and(|asked| String::from_utf8_lossy(&asked.stdout).contains("state = running"))
}

pub fn start(unit: Unit, layout: &Layout) -> Result<()> {
    let path = layout.unit(unit);
    if !path.is_file() {
        bail!(
            "{} is not there: `rbee install --user` puts it there",
            path.display()
        );
    }
    // One that was stopped is still known, with what was written before.
    let _ = launchctl(&["bootout", &service(unit)]);
    let path = path.display().to_string();
    let asked = launchctl(&["bootstrap", &domain(), &path])?;
    match asked.status.success() {
        true => Ok(()),
        false => bail!(
            "launchctl refused: {}",
            String::from_utf8_lossy(&asked.stderr).trim()
        ),
    }
}

/// Ends it; with the next session it starts again, as long as its list is there.
pub fn stop(unit: Unit) {
    let _ = launchctl(&["bootout", &service(unit)]);
}

pub fn log(unit: Unit, lines: u32) -> Result<String> {
    background::log(unit, lines)
}

fn domain() -> String {
    format!("gui/{}", rustix::process::getuid().as_raw())
}

fn service(unit: Unit) -> String {
    format!("{}/{}", domain(), label(unit))
}

fn launchctl(words: &[&str]) -> Result<Output> {
    let asked = Command::new("launchctl").args(words).output();
    asked.context("cannot start launchctl")
}
