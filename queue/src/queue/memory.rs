//! The queue of one process.
//!
//! Owns inboxes in memory. A dead process loses them, and the store's placed jobs are queued again
//! at the next start.

use super::{Control, Depth, Held, Queue, QueueError, TextEvent, Work};
use crate::batch::Priority;
use crate::ids::{JobRef, NodeInstance};
use async_trait::async_trait;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, broadcast, oneshot};

/// Pieces of text that a slow watcher may lag behind.
const WATCH_BUFFER: usize = 256;
/// Control messages that may wait for a node; a drain and cancels only.
const MAX_CONTROLS: usize = 1024;

/// How long an answer is kept for whoever asked.
const EARLY_KEPT: Duration = Duration::from_secs(60);

/// Inboxes, controls and watchers of one process.
#[derive(Default)]
pub struct MemoryQueue {
    inner: Mutex<Inner>,
    room: Notify,
}

#[derive(Default)]
struct Inner {
    inboxes: HashMap<NodeInstance, Inbox>,
    watchers: HashMap<JobRef, broadcast::Sender<TextEvent>>,
    /// Those who wait for an answer.
    answers: HashMap<String, oneshot::Sender<String>>,
    /// Answers that came before anybody waited.
    early: Vec<(String, Instant, String)>,
}

struct Inbox {
    room: usize,
    waiting: VecDeque<Work>,
    running: HashSet<Held>,
    controls: VecDeque<Control>,
    arrived: Arc<Notify>,
    controlled: Arc<Notify>,
}

impl Inbox {
    fn depth(&self) -> Depth {
        Depth {
            waiting: self.waiting.len(),
            running: self.running.len(),
        }
    }

    fn held(&self) -> Vec<Held> {
        let waiting = self.waiting.iter().map(Work::held);
        waiting.chain(self.running.iter().copied()).collect()
    }
}

