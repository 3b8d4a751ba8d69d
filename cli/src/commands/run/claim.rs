//! The batch of a run: found by its key and taken up, or made.
//!
//! Owns the decision between new, resumed and finished. Holds the batch's lock, so that no other process runs it.

use rbee_queue::batches::{Submission, SubmitError, Submitted};
use rbee_queue::owner::{BatchLock, LockError};
use rbee_queue::{Batch, BatchId, Batches};

use super::input::Input;
use crate::batches_home::OWNER;
use crate::failure::Failure;
use crate::orphan::Orphan;
use crate::talk::Talk;

/// How the run stands before anything is computed.
#[derive(Debug)]
pub enum Claim {
    /// All results are kept already.
    Finished(Box<Batch>),
    /// Some jobs have no result yet.
    Open {
        batch: Box<Batch>,
        resumed: bool,
        lock: Option<BatchLock>,
    },
}

impl Claim {
    /// Jobs whose results were there before this run began; those of bad lines, which nobody computes, come with a new
    /// batch.
    pub fn resumed(&self) -> u64 {
        let counts = self.batch().counts;
        match self {
            Claim::Open { resumed: false, .. } => 0,
            Claim::Open { .. } | Claim::Finished(_) => counts.total - counts.unfinished(),
        }
    }

    /// The batch.
    pub fn batch(&self) -> &Batch {
        match self {
            Claim::Finished(batch) | Claim::Open { batch, .. } => batch,
        }
    }
}

/// What is claimed.
pub struct Wanted<'a> {
    /// With the key under which the batch is found again.
    pub submission: Submission,
    pub input: &'a Input,
    pub talk: &'a Talk,
    /// Whether results are kept that this run may take over.
    pub start: Start,
}

/// How a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what is kept, failures of circumstance tried again.
    Usual,
    /// Anew, whatever is kept.
    Fresh,
    /// After a crash of this very run: with what is kept, and what failed just now stays failed.
    AfterCrash,
}

/// Finds or makes the batch, and takes its lock.
pub async fn claim(batches: &Batches, wanted: Wanted<'_>) -> Result<Claim, Failure> {
    let key = wanted.submission.key.as_deref().unwrap_or_default();
    if let Some(found) = batches.store().batch_by_key(OWNER, key).await? {
        if wanted.start != Start::Fresh {
            return take_up(batches, found, wanted.start).await;
        }
        give_up(batches, &found).await?;
    }
    let reader = wanted
        .input
        .reader(wanted.talk, "storing")
        .map_err(anyhow::Error::from)?;
    match batches
        .submit(reader, wanted.submission)
        .await
        .map_err(|error| refused(error, wanted.input))?
    {
        Submitted::New(batch, lock) => Ok(Claim::Open {
            batch,
            resumed: false,
            lock,
        }),
        // Made by another process since we looked.
        Submitted::Existing(batch) => take_up(batches, *batch, wanted.start).await,
    }
}

/// Lets go of a batch that is to be computed anew. Refused while another process runs it.
async fn give_up(batches: &Batches, found: &Batch) -> Result<(), Failure> {
    let _lock = take(batches, &found.id).await?;
    if !found.status.is_terminal() {
        batches.store().release_batch(found.no, &[]).await?;
        batches.store().batch_cancel(found.no).await?;
    }
    Ok(batches.store().batch_free_key(found.no).await?)
}

/// Takes the batch's lock, which the orphan of a killed run may hold for a moment.
async fn take(batches: &Batches, id: &BatchId) -> Result<Option<BatchLock>, Failure> {
    let orphan = Orphan::new();
    loop {
        match batches.take(id) {
            Err(LockError::Held { pid: Some(pid), .. }) if orphan.may_hold(pid) => {
                orphan.wait().await;
            }
            taken => return Ok(taken?),
        }
    }
}

async fn take_up(batches: &Batches, batch: Batch, start: Start) -> Result<Claim, Failure> {
    let lock = take(batches, &batch.id).await?;
    if start == Start::AfterCrash {
        batches.store().release_batch(batch.no, &[]).await?;
    } else {
        batches.resume(&batch).await?;
    }
    // Read again: another process may have finished it while we waited, and failures of circumstance are queued again.
    let batch = Box::new(reload(batches, &batch.id).await?);
    if batch.status.is_terminal() {
        return Ok(Claim::Finished(batch));
    }
    Ok(Claim::Open {
        batch,
        resumed: true,
        lock,
    })
}

/// The batch as it is in the store now.
pub async fn reload(batches: &Batches, id: &BatchId) -> Result<Batch, Failure> {
    let found = batches.store().batch_get(id).await?;
    found.ok_or_else(|| {
        anyhow::anyhow!("{id} was deleted while it ran: run the same command again").into()
    })
}

/// An input that is refused as it stands is wrong usage.
fn refused(error: SubmitError, input: &Input) -> Failure {
    match error {
        SubmitError::Refused(refusal) => Failure::usage(format!("{}: {refusal}", input.name())),
        SubmitError::Read(error) => super::read_failure(error, input),
        other => Failure::Program(other.into()),
    }
}
