//! The last results of a watched batch, as the JSON that goes out.

use crate::http::types::ResultEvent;
use rbee_queue::store::Finished;
use std::collections::VecDeque;
use std::sync::Arc;

/// Results that are kept of a batch, and their bytes.
const RING_LINES: usize = 4_096;
const RING_BYTES: usize = 4 << 20;
/// Results of one read.
pub const PAGE: usize = 500;

/// Which results a watcher wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Each one.
    #[default]
    All,
    /// Errors.
    Errors,
    /// None.
    Nothing,
}

/// A result as it goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultLine {
    /// Its number in the order of finishing.
    pub finish_no: u64,
    /// It is an error.
    pub failed: bool,
    /// A [`ResultEvent`] as JSON.
    pub json: Arc<str>,
}

impl From<&Finished> for ResultLine {
    fn from(finished: &Finished) -> ResultLine {
        let event = ResultEvent::from(finished);
        let json = serde_json::to_string(&event).expect("a result event is always JSON");
        ResultLine {
            finish_no: finished.finish_no,
            failed: event.error.is_some(),
            json: json.into(),
        }
    }
}

/// The last results of a batch.
#[derive(Debug)]
pub struct Ring {
    lines: VecDeque<ResultLine>,
    bytes: usize,
    /// All results with numbers above this, up to `to`, are here.
    all_from: u64,
    /// All errors with numbers above this, up to `to`, are here.
    errors_from: u64,
    to: u64,
}

impl Ring {
    /// Holds nothing, and goes on behind a number.
    pub fn beginning_after(finish_no: u64) -> Ring {
        Ring {
            lines: VecDeque::new(),
            bytes: 0,
            all_from: finish_no,
            errors_from: finish_no,
            to: finish_no,
        }
    }

    /// Up to which number it has come.
    pub fn to(&self) -> u64 {
        self.to
    }

    /// Takes the results that follow.
    pub fn extend(&mut self, lines: Vec<ResultLine>) {
        for line in lines {
            self.to = line.finish_no;
            self.bytes += line.json.len();
            self.lines.push_back(line);
        }
        while self.lines.len() > RING_LINES || self.bytes > RING_BYTES {
            let Some(line) = self.lines.pop_front() else {
                return;
            };
            self.bytes -= line.json.len();
            self.all_from = self.all_from.max(line.finish_no);
            if line.failed {
                self.errors_from = self.errors_from.max(line.finish_no);
            }
        }
    }

    /// Goes on behind results that nobody wants. `no_errors`: there was no error among them.
    pub fn skip(&mut self, to: u64, no_errors: bool) {
        if to > self.to {
            self.to = to;
            self.all_from = to;
            if !no_errors {
                self.errors_from = to;
            }
        }
    }

    /// Results after a number, at most a page, and the number up to which nothing is left out. `None`: some are no more
    /// here.
    pub fn after(&self, after: u64, wanted: Wanted) -> Option<(Vec<ResultLine>, u64)> {
        let from = match wanted {
            Wanted::All => self.all_from,
            Wanted::Errors | Wanted::Nothing => self.errors_from,
        };
        if after < from {
            return None;
        }
        let start = self.lines.partition_point(|line| line.finish_no <= after);
        let newer = self.lines.range(start..);
        let wanted = newer.filter(|line| line.failed || wanted == Wanted::All);
        let lines: Vec<ResultLine> = wanted.take(PAGE).cloned().collect();
        let to = match lines.len() {
            PAGE => lines[PAGE - 1].finish_no,
            _ => self.to.max(after),
        };
        Some((lines, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(finish_no: u64, failed: bool) -> ResultLine {
        ResultLine {
            finish_no,
            failed,
            json: format!("{finish_no}").into(),
        }
    }

    fn numbers(found: &(Vec<ResultLine>, u64)) -> Vec<u64> {
        found.0.iter().map(|line| line.finish_no).collect()
    }

    #[test]
    fn whoever_is_behind_the_ring_reads_from_the_store() {
        let mut ring = Ring::beginning_after(10);
        ring.extend(vec![line(11, false), line(12, true), line(14, false)]);
        assert_eq!(ring.after(9, Wanted::All), None);
        let found = ring.after(11, Wanted::All).unwrap();
        assert_eq!((numbers(&found), found.1), (vec![12, 14], 14));
        let errors = ring.after(10, Wanted::Errors).unwrap();
        assert_eq!((numbers(&errors), errors.1), (vec![12], 14));
        assert_eq!(ring.after(99, Wanted::All).unwrap().1, 99);
    }

    #[test]
    fn ring_is_bounded_and_says_what_it_has_lost() {
        let mut ring = Ring::beginning_after(0);
        ring.extend(
            (1..=RING_LINES as u64 + 5)
                .map(|no| line(no, no == 2))
                .collect(),
        );
        assert_eq!(ring.lines.len(), RING_LINES);
        assert_eq!(ring.after(4, Wanted::All), None);
        assert_eq!(numbers(&ring.after(5, Wanted::All).unwrap())[0], 6);
        assert_eq!(ring.after(1, Wanted::Errors), None);
        assert!(numbers(&ring.after(2, Wanted::Errors).unwrap()).is_empty());
    }

    #[test]
    pub fn skipped_results_without_errors_are_no_gap_for_those_who_want_errors() {
        let mut ring = Ring::beginning_after(0);
        ring.skip(500, true);
        ring.extend(vec![line(501, true)]);
        assert_eq!(ring.after(0, Wanted::All), None);
        assert_eq!(numbers(&ring.after(0, Wanted::Errors).unwrap()), [501]);
        ring.skip(600, false);
        assert_eq!(ring.after(501, Wanted::Errors), None);
    }
}
