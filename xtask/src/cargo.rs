//! Running cargo, the same one that runs this task, and the places it writes to.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The repository's root: the folder above this crate.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("xtask lies in the repository's root")
        .to_path_buf()
}

/// The folder of release binaries.
pub fn release_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => root().join(target).join("release"),
        None => root().join("target").join("release"),
    }
}

/// A cargo command in the repository's root.
///
/// `cargo run` tells its child about the package it runs through `CARGO_…` variables; build scripts that watch them would
/// run again if they were handed on.
pub fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// Run a command to its end; an exit code other than 0 is an error that names it.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    crate::say(&shown)?;
    let status = command
        .status()
        .with_context(|| format!("could not start `{shown}`"))?;
    ensure!(status.success(), "`{shown}` ended with {status}");
    Ok(())
}

fn shown(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let mut words = vec![
        program
            .file_name()
            .unwrap_or(program.as_os_str())
            .to_string_lossy()
            .into_owned(),
    ];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}
