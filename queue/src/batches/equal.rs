//! Jobs of an input whose answer an earlier one of the same input gives: computed once, stored for each.
//!
//! Owns who waits for whom. What is remembered of an input is bounded: in one with more different jobs, equal ones among
//! the later of them are each computed.

use crate::ids::{ContentHash, JobIndex, ModelNo};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Different jobs that are remembered, some 40 MB of them.
const MOST_REMEMBERED: usize = 1 << 19;
/// Jobs that wait for one answer: storing it is one transaction.
pub const MOST_FOLLOWERS: u32 = 127;
/// Bytes of a digest that jobs are found by: enough that no two are ever taken for one.
const DIGEST_BYTES: usize = 16;

/// A job that others may wait for.
struct Leader {
    index: JobIndex,
    followers: u32,
}

/// The jobs of one input so far.
#[derive(Default)]
pub struct EqualJobs {
    leaders: HashMap<(ModelNo, [u8; DIGEST_BYTES]), Leader>,
}

impl EqualJobs {
    /// Notes a job that does `work` with a model. Returns the earlier job whose answer it gets.
    pub fn leader_of(
        &mut self,
        index: JobIndex,
        model: ModelNo,
        work: &ContentHash,
    ) -> Option<JobIndex> {
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(&work.0[..DIGEST_BYTES]);
        let room = self.leaders.len() < MOST_REMEMBERED;
        let itself = Leader {
            index,
            followers: 0,
        };
        match self.leaders.entry((model, digest)) {
            Entry::Occupied(mut found) if found.get().followers < MOST_FOLLOWERS => {
                let leader = found.get_mut();
                leader.followers += 1;
                Some(leader.index)
            }
            Entry::Occupied(mut full) => {
                full.insert(itself);
                None
            }
            Entry::Vacant(free) => {
                if room {
                    free.insert(itself);
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_wait_for_the_first_equal_one_of_their_model() {
        let mut jobs = EqualJobs::default();
        let mut leader = |index, model, work| {
            let leader = jobs.leader_of(JobIndex(index), ModelNo(model), &ContentHash([work; 32]));
            leader.map(|leader| leader.0)
        };
        assert_eq!(leader(0, 0, 1), None);
        assert_eq!(leader(1, 0, 2), None);
        assert_eq!(leader(2, 0, 1), Some(0));
        assert_eq!(leader(3, 1, 1), None);
        assert_eq!(leader(4, 1, 1), Some(3));
        assert_eq!(leader(5, 0, 1), Some(0));
    }

    #[test]
    fn no_answer_is_waited_for_by_more_than_one_transaction_holds() {
        let mut jobs = EqualJobs::default();
        let work = ContentHash([1; 32]);
        let leaders: Vec<Option<JobIndex>> = (0..600)
            .map(|index| jobs.leader_of(JobIndex(index), ModelNo(0), &work))
            .collect();
        assert_eq!(leaders[127], Some(JobIndex(0)));
        assert_eq!(leaders[128], None);
        assert_eq!(leaders[129], Some(JobIndex(128)));
        assert_eq!(leaders.iter().flatten().count(), 600 - 5);
    }
}
