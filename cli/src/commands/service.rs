//! `rbee service`: this user's server and node without a terminal.

use std::io::Write;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::{Outcome, stdout_failure};
use crate::install::{Layout, Scope, Unit};
use crate::service::{Runner, Service};
use crate::table;

/// Start, stop and look at what `rbee install --user` made a service
///
/// Where systemd runs for this user it does the work, and `systemctl --user` is the same; elsewhere the service is a
/// process in the background.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  rbee service start worker
  rbee service status worker
  rbee service log worker --lines 20
  rbee service stop worker             a node's running jobs finish within the grace time, the rest is given back")]
pub struct ServiceArgs {
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with a service.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// Start it, if it does not run
    Start(Named),
    /// Stop it, and wait for its end
    Stop(Named),
    /// Stop it and start it
    Restart(Named),
    /// Whether it runs; exit code 1 if it does not
    Status {
        #[command(flatten)]
        named: Named,

        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Its last lines
    Log {
        #[command(flatten)]
        named: Named,

        /// At most N lines
        #[arg(long, value_name = "N", default_value_t = 100)]
        lines: u32,
    },
}

/// A service by its name.
#[derive(Debug, Clone, Args)]
pub struct Named {
    #[arg(value_enum, value_name = "SERVICE")]
    pub unit: Unit,
}

/// Does what the verb says.
pub fn run(context: &Context, args: &ServiceArgs) -> Outcome {
    let mut layout = Layout::new(Scope::User, None, None)?;
    // Whoever installed elsewhere calls that program: what it starts is itself.
    let binary = std::env::current_exe().context("cannot find this program's own file")?;
    layout.binary = binary;
    let of = |named: &Named| Service {
        unit: named.unit,
        layout: &layout,
        runner: Runner::of_user(),
    };
    match &args.verb {
        Verb::Start(named) => of(named).start()?,
        Verb::Stop(named) => of(named).stop()?,
        Verb::Restart(named) => {
            of(named).stop()?;
            of(named).start()?;
        }
        Verb::Status { named, json } => {
            let service = of(named);
            let runs = service.is_running()?;
            match json {
                true => {
                    let value = json!({"service": named.unit.name(), "running": runs, "runner": service.runner,
                                       "version": env!("CARGO_PKG_VERSION")});
                    table::print([value.to_string()])?;
                }
                false => {
                    let how = match runs {
                        true => format!("runs, by {}", service.runner.name()),
                        false => "does not run".to_owned(),
                    };
                    context.talk.note(&format!("{} {how}", named.unit.name()));
                }
            }
            if !runs {
                return Ok(ExitCode::Error);
            }
        }
        Verb::Log { named, lines } => {
            let text = of(named).log(*lines)?;
            let mut out = std::io::stdout().lock();
            (out.write_all(text.as_bytes()).and_then(|()| out.flush())).map_err(stdout_failure)?;
        }
    }
    Ok(ExitCode::Success)
}
