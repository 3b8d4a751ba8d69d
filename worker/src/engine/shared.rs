//! What the engine's threads and its handle share: who holds which job, what is wanted of it, the figures, and the way
//! out for events.

use super::job::{EngineEvent, MAX_LIVE_JOBS};
use super::meter::Meter;
use rbee_queue::{JobStats, ResultRecord};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

/// How long a thread waits before it tries again to hand an event to a receiver that is behind.
const EVENT_RETRY: Duration = Duration::from_millis(1);

/// What the caller wants of a job beside its result.
#[derive(Debug, Default)]
pub struct JobControl {
    /// It shall end.
    pub cancelled: AtomicBool,
    /// Its text so far is wanted, and all that comes.
    pub watched: AtomicBool,
}

/// Shared by the handle, the preparing threads and the step thread.
#[derive(Debug)]
pub struct Shared {
    controls: Mutex<HashMap<u64, Arc<JobControl>>>,
    /// Some job's control has changed.
    pub attention: AtomicBool,
    /// No more jobs are taken.
    pub closed: AtomicBool,
    /// All threads shall end.
    pub stopping: AtomicBool,
    meter: Mutex<Meter>,
}

/// Why a job's id could not be entered.
pub enum EnterError {
    /// Too many jobs.
    Full,
    /// The id is taken.
    Duplicate,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these mutexes hold is valid after every single statement, so a panic elsewhere leaves it usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Nothing held, nothing wanted.
    pub fn new(meter: Meter) -> Shared {
        Shared {
            controls: Mutex::default(),
            attention: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            meter: Mutex::new(meter),
        }
    }

    /// Enters a job among those that are held.
    pub fn enter(&self, id: u64) -> Result<Arc<JobControl>, EnterError> {
        let mut controls = lock(&self.controls);
        if controls.contains_key(&id) {
            return Err(EnterError::Duplicate);
        }
        if controls.len() >= MAX_LIVE_JOBS {
            return Err(EnterError::Full);
        }
        let control = Arc::new(JobControl::default());
        controls.insert(id, Arc::clone(&control));
        Ok(control)
    }

    /// The control of a job that is held.
    pub fn control(&self, id: u64) -> Option<Arc<JobControl>> {
        lock(&self.controls).get(&id).cloned()
    }

    /// Forgets a job.
    pub fn leave(&self, id: u64) {
        lock(&self.controls).remove(&id);
    }

    /// Jobs that are held.
    pub fn jobs(&self) -> usize {
        lock(&self.controls).len()
    }

    /// The figures.
    pub fn meter(&self) -> MutexGuard<'_, Meter> {
        lock(&self.meter)
    }

    /// Whether all threads shall end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// The way out for events. A receiver that is behind holds the sender up, but never a shutdown.
#[derive(Clone)]
pub struct EventPort {
    events: Sender<EngineEvent>,
    shared: Arc<Shared>,
}

impl EventPort {
    /// A way out to `events`.
    pub fn new(events: Sender<EngineEvent>, shared: Arc<Shared>) -> EventPort {
        EventPort { events, shared }
    }

    /// Sends an event. When nobody listens any more the engine stops.
    pub fn send(&self, event: EngineEvent) {
        let mut event = event;
        loop {
            if self.shared.is_stopping() {
                return;
            }
            match self.events.try_send(event) {
                Ok(()) => return,
                Err(TrySendError::Full(back)) => {
                    event = back;
                    std::thread::park_timeout(EVENT_RETRY);
                }
                Err(TrySendError::Closed(_)) => {
                    self.shared.closed.store(true, Ordering::Release);
                    self.shared.stopping.store(true, Ordering::Release);
                    return;
                }
            }
        }
    }

    /// Ends a job: forgets it and tells its result. Its id is free by the time the event arrives.
    pub fn finish(&self, id: u64, record: ResultRecord, stats: JobStats) {
        self.shared.leave(id);
        self.send(EngineEvent::Finished { id, record, stats });
    }
}
