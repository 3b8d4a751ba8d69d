//! Whether a batch being loaded has equal jobs or duplicate ids: surely not, or maybe.
//!
//! Owns one filter of fixed size for each load. Most batches have neither, and learn here, for a few
//! nanoseconds a job, that the store need not sort all their rows to find some. A "maybe" is never
//! believed: SQL then looks.

use super::jobs::NewJob;
use crate::ids::BatchNo;
use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard};

/// Words of a filter, 8 MiB: a million jobs are told apart with 99.7% certainty.
const FILTER_WORDS: usize = 1 << 20;
/// Bits that one value sets.
const BITS_A_VALUE: u64 = 8;
/// Loads that are followed at once: the oldest is forgotten for one more.
const MAX_LOADS: usize = 4;

/// What is known of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Some jobs may be equal.
    pub maybe_equal: bool,
    /// Some lines may show one id.
    pub maybe_duplicate: bool,
}

impl Seen {
    /// Of a load that was not followed.
    const UNKNOWN: Seen = Seen {
        maybe_equal: true,
        maybe_duplicate: true,
    };
}

/// The loads of a store.
#[derive(Clone, Debug, Default)]
pub struct Loads(Arc<Mutex<VecDeque<Load>>>);

#[derive(Debug)]
struct Load {
    batch: BatchNo,
    jobs: u64,
    contents: Filter,
    /// Made for the first line with an id.
    ids: Option<Filter>,
    hasher: RandomState,
    seen: Seen,
}

impl Loads {
    /// Follows a load from its beginning on.
    pub fn begin(&self, batch: BatchNo) {
        let mut loads = self.lock();
        if loads.len() == MAX_LOADS {
            loads.pop_front();
        }
        loads.push_back(Load {
            batch,
            jobs: 0,
            contents: Filter::new(),
            ids: None,
            hasher: RandomState::new(),
            seen: Seen {
                maybe_equal: false,
                maybe_duplicate: false,
            },
        });
    }

    /// Notes jobs before they are written. Noting some twice costs certainty only.
    pub fn add(&self, batch: BatchNo, jobs: &[NewJob]) {
        let mut loads = self.lock();
        if let Some(load) = loads.iter_mut().find(|load| load.batch == batch) {
            jobs.iter().for_each(|job| load.add(job));
        }
    }

    /// Ends a load of so many jobs. One that had others (another process's) is not believed.
    pub fn end(&self, batch: BatchNo, jobs: u64) -> Seen {
        let mut loads = self.lock();
        let Some(at) = loads.iter().position(|load| load.batch == batch) else {
            return Seen::UNKNOWN;
        };
        match loads.remove(at) {
            Some(load) if load.jobs == jobs => load.seen,
            _ => Seen::UNKNOWN,
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Load>> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

impl Load {
    fn add(&mut self, job: &NewJob) {
        self.jobs += 1;
        let (left, right) = job.content.0.split_at(8);
        self.seen.maybe_equal |= self.contents.insert(word(left), word(right));
        let Some(id) = &job.custom_id else {
            return;
        };
        // It may be the number that another line shows for want of an id.
        let like_an_index = id.bytes().all(|byte| byte.is_ascii_digit());
        let ids = self.ids.get_or_insert_with(Filter::new);
        let (one, two) = (self.hasher.hash_one(id), self.hasher.hash_one((id, 1)));
        self.seen.maybe_duplicate |= ids.insert(one, two) || like_an_index;
    }
}

fn word(bytes: &[u8]) -> u64 {
    let bytes = bytes.first_chunk().expect("a digest has 32 bytes");
    u64::from_le_bytes(*bytes)
}

/// A Bloom filter.
#[derive(Debug)]
struct Filter(Box<[u64]>);

impl Filter {
    fn new() -> Filter {
        Filter(vec![0; FILTER_WORDS].into_boxed_slice())
    }

    /// Notes a value by two digests of it. True: it may have been there.
    fn insert(&mut self, one: u64, two: u64) -> bool {
        let mut there = true;
        for step in 0..BITS_A_VALUE {
            let bit = one.wrapping_add(step.wrapping_mul(two | 1));
            let word = &mut self.0[(bit >> 6) as usize % FILTER_WORDS];
            let mask = 1 << (bit & 63);
            there &= *word & mask != 0;
            *word |= mask;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::{job, named};

    const BATCH: BatchNo = BatchNo(1);

    fn seen(jobs: &[NewJob]) -> Seen {
        let loads = Loads::default();
        loads.begin(BATCH);
        jobs.chunks(100).for_each(|chunk| loads.add(BATCH, chunk));
        loads.end(BATCH, jobs.len() as u64)
    }

    #[test]
    fn different_jobs_are_told_apart() {
        let jobs: Vec<NewJob> = (0..20_000).map(job).collect();
        assert!(!seen(&jobs).maybe_equal);
        let jobs: Vec<NewJob> = (0..20_000)
            .map(|index| named(index, &format!("id-{index}")))
            .collect();
        assert!(!seen(&jobs).maybe_duplicate);
    }

    #[test]
    fn equal_jobs_and_ids_are_never_missed() {
        let mut jobs: Vec<NewJob> = (0..2_000).map(job).collect();
        jobs.push(NewJob {
            content: jobs[7].content,
            ..job(2_000)
        });
        assert!(seen(&jobs).maybe_equal);
        let mut jobs: Vec<NewJob> = (0..2_000)
            .map(|index| named(index, &format!("id-{index}")))
            .collect();
        jobs.push(named(2_000, "id-1999"));
        assert!(seen(&jobs).maybe_duplicate);
        assert!(seen(&[job(0), named(1, "0")]).maybe_duplicate);
    }

    #[test]
    fn load_that_was_not_followed_whole_is_not_believed() {
        let loads = Loads::default();
        assert_eq!(loads.end(BATCH, 0), Seen::UNKNOWN);
        loads.begin(BATCH);
        loads.add(BATCH, &[job(0)]);
        assert_eq!(loads.end(BATCH, 2), Seen::UNKNOWN);
        for batch in 2..10 {
            loads.begin(BatchNo(batch));
        }
        assert_eq!(loads.end(BatchNo(2), 0), Seen::UNKNOWN);
        assert!(!loads.end(BatchNo(9), 0).maybe_equal);
    }
}
