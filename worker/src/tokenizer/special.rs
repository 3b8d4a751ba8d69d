//! Finding special tokens in text: control tokens where they are allowed, user-defined tokens
//! everywhere.

use std::ops::Range;

use aho_corasick::{AhoCorasick, Anchored, Input, MatchKind, StartKind};

use super::TokenizerError;

/// A token that is found as text before anything else is tokenised.
#[derive(Debug, Clone)]
pub(super) struct SpecialToken {
    pub(super) text: String,
    pub(super) id: u32,
    /// Found only in stretches that may hold control tokens.
    pub(super) control: bool,
    /// White space before it belongs to it.
    pub(super) strip_before: bool,
    /// White space after it belongs to it.
    pub(super) strip_after: bool,
}

/// What tokens that strip white space take with them.
const ASCII_SPACE: [char; 6] = [' ', '\t', '\n', '\r', '\x0b', '\x0c'];

/// Whether `c` can be told apart as a user's when a conversation is rendered; see
/// [`crate::chat_template`]. White space is not, because templates trim it, and neither is what
/// JSON escapes.
pub(crate) fn is_markable(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && c != '"' && c != '\\'
}

/// The parts of a text in which control tokens are parsed: ascending, disjoint, not adjacent.
#[derive(Debug, Default)]
pub(super) struct SpecialSpans(Vec<Range<usize>>);

impl SpecialSpans {
    /// The whole of a text of `length` bytes.
    pub(super) fn whole(length: usize) -> SpecialSpans {
        let mut spans = SpecialSpans::default();
        spans.push(0..length);
        spans
    }

    /// Adds a span behind the others; one that touches the last makes it longer.
    pub(super) fn push(&mut self, span: Range<usize>) {
        match self.0.last_mut() {
            _ if span.is_empty() => {}
            Some(last) if last.end == span.start => last.end = span.end,
            _ => self.0.push(span),
        }
    }

    /// Whether one span holds all of `range`.
    pub(super) fn contain(&self, range: &Range<usize>) -> bool {
        let after = self.0.partition_point(|span| span.start <= range.start);
        after > 0 && self.0[after - 1].end >= range.end
    }
}

/// A piece of a text after the special tokens are found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    /// Plain text, never empty.
    Text(Range<usize>),
    /// A special token.
    Token(u32),
}

/// All special tokens of a vocabulary, ready to be searched for.
pub(super) struct SpecialTokens {
    tokens: Vec<SpecialToken>,
    all: Option<AhoCorasick>,
    /// The tokens that are not control tokens, by index into `tokens`.
    plain: Option<(AhoCorasick, Vec<usize>)>,
}

fn searcher<'a>(
    texts: impl Iterator<Item = &'a str>,
) -> Result<Option<AhoCorasick>, TokenizerError> {
    let texts: Vec<&str> = texts.collect();
    if texts.is_empty() {
        return Ok(None);
    }
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .start_kind(StartKind::Both)
        .build(texts)
        .map(Some)
        .map_err(|error| {
            super::vocab::invalid("tokens", format!("too many special tokens: {error}"))
        })
}

impl SpecialTokens {
    /// No special tokens at all.
    pub(super) fn none() -> SpecialTokens {
        SpecialTokens {
            tokens: Vec::new(),
            all: None,
            plain: None,
        }
    }

    /// Prepares the search. Control tokens without a markable character are left out: in a rendered
    /// conversation they could not be told from a user's text.
    pub(super) fn new(mut tokens: Vec<SpecialToken>) -> Result<SpecialTokens, TokenizerError> {
        tokens.retain(|token| {
            !token.text.is_empty() && (!token.control || token.text.contains(is_markable))
        });
        let all = searcher(tokens.iter().map(|token| token.text.as_str()))?;
        let plain: Vec<usize> = (0..tokens.len())
            .filter(|index| !tokens[*index].control)
            .collect();
        let plain = searcher(plain.iter().map(|index| tokens[*index].text.as_str()))?
            .map(|search| (search, plain));
        Ok(SpecialTokens { tokens, all, plain })
    }

    /// The texts of the control tokens.
    pub(super) fn control_texts(&self) -> impl Iterator<Item = &str> {
        self.tokens
            .iter()
            .filter(|token| token.control)
            .map(|token| token.text.as_str())
    }

