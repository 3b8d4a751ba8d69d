//! Two texts as one: what was taken out in `[-…-]`, what came in in `{+…+}`, long equal stretches left out.
//!
//! Texts come from models: what could steer a terminal is written as an escape.

use similar::utils::diff_words;
use similar::{Algorithm, ChangeTag};

/// Texts that are compared word by word; longer ones are shown by their beginnings.
const MAX_COMPARED_BYTES: usize = 32 * 1024;
/// Characters of a text that is too long to be compared.
const BEGINNING_CHARS: usize = 400;
/// Characters of an equal stretch that are shown on each side of a difference.
const AROUND_CHARS: usize = 60;

/// The difference between two texts.
pub fn difference(before: &str, after: &str) -> String {
    if before.len().max(after.len()) > MAX_COMPARED_BYTES {
        let [before, after] = [before, after].map(|text| shortened(text, BEGINNING_CHARS));
        return format!("- {before}\n+ {after}");
    }
    let pieces = diff_words(Algorithm::Myers, before, after);
    let last = pieces.len().saturating_sub(1);
    let mut text = String::new();
    for (at, (tag, piece)) in pieces.into_iter().enumerate() {
        match tag {
            ChangeTag::Equal => text.push_str(&around(&printable(piece), at > 0, at < last)),
            ChangeTag::Delete => text.push_str(&format!("[-{}-]", printable(piece))),
            ChangeTag::Insert => text.push_str(&format!("{{+{}+}}", printable(piece))),
        }
    }
    text
}

/// The ends of an equal stretch that are next to a difference.
fn around(text: &str, difference_before: bool, difference_after: bool) -> String {
    let chars: Vec<char> = text.chars().collect();
    let head = if difference_before { AROUND_CHARS } else { 0 };
    let tail = if difference_after { AROUND_CHARS } else { 0 };
    if chars.len() <= head + tail + 1 {
        return text.to_owned();
    }
    let (head, tail) = (&chars[..head], &chars[chars.len() - tail..]);
    format!("{}…{}", String::from_iter(head), String::from_iter(tail))
}

/// A text's beginning on one line.
pub fn shortened(text: &str, most_chars: usize) -> String {
    let mut beginning: String = text.chars().take(most_chars).collect();
    if beginning.len() < text.len() {
        beginning.push('…');
    }
    one_line(&beginning)
}

/// A text on one line.
pub fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

/// A text without characters that steer a terminal, but for line ends.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => printable.push(c),
            // Direction marks may make a line read as what it is not.
            '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                printable.extend(c.escape_unicode());
            }
            _ if c.is_control() => printable.extend(c.escape_default()),
            _ => printable.push(c),
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_words_are_marked_in_their_place() {
        assert_eq!(
            difference("The capital is Lyon.", "The capital is Paris."),
            "The capital is [-Lyon.-]{+Paris.+}"
        );
        assert_eq!(difference("", "new"), "{+new+}");
    }

    #[test]
    fn long_equal_stretches_are_left_out() {
        let same = "word ".repeat(100);
        let text = difference(&format!("{same}a"), &format!("{same}b"));
        assert!(
            text.starts_with("…") && text.ends_with("[-a-]{+b+}"),
            "{text}"
        );
        assert!(text.chars().count() < 80, "{text}");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let text = difference("a", "\u{1b}[2J\r\u{202e}é\n");
        assert_eq!(text, "[-a-]{+\\u{1b}[2J\\r\\u{202e}é\n+}");
        assert_eq!(shortened("a\nb", 10), "a\\nb");
    }

    #[test]
    fn huge_texts_are_shown_by_their_beginnings() {
        let huge = "x".repeat(MAX_COMPARED_BYTES + 1);
        assert!(difference(&huge, "y").len() < 2_000);
    }
}
