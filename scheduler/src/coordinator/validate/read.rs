//! Reading the file of one announced batch.

use super::ValidationSettings;
use super::reasons::{reason, reasons, unreadable, unresolved};
use crate::coordinator::told_of_end;
use crate::http::spool::{Spool, Watched, again};
use crate::resolve::resolve_all;
use rbee_queue::batches::{AnnouncedInput, SubmitError, Submitted};
use rbee_queue::file::{Asked, RefusedLine};
use rbee_queue::jsonl::{ReadError, Survey};
use rbee_queue::trace::{self, Span};
use rbee_queue::{Batch, Batches, StoreError};
use std::fs::File;

/// What it takes to read one file.
pub(super) struct Reading {
    pub batches: Batches,
    pub settings: ValidationSettings,
    pub batch: Batch,
    /// Somebody wants the batch still.
    pub wanted: Watched,
}

/// What became of an announced batch.
pub(super) enum Outcome {
    /// It has its jobs.
    Shown,
    /// It is refused, or was ended by somebody else.
    Ended,
    /// It is validating still, for now without success.
    Later(String),
}

/// Why a batch has no jobs.
enum Trouble {
    /// It will not have any.
    Refused(Vec<RefusedLine>),
    /// It may have some later.
    Later(String),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Trouble {
        Trouble::Later(error.to_string())
    }
}

/// Reads a batch's file, and gives the batch its jobs or refuses it.
pub(super) async fn read(reading: Reading) -> Outcome {
    let reasons = match reading.make().await {
        Ok(outcome) => return outcome,
        Err(_) if reading.wanted.is_over() => return Outcome::Ended,
        Err(Trouble::Later(reason)) => return Outcome::Later(reason),
        Err(Trouble::Refused(reasons)) => reasons,
    };
    let (id, no) = (&reading.batch.id, reading.batch.no);
    let code = reasons.first().map(|reason| reason.code.clone());
    match reading.batches.store().batch_refuse(no, reasons).await {
        Ok(()) => {
            tracing::info!(batch = %id, ?code, "the batch is refused as a whole");
            told_of_end(&reading.batches, id).await;
            Outcome::Ended
        }
        // It was cancelled, or purged, or it expired in this moment.
        Err(StoreError::WrongState { .. } | StoreError::NoSuchBatch) => Outcome::Ended,
        Err(error) => Outcome::Later(error.to_string()),
    }
}

impl Reading {
    async fn make(&self) -> Result<Outcome, Trouble> {
        let began_us = trace::now_us();
        let Some(asked) = &self.batch.asked else {
            let message = "the batch was announced without a file".to_owned();
            return Err(Trouble::Refused(vec![reason("invalid_input", message)]));
        };
        let (file, survey) = self.spool(asked).await?;
        self.check_room(asked, survey.jobs).await?;
        let usual = &self.batch.spec.options.model;
        let resolved = resolve_all(self.settings.models.as_ref(), &[], usual, &survey).await;
        let resolved = resolved.map_err(|error| match error.transient {
            true => Trouble::Later(error.message),
            false => Trouble::Refused(unresolved(error)),
        })?;
        for warning in &resolved.warnings {
            tracing::warn!(batch = %self.batch.id, "{warning}");
        }
        let input = AnnouncedInput {
            input: again(file, &self.wanted).map_err(|error| {
                Trouble::Later(format!("its file cannot be read again: {error}"))
            })?,
            models: resolved.models,
            digest: survey.digest,
        };
        match self.batches.submit_announced(&self.batch, input).await {
            // From here on it is placed; its lock, which only a load needs, is dropped.
            Ok(Submitted::New(batch, _)) => {
                trace::tell(|| Span::of_load(&batch, began_us));
                Ok(Outcome::Shown)
            }
            Ok(Submitted::Existing(_)) => Ok(Outcome::Ended),
            Err(SubmitError::Refused(refusal)) => Err(Trouble::Refused(reasons(refusal))),
            Err(SubmitError::Read(error)) => Err(of_read(&error)),
            // Another leader was quicker, or somebody purged it.
            Err(SubmitError::Store(StoreError::NoSuchBatch)) => Ok(Outcome::Ended),
            Err(error) => Err(Trouble::Later(error.to_string())),
        }
    }

    /// Copies the file out of the store, and looks at it meanwhile.
    async fn spool(&self, asked: &Asked) -> Result<(File, Survey), Trouble> {
        let store = self.batches.store();
        let id = &asked.input_file_id;
        let gone = || {
            let message = format!("the file {id} is not there any more");
            Trouble::Refused(vec![RefusedLine {
                param: Some("input_file_id".to_owned()),
                ..reason("file_not_found", message)
            }])
        };
        let bytes = store.file_get(id).await?.ok_or_else(gone)?.bytes;
        let spool = Spool::begin(&self.settings.spool, self.batch.spec.options.clone())
            .map_err(|error| Trouble::Later(format!("its file cannot be read: {error}")))?;
        let mut copied = 0;
        let mut enough = false;
        for piece in 0.. {
            if self.wanted.is_over() {
                return Err(Trouble::Later("nobody wants it any more".to_owned()));
            }
            let Some(piece) = store.file_kept(id, piece).await? else {
                break;
            };
            copied += piece.len() as u64;
            if !spool.push(piece.into()).await {
                // The reader has seen enough.
                enough = true;
                break;
            }
        }
        if !enough && bytes.is_some_and(|bytes| bytes != copied) {
            return Err(gone());
        }
        let (file, survey) =
            (spool.finish().await).map_err(|error| Trouble::Later(error.into_message()))?;
        match survey {
            Ok(survey) => Ok((file, survey)),
            Err(error) => Err(of_read(&error)),
        }
    }

    /// Whether so many jobs more may be queued. Two files at once may both find room: the bound is of a kind, not of a coin.
    async fn check_room(&self, asked: &Asked, jobs: u64) -> Result<(), Trouble> {
        let store = self.batches.store();
        let most = self.settings.max_jobs;
        if jobs > most {
            let message =
                format!("{jobs} jobs are more than the {most} that this server keeps: split them");
            return Err(Trouble::Refused(vec![reason("too_many_jobs", message)]));
        }
        if store.jobs_open().await?.saturating_add(jobs) > most {
            let message = format!("there is no room for {jobs} jobs more");
            return Err(Trouble::Later(message));
        }
        let Some(quota) = asked.max_queued else {
            return Ok(());
        };
        if jobs > quota {
            let message = format!(
                "these are {jobs} jobs, and the token may have {quota} unfinished ones at once: split them"
            );
            return Err(Trouble::Refused(vec![reason("quota_exceeded", message)]));
        }
        let unfinished = store.jobs_unfinished(&self.batch.owner).await?;
        match unfinished.saturating_add(jobs) > quota {
            true => Err(Trouble::Later(format!(
                "{unfinished} jobs of its owner are unfinished, and the token may have {quota} at once"
            ))),
            false => Ok(()),
        }
    }
}

fn of_read(error: &ReadError) -> Trouble {
    match error {
        ReadError::Io(_) => Trouble::Later(error.to_string()),
        error => Trouble::Refused(unreadable(error)),
    }
}
