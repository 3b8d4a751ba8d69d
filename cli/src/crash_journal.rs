//! Which jobs were with the engine when the process died: a small file that outlives the process but not its parent.
//!
//! The file has no name. `supervisor` makes it and hands it down; the child notes each job before the engine gets it and
//! wipes it out afterwards; a child that follows a crash reads what its predecessor left. What is written is in the
//! kernel's page cache at once, so nothing is lost when the process is (and only then is it needed).

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rbee_queue::ids::{Attempt, BatchNo, JobIndex, JobRef};
use rbee_queue::queue::Held;
use rbee_worker::node::RunningJobs;

/// One entry: the batch's number plus one (0 is an empty entry), the job's index, and the attempt.
const ENTRY_BYTES: usize = 24;
/// More jobs than an engine ever holds; a longer file is not ours.
const ENTRIES_MAX: u64 = 1 << 16;

/// The jobs that the engine of this process holds.
pub struct CrashJournal {
    file: File,
    places: HashMap<Held, u64>,
    free: Vec<u64>,
    end: u64,
}

impl CrashJournal {
    /// Takes the file over, and returns what the process before this one left in it.
    pub fn open(file: File) -> io::Result<(CrashJournal, Vec<Held>)> {
        let entries = (file.metadata()?.len() / ENTRY_BYTES as u64).min(ENTRIES_MAX);
        let mut left = Vec::new();
        let mut entry = [0; ENTRY_BYTES];
        for place in 0..entries {
            file.read_exact_at(&mut entry, place * ENTRY_BYTES as u64)?;
            left.extend(decode(&entry));
        }
        file.set_len(0)?;
        Ok((
            CrashJournal {
                file,
                places: HashMap::new(),
                free: Vec::new(),
                end: 0,
            },
            left,
        ))
    }

    /// Notes a job that the engine is about to get.
    pub fn begin(&mut self, job: Held) -> io::Result<()> {
        let place = self.free.pop().unwrap_or_else(|| {
            self.end += 1;
            self.end - 1
        });
        self.places.insert(job, place);
        self.file
            .write_all_at(&encode(job), place * ENTRY_BYTES as u64)
    }

    /// Wipes out a job that the engine does not hold any more.
    pub fn end(&mut self, job: Held) -> io::Result<()> {
        let Some(place) = self.places.remove(&job) else {
            return Ok(());
        };
        self.free.push(place);
        self.file
            .write_all_at(&[0; ENTRY_BYTES], place * ENTRY_BYTES as u64)
    }
}

/// Notes each job in the crash journal. A journal that cannot be written costs the blame after a crash, not the work.
pub struct Journalled(pub CrashJournal);

impl RunningJobs for Journalled {
    fn begin(&mut self, job: Held) {
        if let Err(error) = self.0.begin(job) {
            tracing::warn!(%error, "the crash journal cannot be written");
        }
    }

    fn end(&mut self, job: Held) {
        if let Err(error) = self.0.end(job) {
            tracing::warn!(%error, "the crash journal cannot be written");
        }
    }
}

fn encode(held: Held) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..8].copy_from_slice(&(held.job.batch.0 + 1).to_le_bytes());
    entry[8..16].copy_from_slice(&held.job.index.0.to_le_bytes());
    entry[16..].copy_from_slice(&held.attempt.0.to_le_bytes());
    entry
}

fn decode(entry: &[u8; ENTRY_BYTES]) -> Option<Held> {
    let mut number = [0; 8];
    let mut read = |from: usize| {
        number.copy_from_slice(&entry[from..from + 8]);
        number
    };
    let batch = i64::from_le_bytes(read(0));
    let index = u64::from_le_bytes(read(8));
    let attempt = u64::from_le_bytes(read(16));
    (batch > 0).then(|| Held {
        job: JobRef {
            batch: BatchNo(batch - 1),
            index: JobIndex(index),
        },
        attempt: Attempt(attempt),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(index: u64) -> Held {
        Held {
            job: JobRef {
                batch: BatchNo(0),
                index: JobIndex(index),
            },
            attempt: Attempt(index + 1),
        }
    }

    #[test]
    fn next_process_reads_exactly_the_jobs_that_were_running() {
        let file = tempfile::tempfile().unwrap();
        let (mut journal, left) = CrashJournal::open(file.try_clone().unwrap()).unwrap();
        assert_eq!(left, []);
        for index in 0..4 {
            journal.begin(job(index)).unwrap();
        }
        journal.end(job(1)).unwrap();
        journal.end(job(3)).unwrap();
        journal.begin(job(9)).unwrap();
        drop(journal);
        let (_, mut left) = CrashJournal::open(file.try_clone().unwrap()).unwrap();
        left.sort_by_key(|held| held.job);
        assert_eq!(left, [job(0), job(2), job(9)]);
        let (_, left) = CrashJournal::open(file).unwrap();
        assert_eq!(left, []);
    }

    #[test]
    fn journal_stays_as_small_as_the_engine() {
        let file = tempfile::tempfile().unwrap();
        let (mut journal, _) = CrashJournal::open(file.try_clone().unwrap()).unwrap();
        for index in 0..1000 {
            journal.begin(job(index)).unwrap();
            journal.end(job(index)).unwrap();
        }
        assert_eq!(file.metadata().unwrap().len(), ENTRY_BYTES as u64);
    }
}
