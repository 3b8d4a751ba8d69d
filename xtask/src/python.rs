//! The Python packages that tests of the HTTP API run: clients that others wrote, in a virtual environment of the tests' own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cargo::run;
use crate::{models, say};

/// Requirements as pip takes them.
const PACKAGES: [&str; 3] = [
    "openai==3.51.0",
    "schemathesis==4.32.5",
    "playwright==1.65.2",
];

/// Sees to it that the environment is there; its interpreter.
///
/// # Errors
/// When Python cannot make one or pip cannot fill it.
pub fn ensure() -> Result<PathBuf> {
    let folder = models::cache_dir()?.join(format!("python-{}", PACKAGES.join("-")));
    let python = folder.join("bin").join("python");
    if python.is_file() {
        return Ok(python);
    }
    say(&format!(
        "the tests run Python packages: {}",
        PACKAGES.join(", ")
    ))?;
    // Under a name of its own until it is whole: paths in it do not matter, it is always run by its interpreter.
    let growing = folder.with_extension(format!("{}.part", std::process::id()));
    let made = fill(&growing).and_then(|()| {
        std::fs::rename(&growing, &folder)
            .or_else(|error| match python.is_file() {
                // Somebody else was faster.
                true => Ok(()),
                false => Err(error),
            })
            .with_context(|| format!("{} cannot be kept", folder.display()))
    });
    let _ = std::fs::remove_dir_all(&growing);
    made?;
    ensure!(
        python.is_file(),
        "{} is not there: Python 3 with venv and pip is needed for the tests of the HTTP API",
        python.display()
    );
    Ok(python)
}

fn fill(folder: &Path) -> Result<()> {
    run(Command::new("python3").args(["-m", "venv"]).arg(folder))
        .context("Python 3 with its module venv is needed for the tests of the HTTP API")?;
    let mut install = Command::new(folder.join("bin").join("python"));
    install
        .args(["-m", "pip", "install", "--quiet"])
        .arg("--disable-pip-version-check")
        .args(PACKAGES);
    run(&mut install)
}
