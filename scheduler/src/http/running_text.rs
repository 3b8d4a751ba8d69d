//! The text of all running jobs of a batch, for a watcher of `…/events?tokens=all`.
//!
//! A bounded number of jobs is followed at once. Whatever was told of a job before, its result completes it: the pieces
//! of each job joined are its text.

use super::Server;
use super::jobs::text_piece;
use super::sse;
use super::types::{ResetEvent, ResultEvent, TextPiece, event};
use crate::live::{LiveJob, Place, TooMany};
use axum::response::sse::Event;
use futures_util::FutureExt;
use rbee_queue::{Batch, JobIndex};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use tokio::sync::watch;

/// The jobs whose text one client watches.
#[derive(Default)]
pub struct RunningText {
    jobs: BTreeMap<u64, Followed>,
    /// Jobs whose result was told while they still counted as running.
    done: HashSet<u64>,
}

struct Followed {
    live: Arc<LiveJob>,
    changed: watch::Receiver<u64>,
    place: Place,
    /// What was told of the first choice.
    attempt: u64,
    tokens: u32,
    bytes: usize,
}

impl RunningText {
    /// Follows what runs now. Jobs that are followed are so until their results are told.
    pub fn follow(
        &mut self,
        server: &Server,
        batch: &Batch,
        running: &[u64],
        most: usize,
    ) -> Result<(), TooMany> {
        self.done.retain(|index| running.contains(index));
        // A job that a lost node gave back runs again soon.
        for index in running {
            if self.jobs.len() >= most {
                return Ok(());
            }
            if self.done.contains(index) || self.jobs.contains_key(index) {
                continue;
            }
            let live = server.live_jobs.follow(batch, JobIndex(*index))?;
            self.jobs.insert(
                *index,
                Followed {
                    changed: live.changed(),
                    live,
                    place: Place::default(),
                    attempt: 0,
                    tokens: 0,
                    bytes: 0,
                },
            );
        }
        Ok(())
    }

    /// What is new.
    pub fn news(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for (index, job) in &mut self.jobs {
            job.changed.borrow_and_update();
            let (news, _) = job.live.read(&mut job.place);
            if let Some(attempt) = news.reset {
                (job.tokens, job.bytes) = (0, 0);
                let reset = ResetEvent {
                    index: Some(*index),
                    attempt: attempt.0,
                };
                events.push(sse::event(event::RESET, &reset));
            }
            for piece in &news.pieces {
                job.attempt = piece.attempt.0;
                if piece.choice == 0 {
                    job.tokens = piece.first_token + piece.tokens;
                    job.bytes += piece.text.len();
                }
                events.push(sse::event(event::TEXT, &text_piece(piece, Some(*index))));
            }
        }
        events
    }

    /// What is missing of a job's text once its result is there.
    pub fn complete(&mut self, json: &str) -> Option<Event> {
        let result: ResultEvent = serde_json::from_str(json).ok()?;
        self.done.insert(result.index);
        let told = self.jobs.remove(&result.index);
        let (attempt, tokens, bytes) =
            told.map_or((0, 0, 0), |job| (job.attempt, job.tokens, job.bytes));
        let rest = result.text.as_ref()?.get(bytes..)?;
        if rest.is_empty() {
            return None;
        }
        let all = result.usage.map_or(0, |usage| usage.completion_tokens);
        let piece = TextPiece {
            index: Some(result.index),
            attempt,
            choice: 0,
            first_token: tokens,
            tokens: all.saturating_sub(tokens).max(1),
            text: rest.to_owned(),
        };
        Some(sse::event(event::TEXT, &piece))
    }

    /// Waits until something of a followed job changes.
    pub async fn changed(&mut self) {
        if self.jobs.is_empty() {
            return std::future::pending().await;
        }
        let jobs = self.jobs.values_mut();
        let changes = jobs.map(|job| job.changed.changed().boxed());
        // The senders are held.
        let _ = futures_util::future::select_all(changes).await;
    }
}
