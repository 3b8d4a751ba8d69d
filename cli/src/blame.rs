//! After a crash: which jobs the dead process had with its engine, told to the store.

use rbee_queue::Batches;
use rbee_queue::queue::Held;
use rbee_queue::store::{Release, ReleaseCause, StoreError};

use crate::talk::Talk;

/// Ends the attempts of `jobs`, which were with the engine when the process before this one crashed. They next run
/// alone; one that was alone is counted a crash, and the third one fails it. Attempts that ended meanwhile blame nobody.
pub async fn blame(batches: &Batches, jobs: &[Held], talk: &Talk) -> Result<(), StoreError> {
    if jobs.is_empty() {
        return Ok(());
    }
    let cause = ReleaseCause::Blamed {
        alone: jobs.len() == 1,
    };
    let releases = jobs.iter().map(|held| Release {
        job: held.job,
        attempt: held.attempt,
        cause,
    });
    batches.store().release_many(releases.collect()).await?;
    match jobs {
        [held] => talk.note(&format!(
            "job {} was running alone at the crash",
            held.job.index
        )),
        _ => talk.note(&format!(
            "{} jobs were running at the crash: each runs alone now",
            jobs.len()
        )),
    }
    Ok(())
}
