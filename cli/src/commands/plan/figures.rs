//! What the lines of a file come to, model by model.
//!
//! Owns the sums, and what has to be remembered for them: digests of jobs and of beginnings of prompts, up to a limit
//! each. Beyond it equal ones are not noticed any more, so that the sums name a little more work than there is.

use std::collections::{BTreeMap, HashSet};

use rbee_queue::Request;
use rbee_queue::ids::ContentHash;
use rbee_queue::jsonl::Line;
use rbee_worker::engine::prefix::{PrefixKey, prefix_keys};
use rbee_worker::engine::prepare::CONTEXT_LENGTH_EXCEEDED;
use rbee_worker::engine::step::BLOCK_TOKENS;

/// Different jobs of one model that are remembered.
const MOST_WORKS: usize = 1 << 21;
/// Different blocks of prompts of one model that are remembered.
const MOST_BLOCKS: usize = 1 << 20;
/// Lines that are named.
const LINES_NAMED: usize = 10;

/// Lines of one kind: how many, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadLines {
    pub count: u64,
    /// Physical numbers.
    pub first: Vec<u64>,
}

impl BadLines {
    /// One more.
    pub fn add(&mut self, line_number: u64) {
        self.count += 1;
        let at = self.first.partition_point(|number| *number < line_number);
        self.first.insert(at, line_number);
        self.first.truncate(LINES_NAMED);
    }
}

/// A line that can be answered.
pub struct Countable<'a> {
    pub prompt: &'a [u32],
    /// The most tokens of all its answers.
    pub output_tokens: u64,
    /// What it is known by, if an equal one has an equal answer.
    pub work: Option<ContentHash>,
}

/// The jobs of one model.
#[derive(Debug, Clone, Default)]
pub struct ModelFigures {
    pub jobs: u64,
    pub prompt_tokens: u64,
    pub output_tokens: u64,
    /// Jobs whose answer an equal job gives.
    pub equal_jobs: u64,
    equal_prompt_tokens: u64,
    equal_output_tokens: u64,
    /// Prompt tokens that begin other prompts too, computed once.
    pub shared_tokens: u64,
    pub longest_prompt: u64,
    /// Prompts that leave no room for an answer.
    pub over_context: BadLines,
    /// Other lines that would fail, by the code of their error.
    pub failing: BTreeMap<String, BadLines>,
    /// Some jobs, spread over the file.
    pub sample: Vec<Request>,
    works: HashSet<ContentHash>,
    blocks: HashSet<PrefixKey>,
}

/// What has to be computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    pub jobs: u64,
    pub prompt_tokens: u64,
    /// At most.
    pub output_tokens: u64,
}

impl ModelFigures {
    /// Nothing counted yet, of so many jobs.
    pub fn new(jobs: u64) -> ModelFigures {
        ModelFigures {
            jobs,
            ..ModelFigures::default()
        }
    }

    /// Counts a job that can be answered.
    pub fn add(&mut self, job: &Countable<'_>) {
        let prompt_tokens = job.prompt.len() as u64;
        self.prompt_tokens += prompt_tokens;
        self.output_tokens += job.output_tokens;
        self.longest_prompt = self.longest_prompt.max(prompt_tokens);
        if let Some(work) = job.work {
            if self.works.contains(&work) {
                self.equal_jobs += 1;
                self.equal_prompt_tokens += prompt_tokens;
                self.equal_output_tokens += job.output_tokens;
                return;
            }
            if self.works.len() < MOST_WORKS {
                self.works.insert(work);
            }
        }
        for block in prefix_keys(job.prompt).iter() {
            if self.blocks.contains(block) {
                self.shared_tokens += BLOCK_TOKENS as u64;
            } else if self.blocks.len() < MOST_BLOCKS {
                self.blocks.insert(*block);
            }
        }
    }

    /// Counts a job that would fail.
    pub fn fail(&mut self, code: &str, line: &Line) {
        match code {
            CONTEXT_LENGTH_EXCEEDED => self.over_context.add(line.number),
            _ => self
                .failing
                .entry(code.to_owned())
                .or_default()
                .add(line.number),
        }
    }

    /// Jobs that would fail.
    pub fn failed(&self) -> u64 {
        let others: u64 = self.failing.values().map(|lines| lines.count).sum();
        self.over_context.count + others
    }

    /// What has to be computed: equal jobs and equal beginnings once.
    pub fn work(&self) -> Work {
        Work {
            jobs: self.jobs.saturating_sub(self.failed() + self.equal_jobs),
            prompt_tokens: self.prompt_tokens - self.equal_prompt_tokens - self.shared_tokens,
            output_tokens: self.output_tokens - self.equal_output_tokens,
        }
    }

    /// The share of the prompt tokens that begin other prompts too.
    pub fn shared_share(&self) -> f64 {
        let once = self.prompt_tokens - self.equal_prompt_tokens;
        match once {
            0 => 0.0,
            _ => self.shared_tokens as f64 / once as f64,
        }
    }

    /// Forgets what was only needed while counting.
    pub fn close(&mut self) {
        self.works = HashSet::new();
        self.blocks = HashSet::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_jobs_and_equal_beginnings_are_work_once() {
        let beginning: Vec<u32> = (0..2 * BLOCK_TOKENS as u32).collect();
        let with = |last: u32| [beginning.as_slice(), &[last]].concat();
        let (one, two) = (with(1), with(2));
        let job = |prompt, work: Option<u8>| Countable {
            prompt,
            output_tokens: 10,
            work: work.map(|byte| ContentHash([byte; 32])),
        };
        let mut figures = ModelFigures::new(5);
        figures.add(&job(&one, Some(1)));
        figures.add(&job(&one, Some(1)));
        figures.add(&job(&two, Some(2)));
        figures.add(&job(&one, None));
        let tokens = 2 * BLOCK_TOKENS as u64 + 1;
        assert_eq!(figures.prompt_tokens, 4 * tokens);
        assert_eq!(figures.equal_jobs, 1);
        assert_eq!(figures.shared_tokens, 4 * BLOCK_TOKENS as u64);
        let work = figures.work();
        assert_eq!(work.prompt_tokens, 2 * BLOCK_TOKENS as u64 + 3);
        assert_eq!((work.jobs, work.output_tokens), (4, 30));
    }

    #[test]
    fn the_first_bad_lines_are_named_in_whatever_order_they_come() {
        let mut lines = BadLines::default();
        for number in (1..=20).rev() {
            lines.add(number);
        }
        assert_eq!(lines.count, 20);
        assert_eq!(lines.first, (1..=10).collect::<Vec<u64>>());
    }
}
