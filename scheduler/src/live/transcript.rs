//! The text of a running job, joined from pieces that may be lost, come twice, or come in another order.
//!
//! Owns the joining only. A piece that begins where the text ends is added; of one that begins before, what is new is
//! added; one that begins behind it shows a gap, and somebody must ask for a snapshot. A later attempt with equal
//! numerics says the same tokens again, so that the text goes on; where it says others, the text begins anew.

use rbee_queue::queue::TextEvent;
use rbee_queue::{Attempt, Completed};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::str::FromStr;

/// Choices that a place names at most: as many as a request may ask for.
const MAX_CHOICES: usize = 16;

/// What a piece did to the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// It was known, or is of an attempt that is over.
    Nothing,
    /// There is more text, or it begins anew.
    News,
    /// Something is missing before it.
    Gap,
}

/// A job's text so far.
#[derive(Debug)]
pub struct Transcript {
    /// The newest attempt that was seen.
    attempt: Attempt,
    /// Later attempts say the same.
    equal: bool,
    /// Grows when the text begins anew.
    epoch: u64,
    /// The attempt that began the epoch; 0: the first.
    began: Attempt,
    choices: BTreeMap<u32, ChoiceText>,
}

#[derive(Debug)]
struct ChoiceText {
    text: String,
    /// Tokens that the text accounts for.
    next: u32,
    /// Before which token which byte is, where that is known; ascending.
    marks: Vec<(u32, usize)>,
}

impl Default for ChoiceText {
    fn default() -> ChoiceText {
        ChoiceText {
            text: String::new(),
            next: 0,
            marks: vec![(0, 0)],
        }
    }
}

impl ChoiceText {
    fn byte_of(&self, token: u32) -> Option<usize> {
        let place = self.marks.binary_search_by_key(&token, |(token, _)| *token);
        place.ok().map(|place| self.marks[place].1)
    }

    fn grow(&mut self, text: &str, next: u32) {
        self.text.push_str(text);
        self.next = next;
        self.marks.push((next, self.text.len()));
    }
}

impl Transcript {
    /// No text. `equal`: all attempts compute the same bytes.
    pub fn new(equal: bool) -> Transcript {
        Transcript {
            attempt: Attempt(0),
            equal,
            epoch: 0,
            began: Attempt(0),
            choices: BTreeMap::new(),
        }
    }

    /// Whether any text has come.
    pub fn is_empty(&self) -> bool {
        self.choices.is_empty()
    }

    /// A later attempt has the job.
    pub fn attempt(&mut self, attempt: Attempt) {
        if attempt > self.attempt {
            self.attempt = attempt;
            if !self.equal && !self.choices.is_empty() {
                self.begin_anew();
            }
        }
    }

    fn begin_anew(&mut self) {
        self.epoch += 1;
        self.began = self.attempt;
        self.choices.clear();
    }

    /// Takes a piece.
    pub fn add(&mut self, event: &TextEvent) -> Joined {
        if event.attempt < self.attempt {
            return Joined::Nothing;
        }
        self.attempt(event.attempt);
        let choice = self.choices.entry(event.choice).or_default();
        if event.first_token > choice.next {
            return Joined::Gap;
        }
        let Some(from) = choice.byte_of(event.first_token) else {
            // Cut elsewhere than what came before; a snapshot fits always.
            return Joined::Gap;
        };
        let known = &choice.text[from..];
        let end = event.first_token.saturating_add(event.tokens);
        let shared = known.len().min(event.text.len());
        let agrees = known.as_bytes()[..shared] == event.text.as_bytes()[..shared];
        if agrees && end <= choice.next {
            return Joined::Nothing;
        }
        if let (true, Some(more)) = (agrees, event.text.get(known.len()..)) {
            choice.grow(more, end);
            return Joined::News;
        }
        self.begin_anew();
        match event.first_token {
            0 => {
                let choice = self.choices.entry(event.choice).or_default();
                choice.grow(&event.text, end);
                Joined::News
            }
            _ => Joined::Gap,
        }
    }

    /// The job has its answer: what is missing of its text is added.
    pub fn finish(&mut self, attempt: Attempt, completed: &Completed) {
        self.attempt(attempt);
        let agrees = completed.choices.iter().all(|stored| {
            let known = self.choices.get(&stored.index);
            known.is_none_or(|known| stored.text.starts_with(&known.text))
        });
        if !agrees {
            self.begin_anew();
        }
        let single = completed.choices.len() == 1;
        for stored in &completed.choices {
            let choice = self.choices.entry(stored.index).or_default();
            let rest = &stored.text[choice.text.len()..];
            // Tokens are counted for all choices together: of several it is only known that there are more.
            let next = match single {
                true => completed.usage.completion_tokens.max(choice.next),
                false => choice.next + u32::from(!rest.is_empty()),
            };
            if !rest.is_empty() || next > choice.next {
                choice.grow(rest, next);
            }
        }
    }

