//! What this process watches for its clients: batches by one look for all of their watchers, jobs by one subscription
//! each.
//!
//! Owns the looking and what was seen. Nothing is buffered for a watcher: each has a place in what was seen, and reads
//! from the store what is no more kept here.

mod batch;
mod job;
mod look_pace;
mod pace;
mod ring;
mod transcript;

pub use batch::{LiveBatch, LiveBatches, Seen, Wish};
pub use job::{Facts, LiveJob, LiveJobs};
pub use ring::Wanted;
pub use transcript::{NoPlace, Piece, Place};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Too much is watched at once.
#[derive(Debug, thiserror::Error)]
#[error("the server watches too much at once: try again in a moment")]
pub struct TooMany;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The guarded sections do not panic; if one did, what is behind the lock is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
