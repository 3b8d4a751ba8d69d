//! Stop texts: where an answer ends, and how much of it may be shown before that is known.
//!
//! The stop text that is complete first ends the answer; of several that are complete at the same byte the longest
//! counts, and the answer ends before it. That does not depend on how the text is cut into tokens. One automaton a stop
//! text (Knuth, Morris, Pratt 1977) keeps the work linear, however long the texts are.

/// Looks for stop texts in a text that grows.
#[derive(Debug, Clone, Default)]
pub struct StopMatcher {
    automata: Vec<Automaton>,
    /// Bytes taken so far.
    len: usize,
}

/// What is known about the text after a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopState {
    /// No stop text yet. Bytes before `safe` belong to the answer for certain; it is a character boundary.
    Open {
        /// Number of bytes that can be shown.
        safe: usize,
    },
    /// The answer ends here: a stop text begins at this byte.
    Stopped {
        /// Length of the answer in bytes.
        at: usize,
    },
}

#[derive(Debug, Clone)]
struct Automaton {
    pattern: Vec<u8>,
    /// For each prefix, the length of its longest proper border.
    borders: Vec<u32>,
    /// Length of the longest prefix of the pattern that the text ends with.
    matched: usize,
}

impl Automaton {
    fn new(pattern: &str) -> Automaton {
        let pattern = pattern.as_bytes().to_vec();
        let mut borders = vec![0u32; pattern.len()];
        let mut border = 0usize;
        for at in 1..pattern.len() {
            while border > 0 && pattern[at] != pattern[border] {
                border = borders[border - 1] as usize;
            }
            if pattern[at] == pattern[border] {
                border += 1;
            }
            borders[at] = border as u32;
        }
        Automaton {
            pattern,
            borders,
            matched: 0,
        }
    }

    /// Takes a byte; true if the pattern is complete with it.
    fn push(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.pattern[self.matched] != byte {
            self.matched = self.borders[self.matched - 1] as usize;
        }
        if self.pattern[self.matched] == byte {
            self.matched += 1;
        }
        self.matched == self.pattern.len()
    }
}

impl StopMatcher {
    /// A matcher at the start of a text. Empty stop texts are passed over.
    pub fn new(stops: &[String]) -> StopMatcher {
        let stops = stops.iter().filter(|stop| !stop.is_empty());
        StopMatcher {
            automata: stops.map(|stop| Automaton::new(stop)).collect(),
            len: 0,
        }
    }

    /// Takes the text's next piece. Nothing may be pushed after it has stopped.
    pub fn push(&mut self, piece: &str) -> StopState {
        if self.automata.is_empty() {
            self.len += piece.len();
            return StopState::Open { safe: self.len };
        }
        for &byte in piece.as_bytes() {
            self.len += 1;
            let mut longest = 0;
            for automaton in &mut self.automata {
                if automaton.push(byte) {
                    longest = longest.max(automaton.pattern.len());
                }
            }
            if longest > 0 {
                return StopState::Stopped {
                    at: self.len - longest,
                };
            }
        }
        let held = self.automata.iter().map(|a| a.matched).max().unwrap_or(0);
        StopState::Open {
            safe: self.len - held,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, written down plainly: the least end, then the least start.
    fn expected(text: &str, stops: &[String]) -> Option<usize> {
        let found = stops.iter().filter(|s| !s.is_empty()).filter_map(|stop| {
            let start = text.find(stop.as_str())?;
            Some((start + stop.len(), start))
        });
        found.min().map(|(_, start)| start)
    }

    fn feed(pieces: &[&str], stops: &[String]) -> (usize, Option<usize>) {
        let mut matcher = StopMatcher::new(stops);
        let mut shown = 0;
        for piece in pieces {
            match matcher.push(piece) {
                StopState::Open { safe } => {
                    assert!(safe >= shown, "what was shown cannot be taken back");
                    shown = safe;
                }
                StopState::Stopped { at } => {
                    assert!(at >= shown, "a part of the stop text was shown");
                    return (shown, Some(at));
                }
            }
        }
        (shown, None)
    }

    #[test]
    fn stop_text_is_found_however_the_text_is_cut() {
        let text = "one two <END> three";
        let stops = vec!["<END>".to_string(), "zzz".to_string()];
        for a in 0..=text.len() {
            for b in a..=text.len() {
                let (_, at) = feed(&[&text[..a], &text[a..b], &text[b..]], &stops);
                assert_eq!(at, Some(8), "cut at {a} and {b}");
            }
        }
    }

    #[test]
    fn beginning_of_a_stop_text_is_held_back_and_given_free() {
        let mut matcher = StopMatcher::new(&["abab!".to_string()]);
        assert_eq!(matcher.push("xaba"), StopState::Open { safe: 1 });
        assert_eq!(matcher.push("bab"), StopState::Open { safe: 3 });
        assert_eq!(matcher.push("c"), StopState::Open { safe: 8 });
    }

    #[test]
    fn first_complete_stop_text_wins_and_the_longer_of_two_that_end_together() {
        let stops = vec!["abcd".to_string(), "bc".to_string()];
        assert_eq!(feed(&["abcd"], &stops).1, Some(1));
        let stops = vec!["c".to_string(), "abc".to_string()];
        assert_eq!(feed(&["xabc"], &stops).1, Some(1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_cut_gives_the_answer_of_the_definition(
            pieces in prop::collection::vec("[abé]{0,4}", 0..20),
            stops in prop::collection::vec("[abé]{0,4}", 0..4),
        ) {
            let text = pieces.concat();
            let refs: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let (shown, at) = feed(&refs, &stops);
            prop_assert_eq!(at, expected(&text, &stops));
            prop_assert!(text.is_char_boundary(shown));
            if at.is_none() {
                // What is held back is the beginning of a stop text.
                let held = &text[shown..];
                prop_assert!(held.is_empty() || stops.iter().any(|s| s.starts_with(held)));
            }
        }
    }
}
