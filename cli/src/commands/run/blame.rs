//! After a crash: which jobs the dead process had with its engine, told to the store.

use rbee_queue::store::{Release, ReleaseCause};
use rbee_queue::{Batches, JobRef};

use crate::failure::Failure;
use crate::talk::Talk;

/// Ends the attempts of `jobs`, which were with the engine when the process before this one crashed. They next run
/// alone; one that was alone is counted a crash, and the third one fails it.
pub async fn blame(batches: &Batches, jobs: &[JobRef], talk: &Talk) -> Result<(), Failure> {
    if jobs.is_empty() {
        return Ok(());
    }
    let cause = ReleaseCause::Blamed {
        alone: jobs.len() == 1,
    };
    let found = batches.store().job_get(jobs).await?;
    let releases = (jobs.iter().zip(found))
        .filter_map(|(job, stored)| {
            Some(Release {
                job: *job,
                attempt: stored?.attempt,
                cause,
            })
        })
        .collect();
    batches.store().release_many(releases).await?;
    match jobs {
        [job] => talk.note(&format!(
            "job {} was running alone when the run crashed",
            job.index
        )),
        _ => talk.note(&format!(
            "{} jobs were running when the run crashed: each runs alone now",
            jobs.len()
        )),
    }
    Ok(())
}
