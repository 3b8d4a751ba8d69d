//! What models lie on this machine's disk: looked at now and then, off the node's own task.

use super::shelf::ModelShelf;
use rbee_queue::node::DiskModel;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// How often it is looked at, where nothing was loaded meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The models on disk, kept up to date until it is dropped.
pub struct Disk {
    found: watch::Receiver<Vec<DiskModel>>,
    prod: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Disk {
    /// Starts to look.
    pub fn watch(shelf: Arc<dyn ModelShelf>) -> Disk {
        let (tell, found) = watch::channel(Vec::new());
        let prod = Arc::new(Notify::new());
        let prodded = Arc::clone(&prod);
        let task = tokio::spawn(async move {
            loop {
                let shelf = Arc::clone(&shelf);
                let looked = tokio::task::spawn_blocking(move || shelf.on_disk()).await;
                if let Ok(models) = looked {
                    tell.send_replace(models);
                }
                // Woken or not in time, it looks again.
                let _ = tokio::time::timeout(LOOK_EVERY, prodded.notified()).await;
            }
        });
        Disk { found, prod, task }
    }

    /// What was found last.
    pub fn found(&self) -> Vec<DiskModel> {
        self.found.borrow().clone()
    }

    /// Looks again now.
    pub fn prod(&self) {
        self.prod.notify_one();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.task.abort();
    }
}
