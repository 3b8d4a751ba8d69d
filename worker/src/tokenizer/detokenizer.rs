//! From tokens back to text: the bytes that each token of an answer adds, and the assembly of
//! bytes into text whose deltas never split a character.

use std::sync::Arc;

use super::Tokenizer;

/// Turns the tokens of one answer into bytes, token by token.
///
/// It differs from [`Tokenizer::token_bytes`] only at the beginning of an answer of vocabularies
/// that put a space before every text: see [`Tokenizer::decoder_after`].
#[derive(Clone)]
pub struct DetokenizerState {
    tokenizer: Arc<Tokenizer>,
    /// Whether a space at the beginning of the next bytes is to be dropped.
    drop_space: bool,
}

impl DetokenizerState {
    pub(super) fn new(tokenizer: Arc<Tokenizer>, drop_space: bool) -> DetokenizerState {
        DetokenizerState {
            tokenizer,
            drop_space,
        }
    }

    /// The bytes that `id` adds to the answer; empty for control tokens and unknown ids.
    pub fn push(&mut self, id: u32) -> &[u8] {
        match self.tokenizer.token_bytes(id) {
            [] => &[],
            [b' ', rest @ ..] if std::mem::take(&mut self.drop_space) => rest,
            bytes => {
                self.drop_space = false;
                bytes
            }
        }
    }
}

/// Assembles bytes into text. A character whose bytes arrive in several pieces is held back until
/// it is whole, so that joining all deltas equals `String::from_utf8_lossy` over all the bytes.
#[derive(Debug, Default, Clone)]
pub struct TextDecoder {
    /// At most three bytes: the beginning of a character.
    held: Vec<u8>,
}

impl TextDecoder {
    /// A decoder at the beginning of a text.
    pub fn new() -> TextDecoder {
        TextDecoder::default()
    }

    /// Takes the next bytes and returns the text that is certain now; often empty inside a character.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.held.len());
        let mut rest = self.held.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    let Some(invalid) = error.error_len() else {
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[invalid..];
                }
            }
        }
        let used = self.held.len() - rest.len();
        self.held.drain(..used);
        text
    }

    /// Ends the text: an incomplete character becomes one U+FFFD.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TORTURE: &str = "a\u{301} 日本語 👩‍👩‍👧‍👦 🏳️‍🌈 مرحبا \u{10FFFF} \u{FFFD} end";

    #[test]
    fn text_split_at_every_byte_comes_back_whole() {
        let bytes = TORTURE.as_bytes();
        for cut in 0..=bytes.len() {
            let mut decoder = TextDecoder::new();
            let joined =
                decoder.push(&bytes[..cut]) + &decoder.push(&bytes[cut..]) + &decoder.finish();
            assert_eq!(joined, TORTURE, "cut at byte {cut}");
        }
        let mut decoder = TextDecoder::new();
        let mut joined = String::new();
        for byte in bytes {
            joined.push_str(&decoder.push(&[*byte]));
        }
        assert_eq!(joined + &decoder.finish(), TORTURE);
    }

    #[test]
    fn invalid_bytes_in_any_chunking_equal_a_lossy_decode_of_the_whole() {
        let mut bytes =
            b"ok \xF0\x9F\x98 \xFF\xFE\xE6\x97\xA5\xC3\x28\xED\xA0\x80 \xF0\x9F".to_vec();
        for size in 1..bytes.len() {
            let mut decoder = TextDecoder::new();
            let mut joined = String::new();
            for chunk in bytes.chunks(size) {
                joined.push_str(&decoder.push(chunk));
            }
            joined.push_str(&decoder.finish());
            assert_eq!(joined, String::from_utf8_lossy(&bytes), "chunks of {size}");
        }
        bytes.truncate(6);
        let mut decoder = TextDecoder::new();
        assert_eq!(decoder.push(&bytes), "ok ");
        assert_eq!(decoder.finish(), "\u{FFFD}");
        assert_eq!(decoder.finish(), "");
    }
}
