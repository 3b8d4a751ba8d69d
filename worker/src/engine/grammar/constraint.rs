//! What holds one running choice to its form.

use super::mask::Mask;
use super::matcher::Matcher;
use super::threads::{MaskThreads, Turn};
use crate::engine::prepare::ENGINE_ERROR;
use rbee_queue::JobError;
use std::fmt;
use std::sync::mpsc::Receiver;

/// A choice's grammar, and the mask of its next token.
pub struct Constraint {
    state: State,
    threads: MaskThreads,
}

enum State {
    /// The next mask is known.
    Ready(Box<Matcher>, Mask),
    /// The next mask is being made.
    Away(Receiver<Turn>),
    /// Nothing may follow.
    Complete,
    /// It has told why it cannot go on.
    Failed,
}

impl Constraint {
    /// At its beginning, with its first mask.
    ///
    /// # Errors
    /// With the job's error when nothing can be said at all.
    pub(super) fn new(mut matcher: Matcher, threads: MaskThreads) -> Result<Constraint, JobError> {
        let mask = matcher.mask()?;
        Ok(Constraint {
            state: State::Ready(Box::new(matcher), mask),
            threads,
        })
    }

    /// The tokens that may come next; waits for them where they are still being made.
    ///
    /// # Errors
    /// With the job's error.
    pub fn mask(&mut self) -> Result<&Mask, JobError> {
        if let State::Away(coming) = &self.state {
            let turn = coming.recv();
            self.state = State::Failed;
            let (matcher, mask) = turn.map_err(|_| lost())?;
            self.state = State::Ready(matcher, mask?);
        }
        match &self.state {
            State::Ready(_, mask) => Ok(mask),
            _ => Err(lost()),
        }
    }

    /// Takes the token that was drawn, and has the next mask made.
    ///
    /// # Errors
    /// With the job's error.
    pub fn take(&mut self, token: u32) -> Result<(), JobError> {
        let State::Ready(mut matcher, _) = std::mem::replace(&mut self.state, State::Failed) else {
            return Err(lost());
        };
        self.state = match matcher.take(token)? {
            true => State::Complete,
            false => State::Away(self.threads.mask(matcher)),
        };
        Ok(())
    }

    /// Whether the answer is complete: nothing may follow.
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete)
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Constraint")
    }
}

fn lost() -> JobError {
    let message = "The grammar of the answer was lost inside rbee: nothing made its next mask.";
    JobError::new(ENGINE_ERROR, message)
}
