//! Who runs an embedded batch: an OS file lock, free the instant its process dies.
//!
//! Owns the lock files. The file's content names the process for people; only the lock counts.

use crate::ids::BatchId;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Why a batch's lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A live process has it.
    #[error("{batch} is being run by process {pid}: wait for it, or stop it first", pid = .pid.map_or("another".to_owned(), |pid| pid.to_string()))]
    Held {
        /// The batch.
        batch: BatchId,
        /// The process, where its number could be read.
        pid: Option<u32>,
    },
    /// The lock file cannot be used.
    #[error("the lock file {path} cannot be used: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The directory of the lock files of one store.
#[derive(Clone, Debug)]
pub struct LockDirectory {
    path: PathBuf,
    /// The process that a lock's file names.
    process: u32,
}

/// The right to run a batch. Dropping it gives the right back.
#[derive(Debug)]
pub struct BatchLock {
    file: File,
    path: PathBuf,
}

impl LockDirectory {
    /// The lock files of the store at `store`: a directory beside it.
    pub fn beside(store: &Path) -> LockDirectory {
        let mut name = store.file_name().unwrap_or_default().to_owned();
        name.push(".locks");
        LockDirectory {
            path: store.with_file_name(name),
            process: std::process::id(),
        }
    }

    /// Names another process in the files: the one that a user sees, where this one works for it.
    pub fn on_behalf_of(self, process: u32) -> LockDirectory {
        LockDirectory { process, ..self }
    }

    /// Takes a batch's lock without waiting.
    pub fn take(&self, batch: &BatchId) -> Result<BatchLock, LockError> {
        let path = self.path.join(format!("{batch}.lock"));
        self.try_take(batch, &path).map_err(|error| match error {
            TakeError::Held(pid) => LockError::Held {
                batch: batch.clone(),
                pid,
            },
            TakeError::Io(source) => LockError::Io { path, source },
        })
    }

    fn try_take(&self, batch: &BatchId, path: &Path) -> Result<BatchLock, TakeError> {
        fs::create_dir_all(&self.path)?;
        loop {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(TakeError::Held(read_pid(&mut file))),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            // The last owner removes the file: a lock on a removed file holds nothing.
            if !is_at(&file, path) {
                continue;
            }
            file.set_len(0)?;
            writeln!(file, "{}", self.process)?;
            tracing::debug!(%batch, "took the batch's lock");
            return Ok(BatchLock {
                file,
                path: path.to_owned(),
            });
        }
    }
}

enum TakeError {
    Held(Option<u32>),
    Io(io::Error),
}

impl From<io::Error> for TakeError {
    fn from(error: io::Error) -> TakeError {
        TakeError::Io(error)
    }
}

impl Drop for BatchLock {
    fn drop(&mut self) {
        // Removed while still locked, so that nobody can lock it in between and lose it.
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
        let _ = self.file.unlock();
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => open.dev() == named.dev() && open.ino() == named.ino(),
        _ => false,
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_taker_is_told_the_process_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let locks = LockDirectory::beside(&dir.path().join("rbee.db"));
        let batch = BatchId::generate();
        let lock = locks.take(&batch).unwrap();
        match locks.take(&batch) {
            Err(LockError::Held { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("a held lock was taken: {other:?}"),
        }
        drop(lock);
        let again = locks.take(&batch).unwrap();
        drop(again);
        assert_eq!(fs::read_dir(&locks.path).unwrap().count(), 0);
    }

    #[test]
    fn file_left_by_a_killed_process_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let locks = LockDirectory::beside(&dir.path().join("rbee.db"));
        let batch = BatchId::generate();
        fs::create_dir_all(&locks.path).unwrap();
        fs::write(locks.path.join(format!("{batch}.lock")), "999999\n").unwrap();
        locks.take(&batch).unwrap();
    }
}