    /// What a reader has not had, and moves its place behind it. `whole`: nothing more comes.
    pub fn read(&self, place: &mut Place, whole: bool) -> News {
        let mut news = News::default();
        let stale = match place.epoch {
            Some(epoch) => epoch != self.epoch,
            None => place.is_before(self.began) || !self.equal && place.is_before(self.attempt),
        };
        if stale || self.is_lost(place, whole) {
            place.at.clear();
            news.reset = Some(self.attempt);
        }
        place.epoch = Some(self.epoch);
        for (number, choice) in &self.choices {
            let at = place.at.entry(*number).or_default();
            let byte = match at.byte {
                Some(byte) => byte,
                None => match choice.byte_of(at.token) {
                    Some(byte) => byte,
                    // It comes again, from a later attempt or to a server that has just begun.
                    None => continue,
                },
            };
            at.byte = Some(byte);
            at.attempt = self.attempt;
            // A token without text, such as half a character, is told with the text that follows it.
            if choice.text.len() == byte {
                continue;
            }
            let piece = Piece {
                attempt: self.attempt,
                choice: *number,
                first_token: at.token,
                tokens: choice.next - at.token,
                text: choice.text[byte..].to_owned(),
                id: String::new(),
            };
            (at.token, at.byte) = (choice.next, Some(choice.text.len()));
            let id = place.to_string();
            news.pieces.push(Piece { id, ..piece });
        }
        news
    }

    /// Whether a place names a token that is there, or over, without it being known where in the text it is.
    fn is_lost(&self, place: &Place, whole: bool) -> bool {
        place.at.iter().any(|(number, at)| {
            if at.byte.is_some() {
                return false;
            }
            match self.choices.get(number) {
                Some(choice) if choice.next >= at.token => choice.byte_of(at.token).is_none(),
                _ => whole && at.token > 0,
            }
        })
    }
}

/// What is new for a reader.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// All that was told before is void; the attempt that begins anew.
    pub reset: Option<Attempt>,
    /// The pieces that follow.
    pub pieces: Vec<Piece>,
}

/// A piece of text for a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The attempt that generates.
    pub attempt: Attempt,
    /// The choice.
    pub choice: u32,
    /// Its first token.
    pub first_token: u32,
    /// Its tokens.
    pub tokens: u32,
    /// Its text.
    pub text: String,
    /// The place behind it.
    pub id: String,
}

/// Where a reader is: behind which token of which choice. As text it is `attempt.choice.token`, one for each choice that
/// has begun, with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `None`: the place was made from a text.
    epoch: Option<u64>,
    at: BTreeMap<u32, At>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct At {
    attempt: Attempt,
    token: u32,
    byte: Option<usize>,
}

impl Place {
    /// Whether it was made while an earlier attempt ran.
    fn is_before(&self, attempt: Attempt) -> bool {
        self.at.values().any(|at| at.attempt < attempt)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (count, (choice, at)) in self.at.iter().enumerate() {
            if count > 0 {
                f.write_char(',')?;
            }
            write!(f, "{}.{choice}.{}", at.attempt, at.token)?;
        }
        Ok(())
    }
}

/// A text that is no place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be the id of an event of this job: attempt.choice.token")]
pub struct NoPlace;

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Place, NoPlace> {
        let mut place = Place::default();
        for part in text.split(',') {
            let mut numbers = part.split('.');
            let mut next = || numbers.next().ok_or(NoPlace);
            let attempt = next()?.parse().map_err(|_| NoPlace)?;
            let choice = next()?.parse().map_err(|_| NoPlace)?;
            let token = next()?.parse().map_err(|_| NoPlace)?;
            let at = At {
                attempt: Attempt(attempt),
                token,
                byte: None,
            };
            let twice = place.at.insert(choice, at).is_some();
            if twice || numbers.next().is_some() || place.at.len() > MAX_CHOICES {
                return Err(NoPlace);
            }
        }
        Ok(place)
    }
}

#[cfg(test)]
#[path = "transcript_tests.rs"]
mod tests;
