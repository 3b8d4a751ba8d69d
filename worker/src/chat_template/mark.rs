//! Telling a user's characters from the template's in a rendered prompt.
//!
//! Before rendering, characters of the user's strings are replaced by private-use characters that
//! occur nowhere else; after rendering they are changed back, and what they were is known to be
//! the user's, wherever the template has put, cut, trimmed or joined it. Only characters that occur
//! in control tokens need it.
//!
//! Where a character must stay readable to the template, it is marked only inside a whole
//! look-alike of a control token, and where the beginning or end of the string could complete one
//! with what the template or another string puts beside it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::tokenizer::{Segment, is_markable};

/// The private-use planes: no assigned character, and no template speaks of them.
fn private_use() -> impl Iterator<Item = char> {
    ('\u{F0000}'..='\u{FFFFD}').chain('\u{100000}'..='\u{10FFFD}')
}

/// Whether `c` could serve as a mark.
pub(super) fn is_private_use(c: char) -> bool {
    c >= '\u{F0000}'
}

/// Which of a user's characters are marked.
#[derive(Default)]
pub(super) struct MarkRule {
    /// Marked wherever they stand.
    pub(super) always: BTreeSet<char>,
    /// Control tokens whose characters are marked only in look-alikes.
    in_look_alikes: Vec<String>,
    search: Option<AhoCorasick>,
}

impl MarkRule {
    /// Marks these characters everywhere.
    pub(super) fn always(chars: BTreeSet<char>) -> MarkRule {
        MarkRule {
            always: chars,
            ..MarkRule::default()
        }
    }

    /// Marks look-alikes of these control tokens as well; `None` if there are too many to search for.
    pub(super) fn and_look_alikes(mut self, controls: Vec<String>) -> Option<MarkRule> {
        if !controls.is_empty() {
            let search = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(&controls);
            self.search = Some(search.ok()?);
        }
        self.in_look_alikes = controls;
        Some(self)
    }

    /// Every character that may be marked.
    fn chars(&self) -> BTreeSet<char> {
        let others = self
            .in_look_alikes
            .iter()
            .flat_map(|text| text.chars())
            .filter(|c| is_markable(*c));
        self.always.iter().copied().chain(others).collect()
    }

    /// The byte ranges of `text` in which all characters are marked.
    fn look_alikes(&self, text: &str) -> Vec<Range<usize>> {
        let Some(search) = &self.search else {
            return Vec::new();
        };
        let mut ranges: Vec<Range<usize>> =
            search.find_iter(text).map(|found| found.range()).collect();
        let start = text.len() - text.trim_start().len();
        let end = text.trim_end().len().max(start);
        let core = &text[start..end];
        for control in &self.in_look_alikes {
            if control.contains(core) {
                ranges.push(start..end);
            }
            for (at, _) in control.char_indices().skip(1) {
                let (head, tail) = control.split_at(at);
                if core.ends_with(head) {
                    ranges.push(end - head.len()..end);
                }
                if core.starts_with(tail) {
                    ranges.push(start..start + tail.len());
                }
            }
        }
        ranges.sort_by_key(|range| range.start);
        ranges
    }
}

/// A set of characters with a private-use stand-in for each.
pub(super) struct Marks<'a> {
    rule: &'a MarkRule,
    ascii: [Option<char>; 128],
    others: HashMap<char, char>,
    back: HashMap<char, char>,
}

