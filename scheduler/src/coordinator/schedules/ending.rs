//! Runs that end: their batch is terminal, their results are written, somebody is told.

use super::super::Shared;
use super::super::trouble::Trouble;
use super::load::{said, tells};
use super::output::{OutputError, RunPlace, expand, write};
use super::settings::ScheduleSettings;
use crate::schedule::Zone;
use futures_util::{FutureExt, StreamExt, stream};
use rbee_queue::schedule::{PromptSource, RunNo, RunState, Schedule, ScheduleRun};
use rbee_queue::store::RunChange;
use rbee_queue::{Batch, BatchStatus, StoreError};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often the batches of runs are looked at when there are new ones; each time more seldom while nothing changes.
const LOOK_AT_NEW: Duration = Duration::from_millis(250);
/// How often they are looked at while nothing changes for long.
const LOOK_AT_OLD: Duration = Duration::from_secs(1);
/// How often runs are looked for while there are none.
const LOOK_FOR_RUNS: Duration = Duration::from_secs(2);
/// Runs that are ended at once.
const AT_ONCE: usize = 4;
/// Tries to write a run's results.
const MAX_TRIES: u32 = 8;
/// The wait before the second try; each is twice the one before.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// Tries to write results that failed so far.
type Tries = HashMap<RunNo, (u32, Instant)>;

/// Ends runs until it is dropped. Returns only with an error that no patience changes.
pub(super) async fn end_runs(shared: &Arc<Shared>, settings: &ScheduleSettings) -> StoreError {
    let mut trouble = Trouble::new("runs of schedules cannot be ended");
    let mut tries = Tries::new();
    let mut seen = Vec::new();
    let mut wait = LOOK_AT_NEW;
    loop {
        match look(shared, settings, &mut tries).await {
            Ok(open) => {
                trouble.over();
                wait = match open.is_empty() {
                    true => LOOK_FOR_RUNS,
                    false if open == seen => (wait * 2).min(LOOK_AT_OLD),
                    false => LOOK_AT_NEW,
                };
                seen = open;
            }
            Err(error @ StoreError::NewerSchema { .. }) => return error,
            Err(error) => {
                trouble.note(&error);
                wait = LOOK_AT_OLD;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.runs_changed.notified() => {}
        }
    }
}

/// Ends what has come to its end. Returns the runs that there were.
async fn look(
    shared: &Shared,
    settings: &ScheduleSettings,
    tries: &mut Tries,
) -> Result<Vec<RunNo>, StoreError> {
    let store = shared.batches.store();
    let open = store.run_open().await?;
    let running = open.iter().filter(|run| run.state == RunState::Running);
    let now = Instant::now();
    tries.retain(|no, _| open.iter().any(|run| run.no == *no));
    let mut over = Vec::new();
    for run in running {
        let waits = tries.get(&run.no).is_some_and(|(_, at)| *at > now);
        let Some((id, _)) = run.batch.as_ref().filter(|_| !waits) else {
            continue;
        };
        let batch = store.batch_get(id).await?;
        if batch
            .as_ref()
            .is_none_or(|batch| batch.status.is_terminal())
        {
            over.push((run, batch));
        }
    }
    let numbers = open.iter().map(|run| run.no).collect();
    if over.is_empty() {
        return Ok(numbers);
    }
    let schedules = store.schedule_list().await?;
    let mut ending = Vec::new();
    for (run, batch) in over {
        if let Some(schedule) = schedules.iter().find(|one| one.no == run.schedule) {
            let tried = tries.get(&run.no).map_or(0, |(tries, _)| *tries);
            let ended = end(shared, settings, schedule, run, batch, tried);
            ending.push(async { (run.no, ended.await) }.boxed());
        }
    }
    let ended: Vec<_> = stream::iter(ending)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    for (no, result) in ended {
        if !result? {
            let (tried, at) = tries.entry(no).or_insert((0, now));
            *at = Instant::now() + FIRST_WAIT * 2u32.pow(*tried);
            *tried += 1;
        }
    }
    shared.schedules_woken.notify_one();
    Ok(numbers)
}

/// Ends a run. False: its results could not be written, and it is tried again.
async fn end(
    shared: &Shared,
    settings: &ScheduleSettings,
    schedule: &Schedule,
    run: &ScheduleRun,
    batch: Option<Batch>,
    tried: u32,
) -> Result<bool, StoreError> {
    let mut change = RunChange {
        tell: tells(schedule),
        ..RunChange::default()
    };
    match batch {
        None => {
            change.state = Some(RunState::Failed);
            change.reason = Some("its batch was deleted".to_owned());
        }
        Some(batch) => {
            change.counts = Some(batch.counts);
            change.state = Some(state_of(batch.status));
            if batch.status == BatchStatus::Completed {
                match results(shared, settings, schedule, run, &batch).await {
                    Ok(output) => change.output = output,
                    Err(error) if error.is_temporary() && tried + 1 < MAX_TRIES => {
                        tracing::warn!(schedule = %schedule.name, %error, "results are written again later");
                        return Ok(false);
                    }
                    Err(error) => {
                        change.state = Some(RunState::Failed);
                        let id = &batch.id;
                        let reason = format!("{error}; `rbee export {id}` has the results");
                        change.reason = Some(said(&reason));
                    }
                }
            }
        }
    }
    let state = change.state;
    if (shared.batches.store())
        .run_note(run.no, run.batch_no(), change)
        .await?
    {
        tracing::info!(schedule = %schedule.name, state = ?state, "a run has ended");
    }
    Ok(true)
}

fn state_of(status: BatchStatus) -> RunState {
    match status {
        BatchStatus::Completed => RunState::Completed,
        BatchStatus::Cancelled => RunState::Cancelled,
        _ => RunState::Failed,
    }
}

/// Writes the results where the schedule wants them.
async fn results(
    shared: &Shared,
    settings: &ScheduleSettings,
    schedule: &Schedule,
    run: &ScheduleRun,
    batch: &Batch,
) -> Result<Option<String>, OutputError> {
    let Some(template) = &schedule.plan.output else {
        return Ok(None);
    };
    let place = RunPlace {
        tick_us: run.tick_us,
        zone: Zone::named(&schedule.plan.tz).unwrap_or(Zone::UTC),
        name: &schedule.name,
        id: schedule.id.as_str(),
    };
    let path = PathBuf::from(expand(template, place).map_err(OutputError::Template)?);
    let prompts = match &schedule.plan.source {
        // What is gone in the meantime cannot be destroyed.
        PromptSource::Files { pattern } => settings.roots.matches(pattern).unwrap_or_default(),
        PromptSource::Kept { .. } | PromptSource::Uploaded { .. } => Vec::new(),
    };
    let written = write(&shared.batches, &batch.id, &path, &settings.roots, &prompts).await?;
    Ok(Some(written.display().to_string()))
}
