//! Waiting before something that failed is tried again.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(50);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(2);

/// Waits that double from one failure to the next.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Waits that end at the usual longest one.
    pub fn new() -> Backoff {
        Backoff::up_to(LONGEST)
    }

    /// Waits that end at this one.
    pub fn up_to(longest: Duration) -> Backoff {
        Backoff {
            next: FIRST.min(longest),
            longest,
        }
    }

    /// It went well: the next failure is the first again.
    pub fn reset(&mut self) {
        self.next = FIRST.min(self.longest);
    }

    /// Whether nothing has failed since the start or the last reset.
    pub fn is_fresh(&self) -> bool {
        self.next == FIRST.min(self.longest)
    }

    /// Waits, longer each time.
    pub async fn wait(&mut self) {
        let now = self.next;
        self.next = (now * 2).min(self.longest);
        tokio::time::sleep(now).await;
    }
}