    /// The control tokens, with their texts.
    pub(super) fn control_ids(&self) -> impl Iterator<Item = (&str, u32)> {
        self.tokens
            .iter()
            .filter(|token| token.control)
            .map(|token| (token.text.as_str(), token.id))
    }

    /// Cuts `text` at its special tokens: from the left, at each place the longest.
    pub(super) fn partition(&self, text: &str, spans: &SpecialSpans) -> Vec<Fragment> {
        let mut fragments = Vec::new();
        let mut done = 0;
        let mut at = 0;
        while let Some((token, range)) = self.find(text, at, spans) {
            let mut end = range.start;
            if token.strip_before {
                end = done + text[done..end].trim_end_matches(ASCII_SPACE).len();
            }
            if done < end {
                fragments.push(Fragment::Text(done..end));
            }
            fragments.push(Fragment::Token(token.id));
            done = range.end;
            if token.strip_after {
                done = text.len() - text[done..].trim_start_matches(ASCII_SPACE).len();
            }
            at = done;
        }
        if done < text.len() {
            fragments.push(Fragment::Text(done..text.len()));
        }
        fragments
    }

    /// The first special token at or after `at` that is allowed where it stands.
    fn find(
        &self,
        text: &str,
        mut at: usize,
        spans: &SpecialSpans,
    ) -> Option<(&SpecialToken, Range<usize>)> {
        let all = self.all.as_ref()?;
        loop {
            let found = all.find(Input::new(text).range(at..))?;
            let token = &self.tokens[found.pattern().as_usize()];
            if !token.control || spans.contain(&found.range()) {
                return Some((token, found.range()));
            }
            if let Some((search, indexes)) = &self.plain {
                let here = Input::new(text)
                    .range(found.start()..)
                    .anchored(Anchored::Yes);
                if let Some(found) = search.find(here) {
                    return Some((
                        &self.tokens[indexes[found.pattern().as_usize()]],
                        found.range(),
                    ));
                }
            }
            at = found.start()
                + text[found.start()..]
                    .chars()
                    .next()
                    .map_or(1, char::len_utf8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> SpecialTokens {
        let token = |text: &str, id, control, strip_after| SpecialToken {
            text: text.into(),
            id,
            control,
            strip_before: strip_after,
            strip_after,
        };
        SpecialTokens::new(vec![
            token("<s>", 1, true, false),
            token("<s>>", 2, false, false),
            token("<tool>", 3, false, false),
            token("<end>", 4, true, true),
            token("", 5, true, false),
        ])
        .unwrap()
    }

    fn cut(text: &str, spans: &SpecialSpans) -> Vec<String> {
        let name = |fragment: &Fragment| match fragment {
            Fragment::Text(range) => text[range.clone()].to_owned(),
            Fragment::Token(id) => format!("#{id}"),
        };
        tokens().partition(text, spans).iter().map(name).collect()
    }

    #[test]
    fn control_tokens_are_found_only_where_they_are_allowed() {
        let text = "a<s>b<tool>c<end>";
        assert_eq!(
            cut(text, &SpecialSpans::whole(text.len())),
            ["a", "#1", "b", "#3", "c", "#4"]
        );
        assert_eq!(
            cut(text, &SpecialSpans::default()),
            ["a<s>b", "#3", "c<end>"]
        );
    }

    #[test]
    fn a_control_token_across_the_border_of_a_span_is_text() {
        let mut spans = SpecialSpans::default();
        spans.push(0..2);
        assert_eq!(cut("<s>x", &spans), ["<s>x"]);
        spans.push(2..3);
        assert_eq!(cut("<s>x", &spans), ["#1", "x"]);
    }

    #[test]
    fn the_longest_token_wins_and_a_forbidden_one_does_not_hide_another() {
        assert_eq!(cut("<s>>", &SpecialSpans::whole(4)), ["#2"]);
        assert_eq!(cut("<<s>>", &SpecialSpans::default()), ["<", "#2"]);
        assert_eq!(cut("<s<tool>", &SpecialSpans::default()), ["<s", "#3"]);
    }

    #[test]
    fn white_space_around_a_stripping_token_is_dropped() {
        assert_eq!(cut("<end> \n x", &SpecialSpans::whole(9)), ["#4", "x"]);
        assert_eq!(cut("<end> \n ", &SpecialSpans::whole(8)), ["#4"]);
        assert_eq!(
            cut("a <end> <end>", &SpecialSpans::whole(13)),
            ["a", "#4", "#4"]
        );
    }
}
