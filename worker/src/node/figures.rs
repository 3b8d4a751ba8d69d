//! What a node has measured since it began: how its jobs ended, and how long they took.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use rbee_queue::{JobStats, Outcome, ResultRecord};

/// Buckets of the time to the first token: from 5 ms to 82 s.
const FIRST_TOKEN: (f64, f64, u16) = (0.005, 2.0, 15);
/// Buckets of the time of a token: from 0.2 ms to 3.3 s.
const TOKEN: (f64, f64, u16) = (0.0002, 2.0, 15);

/// The figures; clones share them.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Jobs that were answered.
    pub succeeded: Counter,
    /// Jobs that failed.
    pub failed: Counter,
    /// Seconds from a job's admission by the engine to its first token.
    pub first_token: Histogram,
    /// Seconds a generated token, of each job that has more than one.
    pub token: Histogram,
}

impl Default for Figures {
    /// Nothing has happened yet.
    fn default() -> Figures {
        let buckets = |(first, factor, count)| exponential_buckets(first, factor, count);
        Figures {
            succeeded: Counter::default(),
            failed: Counter::default(),
            first_token: Histogram::new(buckets(FIRST_TOKEN)),
            token: Histogram::new(buckets(TOKEN)),
        }
    }
}

impl Figures {
    /// Notes the end of a job that an engine has run.
    pub fn note(&self, record: &ResultRecord, stats: &JobStats) {
        if matches!(record.outcome, Outcome::Failed(_)) {
            self.failed.inc();
            return;
        }
        self.succeeded.inc();
        self.first_token.observe(stats.first_token_ms as f64 / 1e3);
        if stats.tokens_per_s > 0.0 {
            self.token.observe(1.0 / stats.tokens_per_s);
        }
    }
}
