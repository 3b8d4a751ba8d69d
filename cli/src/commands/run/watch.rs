//! Looking at a batch and its node while they work: progress, what holds them up, and the figures in the end.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use rbee_queue::{Batch, Batches};
use rbee_worker::node::{NodeHandle, NodeStatus};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::claim::reload;
use crate::failure::Failure;
use crate::progress::{RunFigures, RunProgress};
use crate::talk::Talk;

/// How long a store that takes no results is waited for. After that the run ends, and can be given again.
const BLOCKED_PATIENCE: Duration = Duration::from_secs(10);
/// How often the progress is brought up to date.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What this process did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Computed {
    pub jobs: u64,
    pub output_tokens: u64,
    /// Without the time that the first model took to load.
    pub elapsed: Duration,
}

/// Somebody who looks on.
pub struct Watch<'a> {
    talk: &'a Talk,
    batches: &'a Batches,
    before: &'a Batch,
    status: watch::Receiver<NodeStatus>,
    progress: RunProgress,
    started: Instant,
    computing_since: Option<Instant>,
    blocked_since: Option<Instant>,
}

impl<'a> Watch<'a> {
    /// `before` is the batch as it was when this process took it up.
    pub fn new(
        talk: &'a Talk,
        batches: &'a Batches,
        before: &'a Batch,
        node: &NodeHandle,
    ) -> Watch<'a> {
        Watch {
            talk,
            batches,
            before,
            status: node.status(),
            progress: RunProgress::new(talk),
            started: Instant::now(),
            computing_since: None,
            blocked_since: None,
        }
    }

    /// Shows the progress for as long as all goes well. Returns what went wrong.
    pub async fn until_failure(&mut self) -> Failure {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let status = self.status.borrow_and_update().clone();
            if let Some(failed) = &status.load_failure {
                return anyhow!("{}", failed.error.message).into();
            }
            if !status.resident.is_empty() {
                self.computing_since.get_or_insert_with(Instant::now);
            }
            if let Some(failure) = self.judge_blocked(status.blocked.clone()) {
                return failure;
            }
            match reload(self.batches, &self.before.id).await {
                Ok(batch) => self.progress.show(&self.figures(&batch, &status)),
                Err(failure) => return failure,
            }
        }
    }

    /// The figures of what this process did.
    pub async fn computed(mut self) -> Result<Computed, Failure> {
        self.progress.clear();
        let batch = reload(self.batches, &self.before.id).await?;
        Ok(Computed {
            jobs: done(&batch) - done(self.before),
            output_tokens: batch
                .output_tokens
                .saturating_sub(self.before.output_tokens),
            elapsed: self.elapsed(),
        })
    }

    /// Since the model was first seen in memory. A run that ended before anybody looked counts from its start.
    fn elapsed(&self) -> Duration {
        self.computing_since.unwrap_or(self.started).elapsed()
    }

    fn figures(&self, batch: &Batch, status: &NodeStatus) -> RunFigures {
        RunFigures {
            total: batch.counts.total,
            done: done(batch),
            resumed: done(self.before),
            failed: batch.counts.failed,
            tokens_per_s: status
                .engine
                .map_or(0.0, |engine| engine.completion_tokens_per_s),
            elapsed: self.elapsed(),
        }
    }

    /// Tells once that the store takes nothing, and gives up in the end.
    fn judge_blocked(&mut self, reason: Option<String>) -> Option<Failure> {
        let Some(reason) = reason else {
            self.blocked_since = None;
            return None;
        };
        let since = *self.blocked_since.get_or_insert_with(|| {
            self.talk.warn(&format!("waiting: {reason}"));
            Instant::now()
        });
        (since.elapsed() > BLOCKED_PATIENCE).then(|| anyhow!(reason).into())
    }
}

fn done(batch: &Batch) -> u64 {
    batch.counts.total - batch.counts.unfinished()
}
