//! The texts of running jobs on a terminal: a line each, which shows the end of the text.

use std::collections::BTreeMap;

use indicatif::{ProgressBar, ProgressStyle};
use rbee_scheduler::http::types::TextPiece;

use crate::talk::Talk;

/// Jobs that are shown at once.
const SHOWN: usize = 16;
/// Characters of a text's end that are shown: they fit beside the number on any terminal.
const TAIL_CHARS: usize = 68;

/// Lines under the bar.
pub struct Tails {
    talk: Talk,
    jobs: BTreeMap<u64, Tail>,
}

struct Tail {
    text: String,
    bar: ProgressBar,
}

impl Tails {
    /// No job is shown.
    pub fn new(talk: &Talk) -> Tails {
        Tails {
            talk: talk.clone(),
            jobs: BTreeMap::new(),
        }
    }

    /// More text of a job's first choice.
    pub fn add(&mut self, piece: &TextPiece) {
        let wanted = piece.choice == 0 && self.talk.is_terminal() && !self.talk.is_quiet();
        let index = piece.index.unwrap_or(0);
        if !wanted || !self.jobs.contains_key(&index) && self.jobs.len() >= SHOWN {
            return;
        }
        let talk = &self.talk;
        let tail = self.jobs.entry(index).or_insert_with(|| {
            let style = ProgressStyle::with_template("{prefix:>8} {msg}")
                .expect("the template is well-formed");
            let bar = ProgressBar::new_spinner().with_style(style);
            let bar = talk.bars().add(bar.with_prefix(format!("#{index}")));
            Tail {
                text: String::new(),
                bar,
            }
        });
        let shown = |letter: char| if letter.is_control() { ' ' } else { letter };
        tail.text.extend(piece.text.chars().map(shown));
        let extra = tail.text.chars().count().saturating_sub(TAIL_CHARS);
        if let Some((cut, _)) = tail.text.char_indices().nth(extra).filter(|_| extra > 0) {
            tail.text.drain(..cut);
        }
        tail.bar.set_message(tail.text.clone());
    }

    /// A job's text begins anew.
    pub fn reset(&mut self, index: u64) {
        if let Some(tail) = self.jobs.get_mut(&index) {
            tail.text.clear();
            tail.bar.set_message("");
        }
    }

    /// A job is done.
    pub fn end(&mut self, index: u64) {
        if let Some(tail) = self.jobs.remove(&index) {
            tail.bar.finish_and_clear();
            self.talk.bars().remove(&tail.bar);
        }
    }

    /// Takes all lines away.
    pub fn clear(&mut self) {
        let all: Vec<u64> = self.jobs.keys().copied().collect();
        all.into_iter().for_each(|index| self.end(index));
    }
}

impl Drop for Tails {
    fn drop(&mut self) {
        self.clear();
    }
}
