//! The vocabulary as a model file states it, before anything is built from it.

use super::TokenizerError;

/// The most tokens a vocabulary may have; the largest published ones have about 260,000.
pub(super) const MAX_TOKENS: usize = 4_000_000;
/// The longest text of one token, in bytes; real ones stay under 1,000.
pub(super) const MAX_TOKEN_BYTES: usize = 1 << 16;
/// The most bytes that all token texts may have together.
pub(super) const MAX_VOCAB_BYTES: usize = 1 << 28;

/// What a token is (`tokenizer.ggml.token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Ordinary text.
    Normal,
    /// Stands for text that the vocabulary cannot spell.
    Unknown,
    /// Steers the model (`<|im_end|>`); never comes from plain text and adds nothing to the output.
    Control,
    /// A text that is always one token.
    UserDefined,
    /// A slot without meaning.
    Unused,
    /// One byte (`<0x0A>`), for text that has no other token.
    Byte,
}

impl TokenKind {
    /// The kind that GGUF numbers `code`.
    pub fn from_code(code: u64) -> TokenKind {
        match code {
            1 => TokenKind::Normal,
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            6 => TokenKind::Byte,
            _ => TokenKind::Unused,
        }
    }
}

/// The ids of tokens with a role, as the metadata names them.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpecialIds {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Ends a turn.
    pub eot: Option<u32>,
    /// Ends a message, with the turn going on elsewhere (a tool call).
    pub eom: Option<u32>,
    /// Stands for the unknown.
    pub unk: Option<u32>,
}

/// Everything a tokenizer is built from; [`super::Tokenizer::from_gguf`] fills it from metadata.
#[derive(Debug, Clone, Default)]
pub struct VocabSpec {
    /// `gpt2` or `llama`.
    pub model: String,
    /// The pre-tokenizer's name, for `gpt2`.
    pub pre: Option<String>,
    /// Token texts; the index is the id.
    pub tokens: Vec<String>,
    /// One a token, or none at all (then every token is normal).
    pub kinds: Vec<TokenKind>,
    /// One a token, for `llama`.
    pub scores: Vec<f32>,
    /// `left right` pairs in order of rank, for `gpt2`.
    pub merges: Vec<String>,
    /// Tokens with a role.
    pub ids: SpecialIds,
    /// `add_bos_token`, if stated.
    pub add_bos: Option<bool>,
    /// `add_eos_token`, if stated.
    pub add_eos: Option<bool>,
    /// `add_space_prefix`, if stated.
    pub add_space_prefix: Option<bool>,
    /// `general.name`: some models' tokens strip the white space after them, known by name only.
    pub name: String,
}

impl VocabSpec {
    /// Checks sizes and ids, so that building can index freely.
    pub(super) fn validate(&mut self) -> Result<(), TokenizerError> {
        let count = self.tokens.len();
        if count == 0 || count > MAX_TOKENS {
            return Err(invalid(
                "tokens",
                format!("{count} tokens; between 1 and {MAX_TOKENS} are possible"),
            ));
        }
        if let Some(id) = self
            .tokens
            .iter()
            .position(|text| text.len() > MAX_TOKEN_BYTES)
        {
            let length = self.tokens[id].len();
            return Err(invalid(
                "tokens",
                format!("token {id} is {length} bytes long; {MAX_TOKEN_BYTES} are possible"),
            ));
        }
        if self.tokens.iter().map(String::len).sum::<usize>() > MAX_VOCAB_BYTES {
            return Err(invalid(
                "tokens",
                format!("the texts exceed {MAX_VOCAB_BYTES} bytes together"),
            ));
        }
        if self.kinds.is_empty() {
            self.kinds = vec![TokenKind::Normal; count];
        }
        for (field, length) in [
            ("token_type", self.kinds.len()),
            ("scores", self.scores.len()),
        ] {
            if length != 0 && length < count {
                return Err(invalid(
                    field,
                    format!("{length} entries for {count} tokens"),
                ));
            }
        }
        self.kinds.truncate(count);
        self.scores.truncate(count);
        if let Some(id) = self.scores.iter().position(|score| score.is_nan()) {
            return Err(invalid(
                "scores",
                format!("the score of token {id} is not a number"),
            ));
        }
        let ids = &mut self.ids;
        for id in [
            &mut ids.bos,
            &mut ids.eos,
            &mut ids.eot,
            &mut ids.eom,
            &mut ids.unk,
        ] {
            *id = id.filter(|id| (*id as usize) < count);
        }
        Ok(())
    }
}

/// An error about `tokenizer.ggml.{field}`.
pub(super) fn invalid(field: &str, why: String) -> TokenizerError {
    TokenizerError::Invalid {
        key: format!("tokenizer.ggml.{field}"),
        why,
    }
}