impl MemoryQueue {
    /// An empty queue.
    pub fn new() -> MemoryQueue {
        MemoryQueue::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The guarded sections do not panic; if one did, the maps are still whole.
        self.inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inner {
    fn inbox(&mut self, node: &NodeInstance) -> Result<&mut Inbox, QueueError> {
        self.inboxes
            .get_mut(node)
            .ok_or_else(|| QueueError::NoSuchNode { node: node.clone() })
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn join(&self, node: &NodeInstance, room: usize) -> Result<(), QueueError> {
        let inbox = Inbox {
            room,
            waiting: VecDeque::new(),
            running: HashSet::new(),
            controls: VecDeque::new(),
            arrived: Arc::new(Notify::new()),
            controlled: Arc::new(Notify::new()),
        };
        self.lock().inboxes.entry(node.clone()).or_insert(inbox);
        self.room.notify_one();
        Ok(())
    }

    async fn leave(&self, node: &NodeInstance) -> Result<Vec<Held>, QueueError> {
        let Some(inbox) = self.lock().inboxes.remove(node) else {
            return Ok(Vec::new());
        };
        inbox.arrived.notify_waiters();
        inbox.controlled.notify_waiters();
        self.room.notify_one();
        Ok(inbox.held())
    }

    async fn push(&self, node: &NodeInstance, work: Vec<Work>) -> Result<(), QueueError> {
        let mut inner = self.lock();
        let inbox = inner.inbox(node)?;
        let there: HashSet<Held> = inbox.held().into_iter().collect();
        let work: Vec<Work> = work
            .into_iter()
            .filter(|work| !there.contains(&work.held()))
            .collect();
        let depth = inbox.depth();
        let room = inbox.room.saturating_sub(depth.waiting + depth.running);
        if work.len() > room {
            return Err(QueueError::Full {
                node: node.clone(),
                room,
                given: work.len(),
            });
        }
        let (ahead, behind): (Vec<Work>, Vec<Work>) = work
            .into_iter()
            .partition(|work| work.priority == Priority::Interactive);
        let place = (inbox.waiting.iter())
            .position(|waiting| waiting.priority == Priority::Batch)
            .unwrap_or(inbox.waiting.len());
        for (offset, work) in ahead.into_iter().enumerate() {
            inbox.waiting.insert(place + offset, work);
        }
        inbox.waiting.extend(behind);
        inbox.arrived.notify_one();
        Ok(())
    }

    async fn take(&self, node: &NodeInstance, most: usize) -> Result<Vec<Work>, QueueError> {
        loop {
            let arrived = {
                let mut inner = self.lock();
                let inbox = inner.inbox(node)?;
                let count = most.min(inbox.waiting.len());
                if count > 0 {
                    let taken: Vec<Work> = inbox.waiting.drain(..count).collect();
                    inbox.running.extend(taken.iter().map(Work::held));
                    return Ok(taken);
                }
                Arc::clone(&inbox.arrived).notified_owned()
            };
            arrived.await;
        }
    }

    async fn done(&self, node: &NodeInstance, jobs: &[Held]) -> Result<(), QueueError> {
        if let Ok(inbox) = self.lock().inbox(node) {
            for job in jobs {
                inbox.running.remove(job);
            }
        }
        self.room.notify_one();
        Ok(())
    }

    async fn cancel(&self, node: &NodeInstance, jobs: &[Held]) -> Result<Vec<Held>, QueueError> {
        let mut inner = self.lock();
        let Ok(inbox) = inner.inbox(node) else {
            return Ok(Vec::new());
        };
        let wanted: HashSet<Held> = jobs.iter().copied().collect();
        let mut removed = Vec::new();
        inbox.waiting.retain(|work| {
            let keep = !wanted.contains(&work.held());
            if !keep {
                removed.push(work.held());
            }
            keep
        });
        let running: Vec<Held> = inbox.running.intersection(&wanted).copied().collect();
        if !running.is_empty() && inbox.controls.len() < MAX_CONTROLS {
            inbox.controls.push_back(Control::Cancel(running));
            inbox.controlled.notify_one();
        }
        drop(inner);
        self.room.notify_one();
        Ok(removed)
    }

    async fn control(&self, node: &NodeInstance, message: Control) -> Result<(), QueueError> {
        let mut inner = self.lock();
        let inbox = inner.inbox(node)?;
        if inbox.controls.len() >= MAX_CONTROLS {
            return Err(QueueError::Full {
                node: node.clone(),
                room: 0,
                given: 1,
            });
        }
        inbox.controls.push_back(message);
        inbox.controlled.notify_one();
        Ok(())
    }

    async fn next_control(&self, node: &NodeInstance) -> Result<Control, QueueError> {
        loop {
            let controlled = {
                let mut inner = self.lock();
                let inbox = inner.inbox(node)?;
                if let Some(message) = inbox.controls.pop_front() {
                    return Ok(message);
                }
                Arc::clone(&inbox.controlled).notified_owned()
            };
            controlled.await;
        }
    }

    async fn depth(&self, node: &NodeInstance) -> Result<Depth, QueueError> {
        self.lock().inbox(node).map(|inbox| inbox.depth())
    }

    async fn held(&self, node: &NodeInstance) -> Result<Vec<Held>, QueueError> {
        self.lock().inbox(node).map(|inbox| inbox.held())
    }

    async fn room_made(&self) {
        self.room.notified().await;
    }

    async fn publish(&self, events: Vec<TextEvent>) {
        let mut inner = self.lock();
        if inner.watchers.is_empty() {
            return;
        }
        for event in events {
            let job = event.job;
            // Sending fails once the last watcher is gone.
            let gone = inner
                .watchers
                .get(&job)
                .is_some_and(|watchers| watchers.send(event).is_err());
            if gone {
                inner.watchers.remove(&job);
            }
        }
    }

    async fn watch(&self, job: JobRef) -> Result<broadcast::Receiver<TextEvent>, QueueError> {
        let mut inner = self.lock();
        inner
            .watchers
            .retain(|_, watchers| watchers.receiver_count() > 0);
        let watchers = inner
            .watchers
            .entry(job)
            .or_insert_with(|| broadcast::channel(WATCH_BUFFER).0);
        Ok(watchers.subscribe())
    }

    async fn answer(&self, ask: &str, body: String) -> Result<(), QueueError> {
        let mut inner = self.lock();
        let waiting = inner.answers.remove(ask);
        match waiting {
            // Whoever asked may have gone meanwhile.
            Some(waiting) => drop(waiting.send(body)),
            None => {
                inner
                    .early
                    .retain(|(_, since, _)| since.elapsed() < EARLY_KEPT);
                inner.early.push((ask.to_owned(), Instant::now(), body));
            }
        }
        Ok(())
    }

    async fn answered(&self, ask: &str, patience: Duration) -> Result<Option<String>, QueueError> {
        let receiver = {
            let mut inner = self.lock();
            if let Some(at) = inner.early.iter().position(|(name, _, _)| name == ask) {
                return Ok(Some(inner.early.swap_remove(at).2));
            }
            let (sender, receiver) = oneshot::channel();
            inner.answers.insert(ask.to_owned(), sender);
            receiver
        };
        let answer = tokio::time::timeout(patience, receiver).await;
        self.lock().answers.remove(ask);
        Ok(answer.ok().and_then(Result::ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::contract;

    async fn open() -> (MemoryQueue, ()) {
        (MemoryQueue::new(), ())
    }

    contract::queue_contract!(open);
}
