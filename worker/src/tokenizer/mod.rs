//! Text to tokens and back, as the model's own file prescribes.
//!
//! Owns the vocabularies (byte-level BPE, SPM, `tokenizer.json`), the special tokens, the stop
//! tokens and the detokenizer. It does not know chat templates, sampling or sequences.

mod bpe;
mod build;
mod byte_alphabet;
mod detokenizer;
mod error;
mod gguf;
mod json;
mod json_files;
mod pretokenizer;
mod special;
mod spm;
mod stop;
mod table;
mod vocab;

use std::sync::Arc;

use bpe::Bpe;
use json::JsonModel;
use special::{Fragment, SpecialSpans, SpecialTokens};
use spm::Spm;
use table::TokenTable;

pub use detokenizer::{DetokenizerState, TextDecoder};
pub use error::TokenizerError;
pub(crate) use special::is_markable;
pub use vocab::{SpecialIds, TokenKind, VocabSpec};

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

/// What turns plain text into tokens.
enum Model {
    /// One token a byte.
    Bytes,
    Bpe(Box<Bpe>),
    Spm(Box<Spm>),
    Json(Box<JsonModel>),
}

/// A model's tokenizer.
pub struct Tokenizer {
    model: Model,
    table: TokenTable,
    special: SpecialTokens,
    bos: Option<u32>,
    eos: Option<u32>,
    /// Ascending.
    stop: Vec<u32>,
    add_bos: bool,
    add_eos: bool,
}

impl Tokenizer {
    /// Tokens of `text`, without BOS or EOS. The time is bounded by O(n log n) for any text.
    pub fn encode(&self, text: &str, special: ParseSpecial) -> Vec<u32> {
        let spans = match special {
            ParseSpecial::Yes => SpecialSpans::whole(text.len()),
            ParseSpecial::No => SpecialSpans::default(),
        };
        self.encode_spans(text, &spans)
    }

    /// Tokens of a whole prompt. BOS is added if the metadata says so and the prompt does not begin
    /// with it, EOS likewise at the end.
    pub fn encode_prompt(&self, segments: &[Segment]) -> Vec<u32> {
        let mut text =
            String::with_capacity(segments.iter().map(|segment| segment.text.len()).sum());
        let mut spans = SpecialSpans::default();
        for segment in segments {
            let start = text.len();
            text.push_str(&segment.text);
            if segment.special {
                spans.push(start..text.len());
            }
        }
        let mut tokens = self.encode_spans(&text, &spans);
        if let Some(bos) = self
            .bos
            .filter(|bos| self.add_bos && tokens.first() != Some(bos))
        {
            tokens.insert(0, bos);
        }
        if let Some(eos) = self
            .eos
            .filter(|eos| self.add_eos && tokens.last() != Some(eos))
        {
            tokens.push(eos);
        }
        tokens
    }

    fn encode_spans(&self, text: &str, spans: &SpecialSpans) -> Vec<u32> {
        if let Model::Json(json) = &self.model {
            return json.encode(text, spans, &self.special);
        }
        let mut tokens = Vec::new();
        let mut at_start = true;
        for fragment in self.special.partition(text, spans) {
            match fragment {
                Fragment::Token(id) => {
                    tokens.push(id);
                    at_start = true;
                }
                Fragment::Text(range) => {
                    self.encode_plain(&text[range], at_start, &mut tokens);
                    at_start = false;
                }
            }
        }
        tokens
    }

    fn encode_plain(&self, text: &str, at_start: bool, tokens: &mut Vec<u32>) {
        match &self.model {
            Model::Bytes => tokens.extend(text.bytes().map(u32::from)),
            Model::Bpe(bpe) => bpe.encode(text, tokens),
            Model::Spm(spm) => spm.encode(text, at_start, tokens),
            Model::Json(json) => {
                tokens.extend(json.encode(text, &SpecialSpans::default(), &self.special))
            }
        }
    }

    /// The bytes that a token adds to the output; empty for control tokens and unknown ids.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.table.output(id)
    }

    /// The token as the vocabulary writes it (`<|im_end|>`, `Ġhello`).
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.table.text(id)
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> usize {
        self.table.len()
    }

    /// The token that begins a text, if the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text, if the model has one.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Every token that ends an answer (eos, eot, eom and generation_config's), ascending.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stop
    }

    /// The texts of all control tokens.
    pub fn control_texts(&self) -> impl Iterator<Item = &str> {
        self.special.control_texts()
    }

    /// A detokenizer for an answer that continues a text: every space the model writes is kept.
    pub fn decoder(self: &Arc<Self>) -> DetokenizerState {
        DetokenizerState::new(Arc::clone(self), false)
    }

    /// A detokenizer for the answer to `prompt`. Where the vocabulary puts a space before every
    /// text (Llama 2's SPM) and the answer begins one, because a control token or nothing stands
    /// before it, that space is dropped.
    pub fn decoder_after(self: &Arc<Self>, prompt: &[u32]) -> DetokenizerState {
        let begins_text = prompt
            .last()
            .is_none_or(|id| self.table.kind(*id) == Some(TokenKind::Control));
        DetokenizerState::new(Arc::clone(self), begins_text && self.has_space_prefix())
    }

    fn has_space_prefix(&self) -> bool {
        match &self.model {
            Model::Spm(spm) => spm.space_prefix(),
            Model::Json(json) => json.space_prefix(),
            Model::Bytes | Model::Bpe(_) => false,
        }
    }
}

#[cfg(test)]
mod json_tests;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod spec_tests;
#[cfg(test)]
pub(crate) mod tests;
