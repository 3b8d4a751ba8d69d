//! One sequence: a choice of a job while it runs. It owns the tokens, the text made of them, and the decision that the
//! answer has ended.

use super::grammar::Constraint;
use super::planner::SeqKey;
use super::sampler::{NotFinite, Sampled, Sampler, Scratch};
use super::stop::{StopMatcher, StopState};
use crate::tokenizer::{DetokenizerState, TextDecoder, Tokenizer};
use rbee_queue::{Choice, FinishReason, JobError, TokenLogprob, TopLogprob};
use std::sync::Arc;

/// What ends an answer, but for stop texts.
#[derive(Debug, Clone)]
pub struct Ends {
    /// Tokens that end the answer and are no part of it, ascending.
    pub stop_tokens: Vec<u32>,
    /// Most tokens of the answer, at least 1.
    pub limit: u32,
}

impl Ends {
    /// The ends of an answer of at most `limit` tokens: the model's own stop tokens unless `ignore_eos`, and the
    /// request's.
    pub fn new(model: &[u32], ignore_eos: bool, request: &[u32], limit: u32) -> Ends {
        let mut stop_tokens = request.to_vec();
        if !ignore_eos {
            stop_tokens.extend_from_slice(model);
        }
        stop_tokens.sort_unstable();
        stop_tokens.dedup();
        Ends { stop_tokens, limit }
    }
}

/// A piece of an answer that can be shown.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Number of the first generated token that it accounts for.
    pub first_token: u32,
    /// Number of tokens that it accounts for.
    pub tokens: u32,
    /// The text.
    pub text: String,
}

/// A running choice.
pub struct Sequence {
    /// Its place among the sequences.
    pub key: SeqKey,
    /// The engine's number of its job.
    pub job: u64,
    /// 0-based choice.
    pub choice: u32,
    /// Prompt and answer. The last token may be without K and V yet.
    pub tokens: Vec<u32>,
    /// How many of the tokens are the prompt.
    pub prompt_len: usize,
    /// Prompt positions that were computed at least once.
    pub prompt_seen: usize,
    sampler: Sampler,
    ends: Ends,
    constraint: Option<Constraint>,
    text: AnswerText,
}

/// Why no token could be drawn.
pub enum DrawError {
    /// The row is unusable.
    NotFinite(NotFinite),
    /// The answer's form cannot be gone on with.
    Form(JobError),
}

impl Sequence {
    /// A sequence at its start.
    pub fn new(start: SequenceStart<'_>) -> Sequence {
        Sequence {
            key: start.key,
            job: start.job,
            choice: start.choice,
            prompt_len: start.prompt.len(),
            prompt_seen: 0,
            tokens: start.prompt,
            sampler: start.sampler,
            ends: start.ends,
            constraint: start.constraint,
            text: AnswerText::new(start.tokenizer, start.answer),
        }
    }

    /// Draws the next token of the answer; [`accept`](Self::accept) takes it.
    ///
    /// # Errors
    /// When the job cannot go on.
    pub fn draw(&mut self, row: &mut [f32], scratch: &mut Scratch) -> Result<Sampled, DrawError> {
        let position = self.generated();
        let Some(constraint) = &mut self.constraint else {
            let sampled = self.sampler.sample(row, position, scratch);
            return sampled.map_err(DrawError::NotFinite);
        };
        let mask = constraint.mask().map_err(DrawError::Form)?;
        let sampled = self
            .sampler
            .sample_among(row, position, Some(mask), scratch)
            .map_err(DrawError::NotFinite)?;
        if self.ends.stop_tokens.binary_search(&sampled.token).is_err() {
            constraint.take(sampled.token).map_err(DrawError::Form)?;
        }
        Ok(sampled)
    }

    /// Tokens of the answer so far, an ending stop token included.
    pub fn generated(&self) -> u32 {
        (self.tokens.len() - self.prompt_len) as u32
    }

    /// Takes the next token. Tells why the answer has ended if it has; then nothing more may be taken.
    pub fn accept(&mut self, sampled: Sampled, tokenizer: &Tokenizer) -> Option<FinishReason> {
        self.tokens.push(sampled.token);
        if self.ends.stop_tokens.binary_search(&sampled.token).is_ok() {
            self.text.finish();
            return Some(FinishReason::Stop);
        }
        if self.text.push(sampled, tokenizer) {
            return Some(FinishReason::Stop);
        }
        if self
            .constraint
            .as_ref()
            .is_some_and(Constraint::is_complete)
        {
            self.text.finish();
            return Some(FinishReason::Stop);
        }
        if self.generated() >= self.ends.limit {
            self.text.finish();
            return Some(FinishReason::Length);
        }
        None
    }

    /// The text that became certain since the last call, or `None` if there is none.
    pub fn take_delta(&mut self) -> Option<Delta> {
        let generated = self.generated();
        self.text.take_delta(generated)
    }

