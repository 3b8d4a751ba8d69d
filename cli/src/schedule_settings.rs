//! What schedules of a server may use: the folders and commands that its flags name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use rbee_scheduler::ScheduleSettings;
use rbee_scheduler::http::Models;
use rbee_scheduler::roots::Roots;

use crate::failure::Failure;

/// Where schedules read and write, and what they run.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Schedules")]
pub struct ScheduleSettingsArgs {
    /// A folder below which schedules read prompts and write results; more than one may be given, and an empty
    /// one stands for none
    /// [default: the home directory, if the server listens on loopback only; else none]
    #[arg(
        long,
        value_name = "FOLDER",
        env = "RBEE_SCHEDULE_ROOTS",
        value_delimiter = ':',
        value_parser = parse_folder
    )]
    pub schedule_root: Option<Vec<PathBuf>>,

    /// A program that a schedule may have run when a run has ended, by a name
    #[arg(
        long,
        value_name = "NAME=PROGRAM",
        env = "RBEE_SCHEDULE_COMMANDS",
        value_delimiter = ':',
        value_parser = parse_command
    )]
    pub schedule_command: Vec<(String, PathBuf)>,
}

impl ScheduleSettingsArgs {
    /// What the flags mean for a server at an address.
    pub fn settings(
        &self,
        models: Arc<dyn Models>,
        spool: PathBuf,
        address: SocketAddr,
    ) -> Result<ScheduleSettings, Failure> {
        let home = || std::env::var_os("HOME").map(PathBuf::from);
        let folders: Vec<PathBuf> = match &self.schedule_root {
            Some(folders) => folders.clone(),
            None if address.ip().is_loopback() => home().into_iter().collect(),
            None => Vec::new(),
        };
        let folders: Vec<PathBuf> = folders
            .into_iter()
            .filter(|folder| !folder.as_os_str().is_empty())
            // A service's user may have none, or the whole file system for one.
            .filter(|folder| self.schedule_root.is_some() || is_a_home(folder))
            .collect();
        let roots = Roots::new(&folders).context("a folder of --schedule-root cannot be used")?;
        let commands: BTreeMap<String, PathBuf> = self.schedule_command.iter().cloned().collect();
        if let Some((name, program)) = (commands.iter()).find(|(_, program)| !program.is_file()) {
            let program = program.display();
            return Err(Failure::usage(format!(
                "--schedule-command {name}={program}: there is no program {program}"
            )));
        }
        Ok(ScheduleSettings {
            models,
            spool,
            roots,
            commands,
        })
    }
}

fn is_a_home(folder: &Path) -> bool {
    folder.is_dir() && folder.parent().is_some()
}

fn parse_folder(text: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text))
}

fn parse_command(text: &str) -> Result<(String, PathBuf), String> {
    let (name, program) = text
        .split_once('=')
        .filter(|(name, program)| !name.is_empty() && program.starts_with('/'))
        .ok_or("write it as NAME=/path/of/the/program")?;
    Ok((name.to_owned(), PathBuf::from(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_named_with_their_whole_path() {
        assert_eq!(
            parse_command("copy=/bin/cp").unwrap(),
            ("copy".to_owned(), PathBuf::from("/bin/cp"))
        );
        for wrong in ["copy", "copy=", "=/bin/cp", "copy=cp"] {
            assert!(parse_command(wrong).is_err(), "{wrong}");
        }
    }
}
