//! Taking work from the inbox, no more than there is room for.

use rbee_queue::NodeInstance;
use rbee_queue::queue::{Queue, Work};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

/// Jobs that are taken at once.
const TAKE_MOST: u32 = 256;
/// Groups of work between the taking task and the node.
const GROUPS_WAITING: usize = 4;

/// The task that waits for work. It is a task of its own since an inbox's blocking read cannot be abandoned.
pub struct Intake {
    task: JoinHandle<()>,
    work: mpsc::Receiver<Vec<Work>>,
    stopped: bool,
}

impl Intake {
    /// Starts to take; each job takes a permit of `room` away, which its end gives back.
    pub fn start(queue: Arc<dyn Queue>, node: NodeInstance, room: Arc<Semaphore>) -> Intake {
        let (sender, work) = mpsc::channel(GROUPS_WAITING);
        let task = tokio::spawn(async move {
            while let Ok(mut permits) = Arc::clone(&room).acquire_owned().await {
                let more = room.available_permits().min(TAKE_MOST as usize - 1) as u32;
                if let Ok(others) = Arc::clone(&room).try_acquire_many_owned(more) {
                    permits.merge(others);
                }
                let Ok(work) = queue.take(&node, permits.num_permits()).await else {
                    // The inbox is gone.
                    break;
                };
                if let Some(taken) = permits.split(work.len()) {
                    taken.forget();
                }
                if sender.send(work).await.is_err() {
                    break;
                }
            }
        });
        Intake {
            task,
            work,
            stopped: false,
        }
    }

    /// The next work. Pends for ever once nothing more can come.
    pub async fn next(&mut self) -> Vec<Work> {
        if !self.stopped
            && let Some(work) = self.work.recv().await
        {
            return work;
        }
        self.stopped = true;
        std::future::pending().await
    }

    /// Takes no more. What was taken and not seen stays in the inbox until the node leaves.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.task.abort();
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.task.abort();
    }
}
