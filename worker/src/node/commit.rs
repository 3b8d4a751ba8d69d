//! Committing results: group after group, patient when the store is full or locked.

use rbee_queue::store::Finish;
use rbee_queue::{Batches, NodeInstance, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// How long to wait before a store that has no room now is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Groups between the node and the store.
const GROUPS_WAITING: usize = 1;

/// The task that commits.
pub struct Committer {
    groups: mpsc::Sender<Vec<Finish>>,
    task: JoinHandle<Result<(), StoreError>>,
    ending: Arc<AtomicBool>,
}

impl Committer {
    /// Starts the task. While the store takes nothing, `blocked` holds its sentence.
    pub fn start(
        batches: Batches,
        node: NodeInstance,
        blocked: watch::Sender<Option<String>>,
    ) -> Committer {
        let (groups, mut waiting) = mpsc::channel::<Vec<Finish>>(GROUPS_WAITING);
        let ending = Arc::new(AtomicBool::new(false));
        let patience = Arc::clone(&ending);
        let task = tokio::spawn(async move {
            while let Some(group) = waiting.recv().await {
                loop {
                    match batches.finish(&node, group.clone()).await {
                        Ok(_) => break,
                        Err(error) if error.is_temporary() && !patience.load(Ordering::Acquire) => {
                            if blocked.send_replace(Some(error.to_string())).is_none() {
                                tracing::warn!(%error, "results wait for the store");
                            }
                            tokio::time::sleep(RETRY_AFTER).await;
                        }
                        Err(error) => return Err(error),
                    }
                }
                blocked.send_if_modified(|reason| reason.take().is_some());
            }
            Ok(())
        });
        Committer {
            groups,
            task,
            ending,
        }
    }

    /// Room for one group; `None` if the task has failed.
    pub async fn ready(&self) -> Option<mpsc::Permit<'_, Vec<Finish>>> {
        self.groups.reserve().await.ok()
    }

    /// Commits the last group and ends. It is not patient any more: a result that is not stored is computed again.
    pub async fn finish(self, last: Vec<Finish>) -> Result<(), StoreError> {
        self.ending.store(true, Ordering::Release);
        if !last.is_empty() {
            // A task that has failed meanwhile says so below.
            let _ = self.groups.send(last).await;
        }
        drop(self.groups);
        self.task.await.expect("the committing task does not panic")
    }
}