impl Marks<'_> {
    /// Stand-ins that are not in `taken`; `None` if there are not enough.
    pub(super) fn new<'a>(rule: &'a MarkRule, taken: &HashSet<char>) -> Option<Marks<'a>> {
        let mut marks = Marks {
            rule,
            ascii: [None; 128],
            others: HashMap::new(),
            back: HashMap::new(),
        };
        let mut free = private_use().filter(|mark| !taken.contains(mark));
        for c in rule.chars() {
            let mark = free.next()?;
            match marks.ascii.get_mut(c as usize) {
                Some(slot) => *slot = Some(mark),
                None => drop(marks.others.insert(c, mark)),
            }
            marks.back.insert(mark, c);
        }
        Some(marks)
    }

    fn of(&self, c: char) -> Option<char> {
        match self.ascii.get(c as usize) {
            Some(mark) => *mark,
            None => self.others.get(&c).copied(),
        }
    }

    /// A user's string, marked.
    pub(super) fn mark(&self, text: &str) -> String {
        let ranges = self.rule.look_alikes(text);
        let mut ranges = ranges.iter().peekable();
        let mut marked_to = 0;
        let mark = |(at, c)| {
            while let Some(range) = ranges.next_if(|range| range.start <= at) {
                marked_to = marked_to.max(range.end);
            }
            let marked = at < marked_to || self.rule.always.contains(&c);
            if marked { self.of(c).unwrap_or(c) } else { c }
        };
        text.char_indices().map(mark).collect()
    }

    /// A rendered text without its marks.
    pub(super) fn unmark(&self, text: &str) -> String {
        text.chars()
            .map(|c| self.back.get(&c).copied().unwrap_or(c))
            .collect()
    }

    /// Cuts a rendered text into the user's and the template's parts. A stretch in which nothing
    /// could belong to a control token is left in the segment before it.
    pub(super) fn segments(&self, text: &str) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::new();
        let mut undecided = String::new();
        for c in text.chars() {
            let original = self.back.get(&c).copied();
            let special = match original {
                Some(_) => false,
                None if self.of(c).is_some() => true,
                None => {
                    undecided.push(c);
                    continue;
                }
            };
            match segments.last_mut() {
                Some(last) if last.special == special => last.text.push_str(&undecided),
                Some(last) => {
                    last.text.push_str(&undecided);
                    segments.push(Segment {
                        text: String::new(),
                        special,
                    });
                }
                None => segments.push(Segment {
                    text: undecided.clone(),
                    special,
                }),
            }
            undecided.clear();
            if let Some(last) = segments.last_mut() {
                last.text.push(original.unwrap_or(c));
            }
        }
        match segments.last_mut() {
            Some(last) => last.text.push_str(&undecided),
            None if undecided.is_empty() => {}
            None => segments.push(Segment {
                text: undecided,
                special: false,
            }),
        }
        segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(chars: &str) -> MarkRule {
        MarkRule::always(chars.chars().collect())
    }

    #[test]
    fn marked_text_comes_back_as_the_users() {
        let rule = rule("<|>abｘ");
        let marks = Marks::new(&rule, &HashSet::new()).unwrap();
        let text = format!("<|a|>\n{} z<|b|>", marks.mark("<|a|> ｘ é"));
        assert_eq!(marks.unmark(&text), "<|a|>\n<|a|> ｘ é z<|b|>");
        let segment = |text: &str, special| Segment {
            text: text.into(),
            special,
        };
        let expected = [
            segment("<|a|>\n", true),
            segment("<|a|> ｘ é z", false),
            segment("<|b|>", true),
        ];
        assert_eq!(marks.segments(&text), expected);
    }

    #[test]
    fn text_without_any_control_character_is_one_segment() {
        let rule = rule("<>");
        let marks = Marks::new(&rule, &HashSet::new()).unwrap();
        assert_eq!(
            marks.segments("hello"),
            [Segment {
                text: "hello".into(),
                special: false
            }]
        );
        assert_eq!(marks.segments(""), []);
    }

    #[test]
    fn look_alikes_and_what_could_complete_one_are_marked() {
        let rule = MarkRule::always(BTreeSet::new())
            .and_look_alikes(vec!["</s>".into(), "[X]".into()])
            .unwrap();
        let marks = Marks::new(&rule, &HashSet::new()).unwrap();
        let shown = |text: &str| -> String {
            marks
                .mark(text)
                .chars()
                .map(|c| if is_private_use(c) { '#' } else { c })
                .collect()
        };
        assert_eq!(shown("</think> a</s>b [X"), "</think> a####b ##");
        assert_eq!(shown(" s> x < "), " ## x # ");
        assert_eq!(shown(" s "), " # ");
        assert_eq!(shown("a</s</s>"), "a</s####");
        assert_eq!(shown(""), "");
        assert_eq!(marks.unmark(&marks.mark(" s> </s> é")), " s> </s> é");
    }

    #[test]
    fn marks_avoid_what_the_text_already_holds() {
        let taken: HashSet<char> = private_use().take(5).collect();
        let rule = rule("ab");
        let marks = Marks::new(&rule, &taken).unwrap();
        assert!(marks.back.keys().all(|mark| !taken.contains(mark)));
        assert!(Marks::new(&rule, &private_use().collect()).is_none());
    }
}
