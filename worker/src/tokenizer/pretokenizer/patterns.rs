//! The patterns that cut text into words, as hand-written matchers.
//!
//! Each function answers what the regular expression in its comment would match exactly at a
//! position: the end of the match, or `None`. Unlike a backtracking engine they run in time
//! linear in the match (a run is scanned at most a constant number of times).

use super::classes::{LETTER, LOWER, MARK, NUMBER, PUNCTUATION, SPACE, UPPER, is};

/// The character at `at`, if the text goes on there.
fn char_at(text: &str, at: usize) -> Option<char> {
    text[at..].chars().next()
}

/// The end of the run of characters from `at` on that satisfy `wanted`; `at` if there is none.
fn run(text: &str, at: usize, wanted: impl Fn(char) -> bool) -> usize {
    text[at..]
        .char_indices()
        .find(|(_, c)| !wanted(*c))
        .map_or(text.len(), |(offset, _)| at + offset)
}

/// As [`run`], but `None` if not even one character satisfies `wanted`.
fn some_run(text: &str, at: usize, wanted: impl Fn(char) -> bool) -> Option<usize> {
    let end = run(text, at, wanted);
    (end > at).then_some(end)
}

fn is_newline(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

/// `[^\s\p{L}\p{N}]`
fn is_other(c: char) -> bool {
    !is(c, SPACE | LETTER | NUMBER)
}

/// `'s|'t|'re|'ve|'m|'ll|'d`, in small letters only or in either case.
fn contraction(text: &str, at: usize, any_case: bool) -> Option<usize> {
    let rest = text[at..].strip_prefix('\'')?.as_bytes();
    let byte = |index: usize| {
        rest.get(index)
            .map(|b| if any_case { b.to_ascii_lowercase() } else { *b })
    };
    match (byte(0)?, byte(1)) {
        (b's' | b't' | b'm' | b'd', _) => Some(at + 2),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(at + 3),
        _ => None,
    }
}

/// `\s+(?!\S)|\s+`: a run of white space, short of its last character if a word follows.
fn white_space(text: &str, at: usize) -> Option<usize> {
    let end = some_run(text, at, |c| is(c, SPACE))?;
    if end == text.len() {
        return Some(end);
    }
    let last = text[at..end].chars().next_back().map_or(0, char::len_utf8);
    Some(if end - last > at { end - last } else { end })
}

/// `\s*[\r\n]+`: white space up to its last line break.
fn line_breaks(text: &str, at: usize) -> Option<usize> {
    let end = run(text, at, |c| is(c, SPACE));
    text[at..end]
        .rfind(is_newline)
        .map(|offset| at + offset + 1)
}

/// GPT-2's words:
/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
pub(super) fn gpt2_word(text: &str, at: usize) -> Option<usize> {
    let body = at + usize::from(text[at..].starts_with(' '));
    contraction(text, at, false)
        .or_else(|| some_run(text, body, |c| is(c, LETTER)))
        .or_else(|| some_run(text, body, |c| is(c, NUMBER)))
        .or_else(|| some_run(text, body, is_other))
        .or_else(|| white_space(text, at))
}

/// What sets the descendants of GPT-4's first pattern apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct ModernWord {
    /// `\p{N}{1,digits}`
    pub(super) digits: usize,
    /// Combining marks count as letters: `[\p{L}\p{M}]+`.
    pub(super) marks: bool,
    /// `[\r\n]*` after other characters.
    pub(super) breaks: bool,
}

impl ModernWord {
    /// `'(?i:s|t|re|ve|m|ll|d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    pub(super) fn match_at(self, text: &str, at: usize) -> Option<usize> {
        let word = if self.marks { LETTER | MARK } else { LETTER };
        contraction(text, at, true)
            .or_else(|| prefixed(text, at, |body| some_run(text, body, |c| is(c, word))))
            .or_else(|| numbers(text, at, self.digits))
            .or_else(|| {
                let body = at + usize::from(text[at..].starts_with(' '));
                let end = some_run(text, body, |c| is_other(c) && !is(c, word))?;
                Some(if self.breaks {
                    run(text, end, is_newline)
                } else {
                    end
                })
            })
            .or_else(|| line_breaks(text, at))
            .or_else(|| white_space(text, at))
    }
}

/// `[^\r\n\p{L}\p{N}]?` before what `body` matches.
fn prefixed(text: &str, at: usize, body: impl Fn(usize) -> Option<usize>) -> Option<usize> {
    let first = char_at(text, at)?;
    let with_prefix = (!is_newline(first) && !is(first, LETTER | NUMBER))
        .then(|| body(at + first.len_utf8()))
        .flatten();
    with_prefix.or_else(|| body(at))
}

