//! The right to be an embedded store's server: two would not know of each other's nodes.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context as _, anyhow};

use crate::failure::Failure;
use crate::orphan::Orphan;

/// Holds it as long as the file is kept, in the name of a process, which is the one that users see.
pub async fn hold(database: &Path, process: u32) -> Result<File, Failure> {
    let mut name = database.file_name().unwrap_or_default().to_owned();
    name.push(".serve.lock");
    let path = database.with_file_name(name);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let orphan = Orphan::new();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock)
                if holder(&mut file).is_some_and(|pid| orphan.may_hold(pid)) =>
            {
                orphan.wait().await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(anyhow!(
                    "another `rbee serve` runs on {}: use that one, or another --data-dir",
                    database.display()
                )
                .into());
            }
            Err(TryLockError::Error(error)) => {
                let cannot = format!("cannot lock {}", path.display());
                return Err(anyhow!(error).context(cannot).into());
            }
        }
    }
    // On a full disk it goes without: then a server that comes right after a killed one is refused for a moment.
    let _ = (file.set_len(0))
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{process}"));
    Ok(file)
}

/// The process in whose name somebody holds the lock.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
