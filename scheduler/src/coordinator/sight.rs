//! Whether this process saw the store without a break, and may judge others.

use std::time::Duration;
use tokio::time::Instant;

/// When the store was seen. Nodes that were silent while a judge itself was cut off may have been
/// cut off by the same fault: they get one full lease to be heard.
pub(super) struct Sight {
    lease: Duration,
    last: Option<Instant>,
    judges_from: Instant,
}

impl Sight {
    pub fn new(lease: Duration) -> Sight {
        Sight {
            lease,
            last: None,
            judges_from: Instant::now() + lease,
        }
    }

    /// The store answered.
    pub fn seen(&mut self, now: Instant) {
        // A lease is made of several heartbeats: a shorter break hides no node for long enough.
        let blink = self.lease / 2;
        if self.last.is_none_or(|last| now - last > blink) {
            self.judges_from = now + self.lease;
        }
        self.last = Some(now);
    }

    /// True if the silence of others is their own.
    pub fn may_judge(&self, now: Instant) -> bool {
        now >= self.judges_from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judge_that_was_cut_off_waits_one_full_lease() {
        let mut sight = Sight::new(Duration::from_secs(15));
        let mut now = Instant::now();
        let mut after = |seconds| {
            now += Duration::from_secs(seconds);
            now
        };
        for _ in 0..5 {
            sight.seen(after(4));
        }
        assert!(sight.may_judge(after(0)));
        sight.seen(after(10));
        assert!(!sight.may_judge(after(0)));
        sight.seen(after(7));
        assert!(!sight.may_judge(after(7)));
        assert!(sight.may_judge(after(1)));
    }
}
