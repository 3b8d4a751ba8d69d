//! Tokenizers of safetensors models: `tokenizer.json`, run by the `tokenizers` crate.
//!
//! The crate finds special tokens in any text, a user's included. So a text is first encoded as a
//! whole, as the model's authors do; only if that has found a control token where none may be, the
//! text is cut at the allowed ones and the pieces are encoded with special tokens turned off.

use std::ops::Range;
use std::sync::OnceLock;

use super::special::{Fragment, SpecialSpans, SpecialTokens};
use super::vocab::TokenKind;

/// A text shorter than this is not cut further when the crate cannot encode it.
const SMALLEST_CUT: usize = 8;

/// The `tokenizers` crate's tokenizer, with what it does not tell.
pub(super) struct JsonModel {
    tokenizer: tokenizers::Tokenizer,
    /// The same, blind to special tokens; made when it is first needed.
    blind: OnceLock<tokenizers::Tokenizer>,
    /// By id.
    kinds: Vec<TokenKind>,
    /// The text of the token for the unknown, which the crate also yields for plain text.
    unknown: Option<String>,
    /// Whether a space stands before every text and is not part of it.
    space_prefix: bool,
}

impl JsonModel {
    pub(super) fn new(
        tokenizer: tokenizers::Tokenizer,
        kinds: Vec<TokenKind>,
        unknown: Option<String>,
        space_prefix: bool,
    ) -> JsonModel {
        JsonModel {
            tokenizer,
            blind: OnceLock::new(),
            kinds,
            unknown,
            space_prefix,
        }
    }

    pub(super) fn space_prefix(&self) -> bool {
        self.space_prefix
    }

    /// Tokens of a text, with control tokens in `spans` only.
    pub(super) fn encode(
        &self,
        text: &str,
        spans: &SpecialSpans,
        special: &SpecialTokens,
    ) -> Vec<u32> {
        let mut whole = Vec::new();
        encode_into(&self.tokenizer, text, 0, &mut whole);
        if whole
            .iter()
            .all(|(id, range)| self.is_allowed(*id, text, range, spans))
        {
            return whole.into_iter().map(|(id, _)| id).collect();
        }
        let mut tokens = Vec::new();
        for fragment in special.partition(text, spans) {
            match fragment {
                Fragment::Token(id) => tokens.push(id),
                Fragment::Text(range) => {
                    let mut plain = Vec::new();
                    encode_into(self.blind(), &text[range], 0, &mut plain);
                    let ids = plain.into_iter().map(|(id, _)| id);
                    tokens.extend(ids.filter(|id| self.kind(*id) != TokenKind::Control));
                }
            }
        }
        tokens
    }

    fn kind(&self, id: u32) -> TokenKind {
        self.kinds
            .get(id as usize)
            .copied()
            .unwrap_or(TokenKind::Unused)
    }

    /// Whether a token may have come from this place of the text.
    fn is_allowed(&self, id: u32, text: &str, range: &Range<usize>, spans: &SpecialSpans) -> bool {
        let found = text.get(range.clone()).unwrap_or_default();
        match self.kind(id) {
            // White space that a token takes with it does not have to be the template's.
            TokenKind::Control => {
                let start = range.start + (found.len() - found.trim_start().len());
                spans.contain(&(start..start + found.trim().len()))
            }
            TokenKind::Unknown => {
                self.unknown.as_deref() != Some(found.trim()) || spans.contain(range)
            }
            _ => true,
        }
    }

    fn blind(&self) -> &tokenizers::Tokenizer {
        self.blind.get_or_init(|| {
            let mut blind = self.tokenizer.clone();
            blind.set_encode_special_tokens(true);
            blind
        })
    }
}

/// Appends the tokens of `text`, each with its place, which begins at `offset`. The crate gives up
/// on texts for which a pattern has to go back too far; such a text is cut in half.
fn encode_into(
    tokenizer: &tokenizers::Tokenizer,
    text: &str,
    offset: usize,
    out: &mut Vec<(u32, Range<usize>)>,
) {
    match tokenizer.encode(text, false) {
        Ok(encoding) => {
            let places = encoding
                .get_offsets()
                .iter()
                .map(|(start, end)| offset + start..offset + end);
            out.extend(encoding.get_ids().iter().copied().zip(places));
        }
        Err(_) if text.len() >= SMALLEST_CUT => {
            let middle = text.floor_char_boundary(text.len() / 2);
            encode_into(tokenizer, &text[..middle], offset, out);
            encode_into(tokenizer, &text[middle..], offset + middle, out);
        }
        Err(_) => {}
    }
}
