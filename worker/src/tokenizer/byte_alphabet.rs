//! The alphabet in which byte-level BPE vocabularies spell bytes: every byte is one printable
//! character (GPT-2's `bytes_to_unicode`), so that token texts are valid text.

/// The first code point given to bytes that are not printable themselves.
const FIRST_STAND_IN: u32 = 256;

/// Whether a byte stands for itself in the alphabet.
fn is_printable(byte: u8) -> bool {
    matches!(byte, 33..=126 | 161..=172 | 174..=255)
}

/// The bytes that stand-ins are given to, in order: a stand-in's code point is 256 + its index.
fn stand_in_bytes() -> impl Iterator<Item = u8> {
    (0..=255u8).filter(|byte| !is_printable(*byte))
}

/// From characters of the alphabet back to bytes.
pub(super) struct ByteAlphabet {
    /// Indexed by code point; all code points of the alphabet are below 256 + 68.
    bytes: Vec<Option<u8>>,
}

impl ByteAlphabet {
    /// Builds the reverse table.
    pub(super) fn new() -> ByteAlphabet {
        let mut bytes: Vec<Option<u8>> = (0..=255u8)
            .map(|byte| is_printable(byte).then_some(byte))
            .collect();
        bytes.extend(stand_in_bytes().map(Some));
        debug_assert_eq!(bytes.len(), FIRST_STAND_IN as usize + 68);
        ByteAlphabet { bytes }
    }

    /// The bytes that `text` spells, or `None` if a character is not of the alphabet.
    pub(super) fn decode(&self, text: &str) -> Option<Vec<u8>> {
        text.chars()
            .map(|c| self.bytes.get(c as usize).copied().flatten())
            .collect()
    }

    /// As [`ByteAlphabet::decode`], with characters outside of the alphabet kept as UTF-8.
    pub(super) fn decode_lossy(&self, text: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        let mut buffer = [0; 4];
        for c in text.chars() {
            match self.bytes.get(c as usize).copied().flatten() {
                Some(byte) => out.push(byte),
                None => out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes()),
            }
        }
        out
    }
}

/// The 256 characters of the alphabet.
#[cfg(test)]
pub(super) fn letters() -> impl Iterator<Item = char> {
    let own = (0..=255u8)
        .filter(|byte| is_printable(*byte))
        .map(char::from);
    own.chain((FIRST_STAND_IN..FIRST_STAND_IN + 68).filter_map(char::from_u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_exactly_one_character() {
        let alphabet = ByteAlphabet::new();
        let mut seen: Vec<u8> = alphabet.bytes.iter().flatten().copied().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..=255u8).collect::<Vec<_>>());
    }

    #[test]
    fn known_characters_spell_their_bytes() {
        let alphabet = ByteAlphabet::new();
        assert_eq!(alphabet.decode("Ġhi").as_deref(), Some(b" hi".as_slice()));
        assert_eq!(alphabet.decode("Ċ").as_deref(), Some(b"\n".as_slice()));
        assert_eq!(alphabet.decode("ĉ").as_deref(), Some(b"\t".as_slice()));
        assert_eq!(alphabet.decode("æĹ¥").as_deref(), Some("日".as_bytes()));
        assert_eq!(alphabet.decode("日"), None);
        assert_eq!(alphabet.decode_lossy("Ġ日"), " 日".as_bytes());
    }
}
