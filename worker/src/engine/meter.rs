//! The engine's figures while it runs: totals, and rates over the last seconds.

use super::options::EngineStats;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Rates are means over this long.
const WINDOW: Duration = Duration::from_secs(3);
/// Samples are at least this far apart, which bounds their number.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// Keeps the figures. Clocks are handed in.
#[derive(Debug)]
pub struct Meter {
    /// The figures, but for the rates.
    pub stats: EngineStats,
    samples: VecDeque<Sample>,
}

impl Meter {
    /// A meter at zero.
    pub fn new(stats: EngineStats, now: Instant) -> Meter {
        let mut meter = Meter {
            stats,
            samples: VecDeque::new(),
        };
        meter.push(now);
        meter
    }

    /// Notes that the totals have changed.
    pub fn advance(&mut self, now: Instant) {
        let due = |last: &Sample| now.duration_since(last.at) >= SAMPLE_EVERY;
        if self.samples.back().is_none_or(due) {
            self.push(now);
        }
    }

    fn push(&mut self, now: Instant) {
        self.samples.push_back(Sample {
            at: now,
            prompt_tokens: self.stats.prompt_tokens,
            completion_tokens: self.stats.completion_tokens,
        });
        while self.samples.len() > 1 && now.duration_since(self.samples[0].at) > WINDOW {
            self.samples.pop_front();
        }
    }

    /// The figures with the rates as of `now`.
    pub fn read(&self, now: Instant) -> EngineStats {
        let mut stats = self.stats;
        let recent = |sample: &&Sample| now.duration_since(sample.at) <= WINDOW;
        if let Some(base) = self.samples.iter().find(recent) {
            let elapsed_s = now.duration_since(base.at).max(SAMPLE_EVERY).as_secs_f64();
            let rate = |total: u64, before: u64| (total - before) as f64 / elapsed_s;
            stats.prompt_tokens_per_s = rate(stats.prompt_tokens, base.prompt_tokens);
            stats.completion_tokens_per_s = rate(stats.completion_tokens, base.completion_tokens);
        }
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_last_seconds_and_fall_to_zero_when_idle() {
        let start = Instant::now();
        let mut meter = Meter::new(EngineStats::default(), start);
        for tenth in 1..=100u32 {
            meter.stats.completion_tokens += if tenth <= 50 { 1000 } else { 10 };
            meter.advance(start + SAMPLE_EVERY * tenth);
        }
        let now = start + SAMPLE_EVERY * 100;
        let rate = meter.read(now).completion_tokens_per_s;
        assert!((99.0..101.0).contains(&rate), "{rate}");
        assert_eq!(meter.read(now + WINDOW * 2).completion_tokens_per_s, 0.0);
        assert!(meter.samples.len() <= 32);
    }
}
