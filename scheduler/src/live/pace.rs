//! How fast a batch is, from what was finished lately.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// What counts as lately.
const WINDOW: Duration = Duration::from_secs(15);
/// Nothing is said before so much time was looked at.
const LEAST: Duration = Duration::from_millis(900);
/// Samples that are kept: a look each, a few a second.
const MAX_SAMPLES: usize = 128;

/// Samples of a batch's counters.
#[derive(Debug, Default)]
pub struct Pace(VecDeque<Sample>);

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    done: u64,
    tokens: u64,
}

/// How fast it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    /// Jobs a second.
    pub jobs_per_s: f64,
    /// Generated tokens a second.
    pub tokens_per_s: f64,
}

impl Pace {
    /// Notes the counters as they are now. A retry sets them back, which begins anew.
    pub fn note(&mut self, at: Instant, done: u64, tokens: u64) {
        if (self.0.back()).is_some_and(|last| last.done > done || last.tokens > tokens) {
            self.0.clear();
        }
        // Of the samples that are too old one is kept: the window begins there.
        while self.0.len() > 1 && at.duration_since(self.0[1].at) >= WINDOW {
            self.0.pop_front();
        }
        if self.0.len() == MAX_SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(Sample { at, done, tokens });
    }

    /// How fast it was lately; zero while that is not known.
    pub fn speed(&self) -> Speed {
        let (Some(first), Some(last)) = (self.0.front(), self.0.back()) else {
            return Speed::default();
        };
        let time = last.at.duration_since(first.at);
        if time < LEAST {
            return Speed::default();
        }
        Speed {
            jobs_per_s: (last.done - first.done) as f64 / time.as_secs_f64(),
            tokens_per_s: (last.tokens - first.tokens) as f64 / time.as_secs_f64(),
        }
    }

    /// Seconds that so many jobs take at this speed.
    pub fn eta_s(&self, jobs: u64) -> Option<f64> {
        let speed = self.speed().jobs_per_s;
        (speed > 0.0).then(|| jobs as f64 / speed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_that_of_the_last_seconds() {
        let mut pace = Pace::default();
        let start = Instant::now();
        pace.note(start, 0, 0);
        assert_eq!(pace.speed(), Speed::default());
        assert_eq!(pace.eta_s(10), None);
        for second in 1..=100 {
            pace.note(start + Duration::from_secs(second), second * 2, second * 30);
        }
        assert_eq!(pace.speed().jobs_per_s, 2.0);
        assert_eq!(pace.speed().tokens_per_s, 30.0);
        assert_eq!(pace.eta_s(10), Some(5.0));
        let stopped = start + Duration::from_secs(200);
        pace.note(stopped, 200, 3000);
        pace.note(stopped + Duration::from_secs(20), 200, 3000);
        assert_eq!(pace.speed(), Speed::default());
    }

    #[test]
    fn counters_that_were_set_back_begin_anew() {
        let mut pace = Pace::default();
        let start = Instant::now();
        pace.note(start, 10, 100);
        pace.note(start + Duration::from_secs(2), 5, 100);
        assert_eq!(pace.speed(), Speed::default());
    }
}
