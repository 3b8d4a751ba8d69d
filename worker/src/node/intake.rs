//! Taking work from the inbox, no more than there is room for, and hearing control messages.

use super::backoff::Backoff;
use rbee_queue::batches::requests_of;
use rbee_queue::queue::{Control, Held, Queue, QueueError, Work};
use rbee_queue::{Batches, JobError, JobRef, NodeInstance};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

/// Jobs that are taken at once.
const TAKE_MOST: u32 = 256;
/// Groups of work between the taking task and the node.
const GROUPS_WAITING: usize = 4;
/// Control messages that wait for the node.
const CONTROLS_WAITING: usize = 64;

/// Work that came out of the inbox, with its requests.
#[derive(Debug, Default)]
pub struct Taken {
    /// What can be run.
    pub work: Vec<Work>,
    /// Jobs whose lines this version of the program does not understand.
    pub refused: Vec<(Held, JobError)>,
    /// Jobs that are not in the store any more, or that this version cannot read.
    pub gone: Vec<Held>,
}

/// The tasks that wait for work and for control messages. They are tasks of their own since a queue's blocking read
/// cannot be abandoned.
pub struct Intake {
    tasks: [JoinHandle<()>; 2],
    work: mpsc::Receiver<Taken>,
    controls: mpsc::Receiver<Control>,
}

/// What came.
pub enum Came {
    /// Work.
    Work(Taken),
    /// A control message.
    Control(Control),
}

impl Intake {
    /// Starts to take; each job takes a permit of `room` away, which its end gives back. What fails is tried again
    /// until the intake is dropped: a queue may be away for a while, and an inbox is made again.
    pub fn start(batches: &Batches, node: &NodeInstance, room: Arc<Semaphore>) -> Intake {
        let (work_in, work) = mpsc::channel(GROUPS_WAITING);
        let (controls_in, controls) = mpsc::channel(CONTROLS_WAITING);
        let taking = Taking {
            batches: batches.clone(),
            node: node.clone(),
            room,
        };
        let (queue, node) = (batches.queue().clone(), node.clone());
        Intake {
            tasks: [
                tokio::spawn(taking.run(work_in)),
                tokio::spawn(listen(queue, node, controls_in)),
            ],
            work,
            controls,
        }
    }

    /// What comes next.
    pub async fn next(&mut self) -> Came {
        tokio::select! {
            Some(work) = self.work.recv() => Came::Work(work),
            Some(control) = self.controls.recv() => Came::Control(control),
            // The tasks end with the intake only.
            else => std::future::pending().await,
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn listen(queue: Arc<dyn Queue>, node: NodeInstance, controls: mpsc::Sender<Control>) {
    let mut failures = Backoff::new();
    loop {
        match queue.next_control(&node).await {
            Ok(control) => {
                failures.reset();
                if controls.send(control).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "no control messages for now");
                failures.wait().await;
            }
        }
    }
}

struct Taking {
    batches: Batches,
    node: NodeInstance,
    room: Arc<Semaphore>,
}

impl Taking {
    async fn run(self, taken: mpsc::Sender<Taken>) {
        let mut failures = Backoff::new();
        while let Ok(mut permits) = Arc::clone(&self.room).acquire_owned().await {
            let more = self.room.available_permits().min(TAKE_MOST as usize - 1) as u32;
            if let Ok(others) = Arc::clone(&self.room).try_acquire_many_owned(more) {
                permits.merge(others);
            }
            let work = match self
                .batches
                .queue()
                .take(&self.node, permits.num_permits())
                .await
            {
                Ok(work) => work,
                Err(QueueError::Unreadable { jobs, .. }) => {
                    // Another version sent them, which another node may have: they are given back.
                    tracing::warn!(jobs = jobs.len(), node = %self.node, "work of another version of rbee came");
                    if let Some(used) = permits.split(jobs.len()) {
                        used.forget();
                    }
                    drop(permits);
                    let taken_back = Taken {
                        gone: jobs,
                        ..Taken::default()
                    };
                    if taken.send(taken_back).await.is_err() {
                        return;
                    }
                    failures.wait().await;
                    continue;
                }
                Err(error) => {
                    drop(permits);
                    self.note(&error, &failures);
                    failures.wait().await;
                    continue;
                }
            };
            failures.reset();
            if let Some(used) = permits.split(work.len()) {
                used.forget();
            }
            drop(permits);
            if taken.send(self.filled(work).await).await.is_err() {
                return;
            }
        }
    }

    fn note(&self, error: &QueueError, failures: &Backoff) {
        if failures.is_fresh() {
            tracing::debug!(%error, node = %self.node, "no work for now");
        }
    }

    /// Reads requests that were too large for the queue from the store.
    async fn filled(&self, work: Vec<Work>) -> Taken {
        let mut taken = Taken::default();
        for mut work in work {
            if work.request.is_some() {
                taken.work.push(work);
                continue;
            }
            match self.request_of(work.job).await {
                Some(Ok(request)) => {
                    work.request = Some(request);
                    taken.work.push(work);
                }
                Some(Err(error)) => taken.refused.push((work.held(), error)),
                None => taken.gone.push(work.held()),
            }
        }
        taken
    }

    /// Patient: a store that is away for longer than the lease ends this task.
    async fn request_of(&self, job: JobRef) -> Option<Result<rbee_queue::Request, JobError>> {
        let mut failures = Backoff::new();
        loop {
            match requests_of(self.batches.store().as_ref(), &[job]).await {
                Ok(mut found) => return found.pop().flatten(),
                Err(error) => {
                    if failures.is_fresh() {
                        tracing::warn!(%error, %job, "a large job waits for the store");
                    }
                    failures.wait().await;
                }
            }
        }
    }
}