    /// All text that is certain, as if nothing had been taken before; may be empty.
    pub fn snapshot(&mut self) -> Delta {
        self.text.shown = 0;
        self.text.shown_tokens = 0;
        let generated = self.generated();
        self.text.take_delta(generated).unwrap_or_default()
    }

    /// The finished choice.
    pub fn into_choice(self, finish_reason: FinishReason) -> Choice {
        Choice {
            index: self.choice,
            text: self.text.text,
            finish_reason,
            logprobs: self.text.logprobs.map(|taken| taken.entries),
        }
    }
}

/// What a [`Sequence`] starts with.
pub struct SequenceStart<'a> {
    /// Its place among the sequences.
    pub key: SeqKey,
    /// The engine's number of its job.
    pub job: u64,
    /// 0-based choice.
    pub choice: u32,
    /// The prompt, at least one token.
    pub prompt: Vec<u32>,
    /// Its sampler.
    pub sampler: Sampler,
    /// What ends it.
    pub ends: Ends,
    /// What holds it to a form.
    pub constraint: Option<Constraint>,
    /// What its text depends on beside the tokens.
    pub answer: AnswerOptions<'a>,
    /// Makes text of its tokens.
    pub tokenizer: &'a Arc<Tokenizer>,
}

/// What the text of an answer depends on beside the tokens.
#[derive(Debug, Clone, Copy)]
pub struct AnswerOptions<'a> {
    /// The stop texts.
    pub stop: &'a [String],
    /// Whether log-probabilities are kept.
    pub logprobs: bool,
}

/// The text of an answer while it grows.
struct AnswerText {
    detokenizer: DetokenizerState,
    decoder: TextDecoder,
    matcher: StopMatcher,
    /// Whole characters only; when the answer has ended, without the stop text.
    text: String,
    /// Bytes of `text` that cannot be taken back.
    safe: usize,
    /// Bytes of `text` that were given out.
    shown: usize,
    /// Tokens that were accounted for with them.
    shown_tokens: u32,
    logprobs: Option<TakenLogprobs>,
}

#[derive(Default)]
struct TakenLogprobs {
    entries: Vec<TokenLogprob>,
    /// Length of the text before each token.
    starts: Vec<usize>,
}

impl AnswerText {
    fn new(tokenizer: &Arc<Tokenizer>, options: AnswerOptions<'_>) -> AnswerText {
        AnswerText {
            detokenizer: tokenizer.decoder(),
            decoder: TextDecoder::new(),
            matcher: StopMatcher::new(options.stop),
            text: String::new(),
            safe: 0,
            shown: 0,
            shown_tokens: 0,
            logprobs: options.logprobs.then(TakenLogprobs::default),
        }
    }

    /// Adds a token's text. True if a stop text is complete; the text then ends before it.
    fn push(&mut self, sampled: Sampled, tokenizer: &Tokenizer) -> bool {
        let start = self.text.len();
        let bytes = self.detokenizer.push(sampled.token);
        let piece = self.decoder.push(bytes);
        if let (Some(taken), Some(logprobs)) = (&mut self.logprobs, &sampled.logprobs) {
            taken.starts.push(start);
            let top = logprobs.top.iter().map(|(id, logprob)| {
                let bytes = tokenizer.token_bytes(*id);
                TopLogprob {
                    token: String::from_utf8_lossy(bytes).into_owned(),
                    bytes: bytes.to_vec(),
                    logprob: *logprob,
                }
            });
            taken.entries.push(TokenLogprob {
                token: String::from_utf8_lossy(bytes).into_owned(),
                bytes: bytes.to_vec(),
                logprob: logprobs.taken,
                top: top.collect(),
            });
        }
        let state = self.matcher.push(&piece);
        self.text.push_str(&piece);
        match state {
            StopState::Open { safe } => {
                self.safe = safe;
                false
            }
            StopState::Stopped { at } => {
                self.text.truncate(at);
                self.safe = at;
                self.cut_logprobs(at);
                true
            }
        }
    }

    /// Ends the text where it is. The beginning of a character that never got whole is not text and is left out.
    fn finish(&mut self) {
        self.safe = self.text.len();
    }

    /// Leaves out the tokens whose text lies wholly in the stop text.
    fn cut_logprobs(&mut self, at: usize) {
        if let Some(taken) = &mut self.logprobs {
            let kept = taken.starts.partition_point(|start| *start < at);
            taken.entries.truncate(kept);
            taken.starts.truncate(kept);
        }
    }

    fn take_delta(&mut self, generated: u32) -> Option<Delta> {
        if self.safe == self.shown {
            return None;
        }
        let delta = Delta {
            first_token: self.shown_tokens,
            tokens: generated - self.shown_tokens,
            text: self.text[self.shown..self.safe].to_owned(),
        };
        self.shown = self.safe;
        self.shown_tokens = generated;
        Some(delta)
    }
}

#[cfg(test)]
#[path = "sequence_tests.rs"]
mod tests;
