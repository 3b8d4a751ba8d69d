//! The last few jobs of which something is to be remembered.

use rbee_queue::queue::Held;
use std::collections::{HashSet, VecDeque};

/// How many are remembered. More than a queue can push twice before a node has seen the first.
const REMEMBERED: usize = 8_192;

/// A set that forgets its oldest members.
#[derive(Debug, Default)]
pub struct Recent {
    members: HashSet<Held>,
    order: VecDeque<Held>,
}

impl Recent {
    /// Remembers a job under its attempt.
    pub fn note(&mut self, held: Held) {
        if !self.members.insert(held) {
            return;
        }
        self.order.push_back(held);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.members.remove(&oldest);
        }
    }

    /// Whether it is remembered.
    pub fn contains(&self, held: &Held) -> bool {
        self.members.contains(held)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.members.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rbee_queue::ids::{Attempt, BatchNo, JobIndex, JobRef};

    #[test]
    fn oldest_are_forgotten_first() {
        let held = |index| Held {
            job: JobRef {
                batch: BatchNo(1),
                index: JobIndex(index),
            },
            attempt: Attempt(1),
        };
        let mut recent = Recent::default();
        for index in 0..=REMEMBERED as u64 {
            recent.note(held(index));
            recent.note(held(index));
        }
        assert!(!recent.contains(&held(0)));
        assert!(recent.contains(&held(1)) && recent.contains(&held(REMEMBERED as u64)));
        assert_eq!(recent.order.len(), recent.members.len());
    }
}
