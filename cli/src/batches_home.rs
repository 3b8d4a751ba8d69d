//! The embedded store of this user: opening it, and who runs what in it.

use std::path::PathBuf;
use std::sync::Arc;

use rbee_queue::owner::LockError;
use rbee_queue::{Batch, Batches, MemoryQueue, SqliteStore, Store};

use crate::batch_view::Runner;
use crate::failure::Failure;

/// Whose the batches of an embedded store are: it has one user.
pub const OWNER: &str = "local";

/// Store and queue of this process.
pub struct BatchesHome {
    pub batches: Batches,
    store: SqliteStore,
}

impl BatchesHome {
    /// Opens the store at `path`, making it if it is not there. What this process runs, `process` is said to run.
    pub async fn open(path: PathBuf, process: u32) -> Result<BatchesHome, Failure> {
        let store = SqliteStore::open(&path).await?;
        let queue = Arc::new(MemoryQueue::new());
        let batches =
            Batches::embedded(Arc::new(store.clone()), queue, &path).on_behalf_of(process);
        Ok(BatchesHome { batches, store })
    }

    /// The store, for reading.
    pub fn store(&self) -> &dyn Store {
        &self.store
    }

    /// Who runs a batch just now.
    pub fn runner(&self, batch: &Batch) -> Runner {
        if batch.status.is_terminal() {
            return Runner::Nobody;
        }
        match self.batches.take(&batch.id) {
            Err(LockError::Held { pid, .. }) => Runner::Process(pid.unwrap_or(0)),
            Ok(_) | Err(LockError::Io { .. }) => Runner::Nobody,
        }
    }

    /// Closes the store's files, so that nothing but the database itself is left beside it.
    pub async fn close(self) {
        self.store.close().await;
    }
}
