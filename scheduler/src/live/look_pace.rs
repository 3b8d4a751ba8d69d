//! When the store is looked at for a watched job.

use std::time::Duration;
use tokio::time::Instant;

/// The waits between two looks at the store while nothing changes.
pub const FIRST_LOOK: Duration = Duration::from_millis(20);
pub const LONGEST_LOOK: Duration = Duration::from_millis(500);
/// While text comes the store is looked at so often.
const LOOK_WHILE_TALKING: Duration = Duration::from_secs(1);
/// How long text may stay away before the store is looked at: a few times the usual gap, within these bounds.
const SHORTEST_SILENCE: Duration = Duration::from_millis(20);
const LONGEST_SILENCE: Duration = Duration::from_millis(300);

/// When to look at the store next: soon after text stopped coming, seldom while it comes or nothing changes.
pub struct LookPace {
    /// When the next look is due.
    pub next: Instant,
    last: Instant,
    wait: Duration,
    heard: Option<Instant>,
    /// The usual time between two pieces of text.
    gap: Duration,
}

impl LookPace {
    /// The first look is due.
    pub fn new(now: Instant) -> LookPace {
        LookPace {
            next: now,
            last: now,
            wait: FIRST_LOOK,
            heard: None,
            gap: Duration::ZERO,
        }
    }

    /// The store was looked at.
    pub fn looked(&mut self, now: Instant) {
        self.last = now;
        self.next = now + self.wait;
        self.wait = (self.wait * 2).min(LONGEST_LOOK);
    }

    /// The job is not as it was at the last look.
    pub fn changed(&mut self) {
        self.wait = FIRST_LOOK;
    }

    /// Text came.
    pub fn heard(&mut self, now: Instant) {
        if let Some(before) = self.heard.replace(now) {
            self.gap = (self.gap * 3 + now.duration_since(before)) / 4;
        }
        let silence = (self.gap * 3).clamp(SHORTEST_SILENCE, LONGEST_SILENCE);
        self.wait = FIRST_LOOK;
        self.next = (now + silence).min(self.last + LOOK_WHILE_TALKING);
    }
}
