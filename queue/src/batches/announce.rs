//! Batches that are shown before their input is read.
//!
//! The input is loaded beside the announced batch, as any other, and what is whole takes its place: so that a load may be
//! cut off, or done twice, and changes nothing that anybody sees.

use super::{Batches, Input, Reserved, Submission, SubmitError, Submitted};
use crate::batch::{Batch, BatchModel};
use crate::ids::BatchId;
use crate::store::{NewBatch, StoreError};
use std::io::BufRead;

/// What an announced batch is filled from.
#[derive(Debug)]
pub struct AnnouncedInput<R> {
    /// The lines.
    pub input: R,
    /// All models that they ask for, resolved; numbered from 0.
    pub models: Vec<BatchModel>,
    /// The digest of the survey: an input that changed since is refused.
    pub digest: [u8; 32],
}

impl Batches {
    /// Shows a batch whose input will be read by whoever leads.
    pub async fn announce(&self, submission: Submission) -> Result<Batch, StoreError> {
        let new = submission.into_new(BatchId::generate());
        self.store.batch_announce(new).await
    }

    /// Reads the input of an announced batch. One that is not validating any more by then is `Existing`, as it is now.
    pub async fn submit_announced<R>(
        &self,
        announced: &Batch,
        input: AnnouncedInput<R>,
    ) -> Result<Submitted, SubmitError>
    where
        R: BufRead + Send + 'static,
    {
        let (id, lock) = self.reserve()?;
        let new = NewBatch {
            id,
            owner: announced.owner.clone(),
            name: announced.name.clone(),
            // What is announced holds none: each is a batch of its own.
            idempotency_key: None,
            priority: announced.priority,
            pinned_node: announced.pinned_node.clone(),
            on_done: announced.on_done.clone(),
            spec: announced.spec.clone(),
            models: input.models.clone(),
            asked: announced.asked.clone(),
        };
        let (_, no) = self.store.batch_create(new).await?;
        let reserved = Reserved { no, lock };
        let read = Input {
            input: input.input,
            options: announced.spec.options.clone(),
            digest: Some(input.digest),
            compute_each: announced.spec.compute_each,
        };
        self.load_and_show(reserved, Some(announced.no), read, &input.models)
            .await
    }
}
