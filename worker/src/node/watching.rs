//! Who watches what: text is published of watched jobs only, one message a step, and never at the engine's expense.

use rbee_queue::queue::{Queue, TextEvent, WATCH_TTL};
use rbee_queue::{JobRef, NodeInstance};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// Groups of text on their way to the queue. A queue that is slower than that loses text: whoever watches sees it by
/// the token numbers and asks for a snapshot.
const GROUPS_WAITING: usize = 256;
/// Groups that are sent at once.
const GROUPS_AT_ONCE: usize = 64;

/// The jobs that somebody watches, and until when.
#[derive(Debug, Default)]
pub struct Interest {
    until: HashMap<JobRef, Instant>,
}

impl Interest {
    /// Notes that a job is watched from now on for a while.
    pub fn note(&mut self, job: JobRef, now: Instant) {
        self.until.retain(|_, until| *until > now);
        self.until.insert(job, now + WATCH_TTL);
    }

    /// Whether a job is watched.
    pub fn has(&self, job: JobRef, now: Instant) -> bool {
        !self.until.is_empty() && self.until.get(&job).is_some_and(|until| *until > now)
    }

    /// Nobody watches anything.
    pub fn clear(&mut self) {
        self.until.clear();
    }
}

/// Joins pieces that follow one another, so that a watcher gets one message a step.
pub fn coalesce(events: Vec<TextEvent>) -> Vec<TextEvent> {
    let mut joined: Vec<TextEvent> = Vec::with_capacity(events.len());
    let mut last: HashMap<(JobRef, u32), usize> = HashMap::new();
    for event in events {
        let key = (event.job, event.choice);
        if let Some(place) = last.get(&key) {
            let before = &mut joined[*place];
            let follows = before.attempt == event.attempt
                && before.first_token.saturating_add(before.tokens) == event.first_token;
            if follows {
                before.tokens += event.tokens;
                before.text.push_str(&event.text);
                continue;
            }
        }
        last.insert(key, joined.len());
        joined.push(event);
    }
    joined
}

/// Sends text to the queue beside the node's work.
pub struct Publisher {
    groups: mpsc::Sender<Vec<TextEvent>>,
}

impl Publisher {
    /// Starts the task that sends; it ends with the publisher.
    pub fn start(queue: Arc<dyn Queue>, node: NodeInstance) -> Publisher {
        let (groups, mut waiting) = mpsc::channel::<Vec<TextEvent>>(GROUPS_WAITING);
        tokio::spawn(async move {
            let mut heard = Vec::new();
            while waiting.recv_many(&mut heard, GROUPS_AT_ONCE).await > 0 {
                let events: Vec<TextEvent> = heard.drain(..).flatten().collect();
                queue.publish(coalesce(events)).await;
            }
            tracing::trace!(%node, "nothing more is published");
        });
        Publisher { groups }
    }

    /// Sends pieces, or drops them if the queue is behind.
    pub fn send(&self, events: Vec<TextEvent>) {
        if !events.is_empty() {
            // Whoever watches sees the gap.
            let _ = self.groups.try_send(events);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rbee_queue::ids::{Attempt, BatchNo, JobIndex};
    use std::time::Duration;

    fn piece(index: u64, choice: u32, first_token: u32, text: &str) -> TextEvent {
        TextEvent {
            job: JobRef {
                batch: BatchNo(1),
                index: JobIndex(index),
            },
            attempt: Attempt(1),
            choice,
            first_token,
            tokens: text.len() as u32,
            text: text.to_owned(),
        }
    }

    #[test]
    fn pieces_of_one_choice_are_joined_and_snapshots_stay_apart() {
        let joined = coalesce(vec![
            piece(1, 0, 0, "ab"),
            piece(2, 0, 0, "x"),
            piece(1, 0, 2, "c"),
            piece(1, 1, 3, "q"),
            piece(1, 0, 0, "abc"),
            piece(1, 0, 3, "d"),
        ]);
        let expected = [
            piece(1, 0, 0, "abc"),
            piece(2, 0, 0, "x"),
            piece(1, 1, 3, "q"),
            piece(1, 0, 0, "abcd"),
        ];
        assert_eq!(joined, expected);
    }

    #[test]
    fn interest_ends_unless_it_is_renewed() {
        let (mut interest, now) = (Interest::default(), Instant::now());
        let job = piece(1, 0, 0, "").job;
        assert!(!interest.has(job, now));
        interest.note(job, now);
        let late = now + WATCH_TTL - Duration::from_millis(1);
        assert!(interest.has(job, late));
        interest.note(job, late);
        assert!(interest.has(job, now + WATCH_TTL));
        assert!(!interest.has(job, late + WATCH_TTL));
    }
}
