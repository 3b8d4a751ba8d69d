//! Advisory file locks between tasks and processes. A lock is free the instant its holder dies; the empty lock files
//! stay, because removing one would let two holders lock two different files of one name.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

use super::error::ModelError;

/// How often a waiting task looks whether the lock is free. A blocking wait could not be given up on Ctrl-C.
const POLL: Duration = Duration::from_millis(100);

/// A held lock; dropping it frees it.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

fn open(path: &Path) -> Result<File, ModelError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|e| ModelError::io("cannot open the lock file", path, e))
}

/// Takes the lock, or waits for it after calling `waiting` once.
pub async fn exclusive(path: &Path, waiting: impl FnOnce()) -> Result<FileLock, ModelError> {
    let file = open(path)?;
    let mut waiting = Some(waiting);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(FileLock { _file: file }),
            Err(TryLockError::WouldBlock) => {
                if let Some(waiting) = waiting.take() {
                    waiting();
                }
                tokio::time::sleep(POLL).await;
            }
            Err(TryLockError::Error(e)) => return Err(ModelError::io("cannot lock", path, e)),
        }
    }
}

/// Takes the lock if it is free.
pub fn try_exclusive(path: &Path) -> Result<Option<FileLock>, ModelError> {
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(FileLock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(ModelError::io("cannot lock", path, e)),
    }
}

/// Shares the lock with others who share it; waits while someone holds it alone.
pub async fn shared(path: &Path) -> Result<FileLock, ModelError> {
    let file = open(path)?;
    loop {
        match file.try_lock_shared() {
            Ok(()) => return Ok(FileLock { _file: file }),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(POLL).await,
            Err(TryLockError::Error(e)) => return Err(ModelError::io("cannot lock", path, e)),
        }
    }
}
