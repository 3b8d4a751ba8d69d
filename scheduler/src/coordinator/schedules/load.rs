//! Reading the prompts of a run and making its batch of them.

use super::super::Shared;
use super::beginning::new_batch;
use super::gather::{GatherError, gather};
use super::settings::ScheduleSettings;
use crate::resolve::resolve_all;
use rbee_queue::batches::{Input, Reserved, SubmitError, Submitted};
use rbee_queue::jsonl::{ReadError, Survey, survey};
use rbee_queue::schedule::{RunState, Schedule, ScheduleRun};
use rbee_queue::store::RunChange;
use rbee_queue::{Batch, BatchNo, StoreError};
use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::time::Duration;

/// Tries before a run fails by circumstances.
const MAX_TRIES: u32 = 6;
/// The wait before the second try; each is twice the one before.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Bytes read at once.
const READ_BYTES: usize = 1 << 18;

/// A run whose batch is there, hidden and empty.
pub(super) struct Loading {
    pub schedule: Schedule,
    pub run: ScheduleRun,
    pub reserved: Reserved,
}

/// Why a run has no batch.
enum LoadError {
    /// It will not have one.
    Final(String),
    /// It may have one later.
    Later(String),
}

impl From<GatherError> for LoadError {
    fn from(error: GatherError) -> LoadError {
        match error.is_temporary() {
            true => LoadError::Later(error.to_string()),
            false => LoadError::Final(error.to_string()),
        }
    }
}

impl From<ReadError> for LoadError {
    fn from(error: ReadError) -> LoadError {
        match error {
            ReadError::Io(_) => LoadError::Later(error.to_string()),
            error => LoadError::Final(error.to_string()),
        }
    }
}

impl From<SubmitError> for LoadError {
    fn from(error: SubmitError) -> LoadError {
        match error {
            SubmitError::Read(error) => error.into(),
            SubmitError::Refused(_) => LoadError::Final(error.to_string()),
            error => LoadError::Later(error.to_string()),
        }
    }
}

/// Loads a run, again where circumstances were against it, and notes how it ended.
pub(super) async fn load(shared: &Shared, settings: &ScheduleSettings, loading: Loading) {
    let Loading {
        schedule,
        run,
        reserved,
    } = loading;
    let mut batch = reserved.no;
    let mut next = Some(reserved);
    let mut wait = FIRST_WAIT;
    for tries in 1.. {
        let Some(reserved) = next.take() else { return };
        batch = reserved.no;
        let error = match load_once(shared, settings, &schedule, reserved).await {
            Ok(made) => return show(shared, &run, batch, &made).await,
            Err(error) => error,
        };
        let reason = match error {
            LoadError::Later(reason) if tries < MAX_TRIES => reason,
            LoadError::Later(reason) | LoadError::Final(reason) => {
                return fail(shared, &schedule, &run, batch, reason).await;
            }
        };
        tracing::warn!(schedule = %schedule.name, %reason, wait_s = wait.as_secs(), "a run cannot begin and is tried again");
        tokio::time::sleep(wait).await;
        wait *= 2;
        next = again(shared, &schedule, &run, batch).await;
    }
    tracing::debug!(run = run.no.0, batch = batch.0, "a load ended");
}

async fn load_once(
    shared: &Shared,
    settings: &ScheduleSettings,
    schedule: &Schedule,
    reserved: Reserved,
) -> Result<Batch, LoadError> {
    let plan = &schedule.plan;
    let file = gather(shared.batches.store(), settings, schedule).await?;
    let options = plan.spec.options.clone();
    let surveying = tokio::task::spawn_blocking(move || look(file, &options));
    let (file, found) = joined(surveying).await??;
    let usual = &plan.spec.options.model;
    let resolved = resolve_all(settings.models.as_ref(), &plan.models, usual, &found).await;
    let resolved = resolved.map_err(|error| match error.transient {
        true => LoadError::Later(error.message),
        false => LoadError::Final(error.message),
    })?;
    for warning in &resolved.warnings {
        tracing::warn!(schedule = %schedule.name, "{warning}");
    }
    let input = Input {
        input: BufReader::with_capacity(READ_BYTES, file),
        options: plan.spec.options.clone(),
        digest: Some(found.digest),
        compute_each: plan.spec.compute_each,
    };
    let submitted = shared.batches.submit_into(reserved, input, resolved.models);
    match submitted.await? {
        Submitted::New(batch, lock) => {
            // From here on the batch is the coordinator's.
            drop(lock);
            Ok(*batch)
        }
        Submitted::Existing(batch) => Ok(*batch),
    }
}

