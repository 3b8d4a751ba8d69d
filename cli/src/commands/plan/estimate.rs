//! From work and speeds to a range of time: pure.

use std::iter::Sum;

use super::figures::Work;

/// What a machine does besides may make it so much faster or slower than it was measured.
const FASTER: f64 = 0.8;
const SLOWER: f64 = 1.25;

/// A range of seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Range {
    pub low: f64,
    pub high: f64,
}

impl Sum for Range {
    fn sum<I: Iterator<Item = Range>>(ranges: I) -> Range {
        ranges.fold(Range::default(), |sum, range| Range {
            low: sum.low + range.low,
            high: sum.high + range.high,
        })
    }
}

/// How fast a model is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// On this machine, by some jobs of the file.
    Measured {
        prompt_tokens_per_s: f64,
        output_tokens_per_s: f64,
        /// Length of the measured answers as a share of what they may have.
        length_share: f64,
        load_s: f64,
    },
    /// By what nodes that have it in memory say of their work so far.
    Told {
        jobs_per_s: f64,
        output_tokens_per_s: f64,
    },
}

impl Speed {
    /// How long the work takes.
    pub fn time(&self, work: &Work) -> Range {
        let (prompts, outputs) = (work.prompt_tokens as f64, work.output_tokens as f64);
        let (low, high) = match *self {
            Speed::Measured {
                prompt_tokens_per_s,
                output_tokens_per_s,
                length_share,
                load_s,
            } => {
                let fixed = load_s + prompts / prompt_tokens_per_s;
                let answers = outputs / output_tokens_per_s;
                (fixed + answers * length_share, fixed + answers)
            }
            Speed::Told {
                jobs_per_s,
                output_tokens_per_s,
            } => {
                let by_jobs = work.jobs as f64 / jobs_per_s;
                let by_tokens = outputs / output_tokens_per_s;
                (by_jobs.min(by_tokens), by_jobs.max(by_tokens))
            }
        };
        Range {
            low: low * FASTER,
            high: high * SLOWER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Work = Work {
        jobs: 10,
        prompt_tokens: 1_000,
        output_tokens: 400,
    };

    #[test]
    fn answers_of_the_measured_length_are_the_lower_end() {
        let speed = Speed::Measured {
            prompt_tokens_per_s: 500.0,
            output_tokens_per_s: 100.0,
            length_share: 0.25,
            load_s: 1.0,
        };
        let range = speed.time(&WORK);
        assert_eq!((range.low, range.high), (4.0 * FASTER, 7.0 * SLOWER));
    }

    #[test]
    fn told_speeds_give_two_estimates() {
        let speed = Speed::Told {
            jobs_per_s: 5.0,
            output_tokens_per_s: 40.0,
        };
        let range = speed.time(&WORK);
        assert_eq!((range.low, range.high), (2.0 * FASTER, 10.0 * SLOWER));
    }
}
