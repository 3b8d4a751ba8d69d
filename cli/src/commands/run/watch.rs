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
    blocked: bool,
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
            blocked: false,
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
            self.tell_blocked(status.blocked.as_deref());
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

    fn tell_blocked(&mut self, reason: Option<&str>) {
        match reason {
            Some(reason) if !self.blocked => self.talk.warn(&format!("waiting: {reason}")),
            None if self.blocked => self.talk.note("going on"),
            _ => {}
        }
        self.blocked = reason.is_some();
    }
}

fn done(batch: &Batch) -> u64 {
    batch.counts.total - batch.counts.unfinished()
}
