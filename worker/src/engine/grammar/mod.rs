//! Answers that have a form: which tokens may come next.
//!
//! A job's form (a schema, an expression, a grammar) is compiled while the job is prepared, on a thread of its own. From
//! then on each of its choices has a [`Constraint`]: the mask of the tokens that may come next is made on threads of its own while the model computes
//! the step that the mask is for. A mask depends on the form and the choice's own tokens only, and all bounds are counted in
//! the parser's work, not in time: so the same job has the same answer, or the same error, in any batch. What is compiled is
//! kept for the jobs after it, which begin with a copy of their own.

mod compile;
mod constraint;
mod mask;
mod matcher;
mod threads;
mod vocabulary;

#[cfg(test)]
mod tests;

pub use compile::format_of_call;
pub use constraint::Constraint;
pub use mask::Mask;
pub use matcher::Stops;

use crate::tokenizer::Tokenizer;
use compile::Compiled;
use llguidance::ParserFactory;
use rbee_queue::{JobError, ResponseFormat};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use threads::MaskThreads;

/// The rules by which answers get their form, part of the numerics: another release may allow other tokens.
pub const GRAMMAR_RULES: &str = "grammar v1 llguidance 1.9.1";
/// Compiled forms that are kept: batches mostly ask for one.
const KEPT: usize = 16;

/// The form cannot be understood, or asks for what the grammar engine does not know.
pub const INVALID_RESPONSE_FORMAT: &str = "invalid_response_format";
/// Nothing has the form.
pub const IMPOSSIBLE_RESPONSE_FORMAT: &str = "impossible_response_format";
/// The form takes more memory or work than a form may.
pub const RESPONSE_FORMAT_TOO_LARGE: &str = "response_format_too_large";

/// The forms of a model's jobs.
pub struct Grammars {
    tokenizer: Arc<Tokenizer>,
    /// Made for the first job that needs it.
    factory: OnceLock<Result<ParserFactory, JobError>>,
    threads: OnceLock<MaskThreads>,
    /// The last ones used come first.
    kept: Mutex<VecDeque<Kept>>,
}

struct Kept {
    format: ResponseFormat,
    /// Errors are kept too: a bad schema is mostly that of a whole batch.
    compiled: Result<Arc<Compiled>, JobError>,
}

impl Grammars {
    /// None yet.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Grammars {
        Grammars {
            tokenizer,
            factory: OnceLock::new(),
            threads: OnceLock::new(),
            kept: Mutex::new(VecDeque::new()),
        }
    }

    /// What holds each of `choices` choices to a form.
    ///
    /// # Errors
    /// With the job's error when no answer can be held to it.
    pub fn constraints(
        &self,
        format: &ResponseFormat,
        stops: &Arc<Stops>,
        choices: u32,
    ) -> Result<Vec<Constraint>, JobError> {
        let compiled = self.compiled(format)?;
        let threads = self.threads.get_or_init(MaskThreads::start);
        (0..choices)
            .map(|_| Constraint::new(compiled.matcher(stops), threads.clone()))
            .collect()
    }

    /// Whether a form was compiled, or refused, already.
    pub fn keeps(&self, format: &ResponseFormat) -> bool {
        self.kept().iter().any(|kept| kept.format == *format)
    }

    fn compiled(&self, format: &ResponseFormat) -> Result<Arc<Compiled>, JobError> {
        if let Some(kept) = self.take_kept(format) {
            return kept;
        }
        let factory = self
            .factory
            .get_or_init(|| vocabulary::factory(&self.tokenizer));
        let compiled = factory.as_ref().map_err(JobError::clone);
        let compiled = compiled.and_then(|factory| compile::compile(factory, format));
        let compiled = compiled.map(Arc::new);
        let mut kept = self.kept();
        kept.truncate(KEPT - 1);
        kept.push_front(Kept {
            format: format.clone(),
            compiled: compiled.clone(),
        });
        compiled
    }

    fn take_kept(&self, format: &ResponseFormat) -> Option<Result<Arc<Compiled>, JobError>> {
        let mut kept = self.kept();
        let at = kept.iter().position(|kept| kept.format == *format)?;
        let found = kept.remove(at)?;
        let compiled = found.compiled.clone();
        kept.push_front(found);
        Some(compiled)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
