//! What each token is and what bytes it adds to the output.

use super::byte_alphabet::ByteAlphabet;
use super::spm::{ESCAPED_SPACE, byte_of};
use super::vocab::TokenKind;

/// How token texts spell what they stand for.
pub(super) enum Spelling {
    /// GPT-2's alphabet of bytes.
    Bytes,
    /// Text, with `▁` for spaces and `<0x0A>` for bytes.
    EscapedSpaces,
}

/// All tokens by id. Bytes lie in one buffer, so that a quarter of a million tokens are two
/// allocations.
#[derive(Default)]
pub(super) struct TokenTable {
    kinds: Vec<TokenKind>,
    texts: Vec<String>,
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl TokenTable {
    /// The table of a vocabulary, in order of ids.
    pub(super) fn new(
        tokens: impl Iterator<Item = (String, TokenKind)>,
        spelling: &Spelling,
    ) -> TokenTable {
        let alphabet = ByteAlphabet::new();
        let mut table = TokenTable::default();
        for (text, kind) in tokens {
            let output = match (kind, spelling) {
                (TokenKind::Control | TokenKind::Unknown | TokenKind::Unused, _) => Vec::new(),
                (TokenKind::UserDefined, _) => text.as_bytes().to_vec(),
                (TokenKind::Byte, _) => byte_of(&text).into_iter().collect(),
                (TokenKind::Normal, Spelling::Bytes) => alphabet.decode_lossy(&text),
                (TokenKind::Normal, Spelling::EscapedSpaces) => {
                    text.replace(ESCAPED_SPACE, " ").into_bytes()
                }
            };
            table.push(text, kind, &output);
        }
        table
    }

    /// Adds the token with the next id.
    pub(super) fn push(&mut self, text: String, kind: TokenKind, output: &[u8]) {
        self.texts.push(text);
        self.kinds.push(kind);
        self.bytes.extend_from_slice(output);
        self.ends.push(self.bytes.len() as u32);
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The output of a token; empty for an unknown id.
    pub(super) fn output(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(end) = self.ends.get(id) else {
            return &[];
        };
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.bytes[start as usize..*end as usize]
    }

    pub(super) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    pub(super) fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize).map(String::as_str)
    }
}
