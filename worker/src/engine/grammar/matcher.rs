//! One choice's place in its grammar.

use super::compile::refusal;
use super::mask::Mask;
use super::{IMPOSSIBLE_RESPONSE_FORMAT, RESPONSE_FORMAT_TOO_LARGE};
use crate::engine::prepare::ENGINE_ERROR;
use rbee_queue::JobError;
use std::sync::Arc;

/// Work that a choice may take beside that of its tokens: some hundred milliseconds.
const WORK_OF_A_CHOICE: u64 = 2_000_000;
/// Work that each token may take on average, one or two milliseconds: so one job cannot hold up the others for long.
const WORK_A_TOKEN: u64 = 25_000;

/// The tokens that end an answer, and how firmly.
#[derive(Debug)]
pub struct Stops {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// They are taken only where nothing else may come.
    pub last_resort: bool,
    /// Token ids of the model.
    pub vocabulary: usize,
}

/// Where a choice is in its grammar.
pub struct Matcher {
    parser: llguidance::Matcher,
    stops: Arc<Stops>,
    /// Work done so far, and what may be done.
    work: u64,
    may_work: u64,
}

impl Matcher {
    /// At its beginning.
    pub fn new(parser: llguidance::Matcher, stops: Arc<Stops>) -> Matcher {
        Matcher {
            parser,
            stops,
            work: 0,
            may_work: WORK_OF_A_CHOICE,
        }
    }

    /// The tokens that may come next; never none.
    ///
    /// # Errors
    /// With the job's error.
    pub fn mask(&mut self) -> Result<Mask, JobError> {
        let set = self.parser.compute_mask().map_err(|_| self.failure())?;
        let stats = self.parser.last_step_stats();
        let work = stats.map_or(0, |stats| stats.lexer_cost + stats.all_items as u64);
        self.work += work;
        if self.work > self.may_work {
            let message = "The form of the answer takes too much work: more than 25,000 items of its grammar a token.";
            return Err(JobError::new(RESPONSE_FORMAT_TOO_LARGE, message));
        }
        // The engine's own token for the end stands behind the vocabulary.
        let end = set.len().saturating_sub(1);
        let may_end = set.is_allowed(end as u32);
        let mut mask = Mask::new(&set, end.min(self.stops.vocabulary));
        for token in &self.stops.tokens {
            mask.set(*token, false);
        }
        if may_end && (!self.stops.last_resort || mask.is_empty()) {
            for token in &self.stops.tokens {
                mask.set(*token, true);
            }
        }
        match mask.is_empty() {
            true => Err(dead_end()),
            false => Ok(mask),
        }
    }

    /// Takes the next token, which is of the mask and no end. True if nothing can follow: the answer is complete.
    ///
    /// # Errors
    /// With the job's error.
    pub fn take(&mut self, token: u32) -> Result<bool, JobError> {
        self.may_work += WORK_A_TOKEN;
        self.parser
            .consume_token(token)
            .map_err(|_| self.failure())?;
        Ok(self.parser.is_stopped())
    }

    fn failure(&self) -> JobError {
        failure(&self.parser)
    }
}

/// What a parser that has failed says of it.
pub fn failure(parser: &llguidance::Matcher) -> JobError {
    let why = parser.get_error().unwrap_or_default();
    if why.contains("panic") {
        let why = why.lines().next().unwrap_or_default();
        let message = format!("The grammar of the answer failed inside rbee: {why}.");
        return JobError::new(ENGINE_ERROR, message);
    }
    match why.contains("NoExtensionBias") {
        true => dead_end(),
        false => refusal(&format!("too complex: {why}")),
    }
}

fn dead_end() -> JobError {
    let message =
        "The form of the answer cannot be gone on with: the model has no token that may come next.";
    JobError::new(IMPOSSIBLE_RESPONSE_FORMAT, message)
}
