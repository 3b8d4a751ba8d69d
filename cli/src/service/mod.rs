//! Services of this user: `rbee serve` and `rbee worker` that go on without a terminal.
//!
//! Where a systemd of the user's own answers, it runs the units that were installed; on macOS launchd does. Elsewhere the program is started in
//! the background, under the supervisor that it has anyway; then it does not outlive a restart of the machine, and says so.

mod background;
mod launchd;
mod systemd;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::install::{Layout, Manager, Unit};

pub use background::log_file;
pub use systemd::System;

/// Who runs a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runner {
    Systemd,
    Launchd,
    Background,
}

impl Runner {
    /// Who runs this user's services on this machine.
    pub fn of_user() -> Runner {
        match (Manager::here(), systemd::answers_user()) {
            (Manager::Launchd, _) => Runner::Launchd,
            (Manager::Systemd, true) => Runner::Systemd,
            (Manager::Systemd, false) => Runner::Background,
        }
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Runner::Systemd => "systemd --user",
            Runner::Launchd => "launchd",
            Runner::Background => "a background process",
        }
    }
}

/// A service of this user.
pub struct Service<'a> {
    pub unit: Unit,
    pub layout: &'a Layout,
    pub runner: Runner,
}

impl Service<'_> {
    /// Whether it runs now.
    pub fn is_running(&self) -> Result<bool> {
        match self.runner {
            Runner::Systemd => Ok(systemd::is_active(self.unit)),
            Runner::Launchd => Ok(launchd::is_active(self.unit)),
            Runner::Background => Ok(background::running(self.unit)?.is_some()),
        }
    }

    /// Starts it, and has it started again with the user's session where that can be done.
    pub fn start(&self) -> Result<()> {
        if self.is_running()? {
            return Ok(());
        }
        match self.runner {
            Runner::Systemd => systemd::start(self.unit, self.layout),
            Runner::Launchd => launchd::start(self.unit, self.layout),
            Runner::Background => background::start(self.unit, &self.layout.binary),
        }
    }

    /// Ends it and waits for that: a node lets its jobs finish within the grace time, and gives the rest back.
    pub fn stop(&self) -> Result<()> {
        match self.runner {
            Runner::Systemd => systemd::stop(self.unit),
            Runner::Launchd => {
                launchd::stop(self.unit);
                Ok(())
            }
            Runner::Background => background::stop(self.unit),
        }
    }

    /// Its last lines.
    pub fn log(&self, lines: u32) -> Result<String> {
        match self.runner {
            Runner::Systemd => systemd::log(self.unit, lines),
            Runner::Launchd => launchd::log(self.unit, lines),
            Runner::Background => background::log(self.unit, lines),
        }
    }

    /// Has it go on when nobody is logged in, and start with the machine; why not, if it cannot be had.
    pub fn keep_alive(&self) -> Option<String> {
        match self.runner {
            Runner::Systemd => systemd::linger(),
            Runner::Launchd => Some(
                "launchd runs services of this user while it is logged in, and starts them at the next login".to_owned(),
            ),
            Runner::Background => Some(
                "there is no systemd of this user: the service runs in the background, and not after the machine was \
                 started again"
                    .to_owned(),
            ),
        }
    }

    /// Ends it for good.
    pub fn end(&self) -> Result<()> {
        match self.runner {
            Runner::Systemd => systemd::disable(self.unit),
            Runner::Launchd => launchd::stop(self.unit),
            Runner::Background => background::stop(self.unit)?,
        }
        Ok(())
    }
}