/// `\p{N}{1,most}`
fn numbers(text: &str, at: usize, most: usize) -> Option<usize> {
    let digits = text[at..].chars().take(most).take_while(|c| is(*c, NUMBER));
    let length: usize = digits.map(char::len_utf8).sum();
    (length > 0).then_some(at + length)
}

/// What sets the patterns apart that also cut at capital letters.
#[derive(Debug, Clone, Copy)]
pub(super) struct CasedWord {
    /// `\p{N}{1,digits}`
    pub(super) digits: usize,
    /// A contraction ends a word: `(?i:'s|'t|'re|'ve|'m|'ll|'d)?`.
    pub(super) contractions: bool,
}

impl CasedWord {
    /// With `U` = `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]` and `L` = `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`:
    /// `[^\r\n\p{L}\p{N}]?U*L+|[^\r\n\p{L}\p{N}]?U+L*|\p{N}{1,n}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    pub(super) fn match_at(self, text: &str, at: usize) -> Option<usize> {
        prefixed(text, at, |body| upper_then_lower(text, body))
            .or_else(|| prefixed(text, at, |body| some_run(text, body, |c| is(c, UPPER))))
            .map(|end| {
                if self.contractions {
                    contraction(text, end, true).unwrap_or(end)
                } else {
                    end
                }
            })
            .or_else(|| numbers(text, at, self.digits))
            .or_else(|| {
                let body = at + usize::from(text[at..].starts_with(' '));
                let end = some_run(text, body, is_other)?;
                Some(run(text, end, |c| is_newline(c) || c == '/'))
            })
            .or_else(|| line_breaks(text, at))
            .or_else(|| white_space(text, at))
    }
}

/// `U*L+`: when no small letter follows the capitals, the match gives back to the last character
/// that is both (a letter without case, or a mark).
fn upper_then_lower(text: &str, at: usize) -> Option<usize> {
    let upper = run(text, at, |c| is(c, UPPER));
    let lower = run(text, upper, |c| is(c, LOWER));
    if lower > upper {
        return Some(lower);
    }
    let (offset, last) = text[at..upper]
        .char_indices()
        .rev()
        .find(|(_, c)| is(*c, LOWER))?;
    Some(at + offset + last.len_utf8())
}

/// `\p{N}`
pub(super) fn one_number(text: &str, at: usize) -> Option<usize> {
    numbers(text, at, 1)
}

/// `\p{N}{1,3}`
pub(super) fn three_numbers(text: &str, at: usize) -> Option<usize> {
    numbers(text, at, 3)
}

/// `\p{N}+`
pub(super) fn all_numbers(text: &str, at: usize) -> Option<usize> {
    some_run(text, at, |c| is(c, NUMBER))
}

/// `[0-9][0-9][0-9]`
pub(super) fn three_digits(text: &str, at: usize) -> Option<usize> {
    let digits = text.as_bytes().get(at..at + 3)?;
    digits.iter().all(u8::is_ascii_digit).then_some(at + 3)
}

/// `[\p{P}\$\+<=>\^~\|]+`
pub(super) fn punctuation(text: &str, at: usize) -> Option<usize> {
    some_run(text, at, |c| is(c, PUNCTUATION) || "$+<=>^~|".contains(c))
}

/// ``[\p{P}\$\+<=>\^~\|`]+``
pub(super) fn falcon_punctuation(text: &str, at: usize) -> Option<usize> {
    some_run(text, at, |c| is(c, PUNCTUATION) || "$+<=>^~|`".contains(c))
}

/// `[\r\n]`
pub(super) fn one_break(text: &str, at: usize) -> Option<usize> {
    char_at(text, at).filter(|c| is_newline(*c)).map(|_| at + 1)
}

/// `\s?` before a run of one class.
fn spaced(text: &str, at: usize, class: u8) -> Option<usize> {
    let first = char_at(text, at)?;
    let body = if is(first, SPACE) {
        at + first.len_utf8()
    } else {
        at
    };
    some_run(text, body, |c| is(c, class))
}

/// `\s?\p{L}+`
pub(super) fn spaced_letters(text: &str, at: usize) -> Option<usize> {
    spaced(text, at, LETTER)
}

/// `\s?\p{P}+`
pub(super) fn spaced_punctuation(text: &str, at: usize) -> Option<usize> {
    spaced(text, at, PUNCTUATION)
}

/// `[一-龥ࠀ-一가-퟿]+`
pub(super) fn east_asian(text: &str, at: usize) -> Option<usize> {
    some_run(
        text,
        at,
        |c| matches!(c, '\u{0800}'..='\u{9FA5}' | '\u{AC00}'..='\u{D7FF}'),
    )
}