/// Looks at the whole input, and goes back to its beginning.
fn look(
    mut file: File,
    options: &rbee_queue::jsonl::LineOptions,
) -> Result<(File, Survey), LoadError> {
    let found = survey(BufReader::with_capacity(READ_BYTES, &file), options)?;
    file.seek(SeekFrom::Start(0))
        .map_err(|error| LoadError::Later(format!("the prompts cannot be read again: {error}")))?;
    Ok((file, found))
}

async fn joined<T>(task: tokio::task::JoinHandle<T>) -> Result<T, LoadError> {
    task.await
        .map_err(|error| LoadError::Later(format!("reading ended by an error: {error}")))
}

/// Another hidden batch for the next try. `None`: the run is somebody else's now, or gone.
async fn again(
    shared: &Shared,
    schedule: &Schedule,
    run: &ScheduleRun,
    was: BatchNo,
) -> Option<Reserved> {
    let store = shared.batches.store();
    let begun = async {
        store.batch_delete(was).await?;
        let Ok((id, lock)) = shared.batches.reserve() else {
            return Ok(None);
        };
        let batch = new_batch(schedule, run.tick_us, id);
        let no = store.run_begin(run.no, Some(was), batch).await?;
        Ok::<_, StoreError>(no.map(|no| Reserved { no, lock }))
    };
    match begun.await {
        Ok(reserved) => reserved,
        Err(error) => {
            // The next look finds the run without a load, and takes it up.
            tracing::debug!(%error, "a run is not tried again here");
            None
        }
    }
}

/// Its batch is there for everybody.
async fn show(shared: &Shared, run: &ScheduleRun, was: BatchNo, made: &Batch) {
    let change = RunChange {
        state: Some(RunState::Running),
        batch: Some((made.id.clone(), made.no)),
        ..RunChange::default()
    };
    let store = shared.batches.store();
    match store.run_note(run.no, Some(was), change).await {
        Ok(true) => {}
        Ok(false) => {
            tracing::info!(batch = %made.id, "a run was cancelled or removed while it was read");
            if let Err(error) = store.batch_cancel(made.no).await {
                tracing::warn!(%error, batch = %made.id, "its batch was not cancelled");
            }
        }
        // The next look finds the batch.
        Err(error) => tracing::debug!(%error, "the begin of a run was not noted"),
    }
    shared.woken.notify_one();
    shared.runs_changed.notify_one();
}

/// There will be no batch.
async fn fail(
    shared: &Shared,
    schedule: &Schedule,
    run: &ScheduleRun,
    batch: BatchNo,
    reason: String,
) {
    tracing::warn!(schedule = %schedule.name, %reason, "a run failed");
    let store = shared.batches.store();
    let noted = async {
        store.batch_delete(batch).await?;
        let change = RunChange {
            state: Some(RunState::Failed),
            reason: Some(said(&reason)),
            tell: tells(schedule),
            ..RunChange::default()
        };
        store.run_note(run.no, Some(batch), change).await
    };
    if let Err(error) = noted.await {
        tracing::debug!(%error, "the end of a run was not noted: it is read again");
    }
}

/// Whether somebody is told of the ends of a schedule's runs.
pub(super) fn tells(schedule: &Schedule) -> bool {
    schedule.plan.on_done.is_some() || schedule.plan.command.is_some()
}

/// A reason as it is stored: bounded, and without signs that no terminal should see.
pub(super) fn said(reason: &str) -> String {
    const MAX_REASON: usize = 1_000;
    reason
        .chars()
        .map(|sign| if sign.is_control() { ' ' } else { sign })
        .take(MAX_REASON)
        .collect()
}
