//! Batches that were announced with an uploaded file: the file is read, and the batch shown with its jobs, or refused.
//!
//! Owns the leader's loop: which are read now, which later, and whose time is up. Whatever a leader leaves in the middle is
//! announced still, and the next one reads it from its beginning; the store lets one load take the place of each.

mod read;
mod reasons;

use super::trouble::Trouble;
use super::{Shared, told_of_end};
use crate::http::Models;
use crate::http::spool::Waiting;
use futures_util::FutureExt;
use rbee_queue::{Batch, BatchId, StoreError};
use read::{Outcome, Reading, read};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// Announced batches that there may be at once.
pub(crate) const MAX_ANNOUNCED: usize = 1_000;

/// Files that are read at once: each has a file in the spool, a thread, and a load into the store.
const MAX_READ: usize = 4;
/// How often the store is asked, if not before: batches are announced by other servers too.
const LOOK: Duration = Duration::from_secs(1);
/// The wait after an error.
const AFTER_ERROR: Duration = Duration::from_millis(500);
/// The wait before a file is read again whose batch could not be made for now. Each is twice the one before.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What reading the files of announced batches takes.
#[derive(Clone)]
pub struct ValidationSettings {
    /// The models.
    pub models: Arc<dyn Models>,
    /// A private directory for files that are being read.
    pub spool: PathBuf,
    /// Jobs that may wait or run at once.
    pub max_jobs: u64,
}

impl std::fmt::Debug for ValidationSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ValidationSettings")
            .field("max_jobs", &self.max_jobs)
            .finish_non_exhaustive()
    }
}

/// Reads until it is dropped. Returns only with an error that no patience changes.
pub(super) async fn run(shared: &Arc<Shared>) -> StoreError {
    let Some(settings) = &shared.options.validation else {
        return std::future::pending().await;
    };
    let mut trouble = Trouble::new("announced batches cannot be looked at");
    let mut validations = Validations::new(Arc::clone(shared), settings.clone());
    loop {
        let wait = match validations.look().await {
            Ok(()) => {
                trouble.over();
                validations.wait()
            }
            Err(error @ StoreError::NewerSchema { .. }) => return error,
            Err(error) => {
                trouble.note(&error);
                AFTER_ERROR
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.announced.notified() => {}
            () = validations.one_ended() => {}
        }
        // Several wishes at once are one.
        let _ = shared.announced.notified().now_or_never();
    }
}

/// A file that is being read.
struct UnderWay {
    task: AbortHandle,
    /// Dropped when nobody wants the batch any more: the read ends, and undoes what it did.
    _wanted: Waiting,
}

/// A file that is to be read again.
struct Later {
    at: Instant,
    wait: Duration,
}

/// The announced batches as this leader knows them.
struct Validations {
    shared: Arc<Shared>,
    settings: ValidationSettings,
    /// Dropped with the lead, wherever they are.
    tasks: JoinSet<(BatchId, Outcome)>,
    under_way: HashMap<BatchId, UnderWay>,
    later: HashMap<BatchId, Later>,
}

impl Validations {
    fn new(shared: Arc<Shared>, settings: ValidationSettings) -> Validations {
        Validations {
            shared,
            settings,
            tasks: JoinSet::new(),
            under_way: HashMap::new(),
            later: HashMap::new(),
        }
    }

    /// Ends what is wanted no more, and begins what is wanted.
    async fn look(&mut self) -> Result<(), StoreError> {
        let store = Arc::clone(self.shared.batches.store());
        let announced = store.batch_announced(MAX_ANNOUNCED).await?;
        let known = |id: &BatchId| announced.iter().any(|batch| batch.id == *id);
        self.under_way.retain(|id, _| known(id));
        self.later.retain(|id, _| known(id));
        if announced.is_empty() {
            return Ok(());
        }
        let now_us = store.clock_us().await?;
        for batch in announced {
            let is_late = |expires_us| expires_us <= now_us;
            if batch.times.expires_us.is_some_and(is_late) {
                self.expire(&batch).await?;
            } else {
                self.begin(batch);
            }
        }
        Ok(())
    }

    async fn expire(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.under_way.remove(&batch.id);
        match self.shared.batches.store().batch_expire(batch.no).await {
            Ok(_) => {
                tracing::info!(batch = %batch.id, "the batch's time was up before its file was read");
                told_of_end(&self.shared.batches, &batch.id).await;
                Ok(())
            }
            // It was shown, cancelled or purged in this moment.
            Err(StoreError::WrongState { .. } | StoreError::NoSuchBatch) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Begins to read a batch's file, if it is its turn.
    fn begin(&mut self, batch: Batch) {
        let waits = (self.later.get(&batch.id)).is_some_and(|later| later.at > Instant::now());
        let has_turn = !self.under_way.contains_key(&batch.id) && self.under_way.len() < MAX_READ;
        if waits || !has_turn {
            return;
        }
        let id = batch.id.clone();
        let wanted = Waiting::new();
        let reading = Reading {
            batches: self.shared.batches.clone(),
            settings: self.settings.clone(),
            wanted: wanted.watched(),
            batch,
        };
        let named = id.clone();
        let task = self
            .tasks
            .spawn(async move { (named, read(reading).await) });
        let under_way = UnderWay {
            task,
            _wanted: wanted,
        };
        self.under_way.insert(id, under_way);
    }

    /// Waits for the end of a read.
    async fn one_ended(&mut self) {
        match self.tasks.join_next().await {
            None => std::future::pending().await,
            Some(Ok((id, outcome))) => {
                self.under_way.remove(&id);
                self.note(id, outcome);
            }
            Some(Err(error)) => {
                tracing::error!(%error, "reading a batch's file ended by an error inside rbee");
                let gone: Vec<BatchId> =
                    (self.under_way.extract_if(|_, one| one.task.is_finished()))
                        .map(|(id, _)| id)
                        .collect();
                for id in gone {
                    self.try_later(id);
                }
            }
        }
    }

    fn note(&mut self, id: BatchId, outcome: Outcome) {
        match outcome {
            Outcome::Shown => {
                self.later.remove(&id);
                self.shared.woken.notify_one();
            }
            Outcome::Ended => drop(self.later.remove(&id)),
            Outcome::Later(reason) => {
                tracing::warn!(batch = %id, %reason, "a batch's file is read again later");
                self.try_later(id);
            }
        }
    }

    fn try_later(&mut self, id: BatchId) {
        let before = self.later.get(&id).map(|later| later.wait);
        let wait = before.map_or(FIRST_WAIT, |wait| (wait * 2).min(LONGEST_WAIT));
        let at = Instant::now() + wait;
        self.later.insert(id, Later { at, wait });
    }

    /// How long nothing is to be done. One that is due and has no turn gets it when another read ends.
    fn wait(&self) -> Duration {
        let now = Instant::now();
        let waiting = self.later.values().filter(|later| later.at > now);
        let next = waiting.map(|later| later.at.duration_since(now));
        next.fold(LOOK, Duration::min)
    }
}
