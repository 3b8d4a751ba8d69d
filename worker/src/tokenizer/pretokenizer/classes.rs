//! Unicode character classes in one flat table: a byte of flags per code point.
//!
//! The classes come from `regex-syntax`, so that they are those of the regular expressions that
//! tokenizers are published with.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// `\p{L}`.
pub(super) const LETTER: u8 = 1;
/// `\p{N}`.
pub(super) const NUMBER: u8 = 2;
/// `\p{M}`.
pub(super) const MARK: u8 = 4;
/// `\s`.
pub(super) const SPACE: u8 = 8;
/// `\p{P}`.
pub(super) const PUNCTUATION: u8 = 16;
/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`: what may stand where a capital letter stands.
pub(super) const UPPER: u8 = 32;
/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`: what may stand where a small letter stands.
pub(super) const LOWER: u8 = 64;

const CODE_POINTS: usize = char::MAX as usize + 1;

static FLAGS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut flags = vec![0; CODE_POINTS];
    for (pattern, flag) in [
        (r"\p{L}", LETTER),
        (r"\p{N}", NUMBER),
        (r"\p{M}", MARK),
        (r"\s", SPACE),
        (r"\p{P}", PUNCTUATION),
        (r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", UPPER),
        (r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", LOWER),
    ] {
        mark(&mut flags, pattern, flag);
    }
    flags
});

fn mark(flags: &mut [u8], pattern: &str, flag: u8) {
    let hir = regex_syntax::parse(pattern).expect("the pattern is a constant that a test parses");
    let HirKind::Class(Class::Unicode(class)) = hir.kind() else {
        unreachable!("a pattern of one character class parses to a class");
    };
    for range in class.iter() {
        for entry in &mut flags[range.start() as usize..=range.end() as usize] {
            *entry |= flag;
        }
    }
}

/// Whether `c` is in any of the classes in `mask`.
pub(super) fn is(c: char, mask: u8) -> bool {
    FLAGS[c as usize] & mask != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_characters_have_their_classes() {
        assert!(is('a', LETTER) && is('a', LOWER) && !is('a', UPPER));
        assert!(is('É', UPPER) && !is('É', LOWER));
        assert!(is('日', LETTER) && is('日', UPPER) && is('日', LOWER));
        assert!(is('٣', NUMBER) && is('½', NUMBER) && is('Ⅷ', NUMBER));
        assert!(is('\u{301}', MARK) && !is('\u{301}', LETTER));
        assert!(is('\u{3000}', SPACE) && is('\u{85}', SPACE) && !is('\u{200b}', SPACE));
        assert!(is('!', PUNCTUATION) && !is('+', PUNCTUATION));
    }
}
