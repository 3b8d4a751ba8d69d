//! Telling of the ends of runs: a URL by a signed request, or a command that the server's settings name.
//!
//! As with batches, what is to be told and when next is in the store, and may be told twice under one `webhook-id`. A command
//! is run once more only where its leader died before the note.

use super::super::Shared;
use super::super::tell::{Next, next};
use super::super::trouble::Trouble;
use super::load::said;
use super::settings::ScheduleSettings;
use crate::http::types::{BatchView, RunView};
use crate::schedule::Zone;
use crate::webhook::{Message, NotHeard};
use rbee_queue::StoreError;
use rbee_queue::schedule::RunNo;
use rbee_queue::store::UntoldRun;
use serde_json::json;
use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;

/// How often the store is asked whose end is to be told.
const LOOK: Duration = Duration::from_secs(1);
/// Receivers that are told at once.
const AT_ONCE: usize = 16;
/// The longest that a command may take.
const COMMAND_PATIENCE: Duration = Duration::from_secs(3_600);
/// Bytes of a command's last words that are kept.
const LAST_WORDS: usize = 500;
/// Variables that a command gets from the server's own: none of them holds a secret.
const PASSED_ON: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// Tells until it is dropped. Returns only with an error that no patience changes.
pub(super) async fn tell_runs(shared: &Arc<Shared>, settings: &ScheduleSettings) -> StoreError {
    let mut trouble = Trouble::new("nobody can be told of the ends of runs");
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A command may take long, and others do not wait for it. All of them end with the lead.
    let mut telling = JoinSet::new();
    let mut busy: HashMap<RunNo, AbortHandle> = HashMap::new();
    loop {
        ticks.tick().await;
        while telling.try_join_next().is_some() {}
        busy.retain(|_, task| !task.is_finished());
        match shared.batches.store().run_untold(AT_ONCE * 2).await {
            Ok(untold) => {
                trouble.over();
                for one in untold {
                    if busy.len() < AT_ONCE && !busy.contains_key(&one.run.no) {
                        let (shared, settings) = (Arc::clone(shared), settings.clone());
                        let no = one.run.no;
                        let task = async move { tell(&shared, &settings, one).await };
                        busy.insert(no, telling.spawn(task));
                    }
                }
            }
            Err(error @ StoreError::NewerSchema { .. }) => return error,
            Err(error) => trouble.note(&error),
        }
    }
}

async fn tell(shared: &Shared, settings: &ScheduleSettings, untold: UntoldRun) {
    let store = shared.batches.store();
    let body = match body(shared, &untold).await {
        Ok(body) => body,
        // Asked again at the next look.
        Err(error) => return tracing::debug!(%error, "a run's batch cannot be read"),
    };
    let plan = &untold.schedule.plan;
    let (again, reason) = match (&plan.on_done, &plan.command) {
        (Some(url), _) => tell_url(shared, &untold, url, body).await,
        (None, Some(name)) => (None, run_command(settings, &untold, name, body).await),
        (None, None) => (None, None),
    };
    let reason = reason.map(|reason| said(&reason));
    if let Some(reason) = &reason {
        tracing::warn!(schedule = %untold.schedule.name, %reason, "the end of a run was told in vain");
    }
    if let Err(error) = store.run_told(untold.run.no, again, reason).await {
        tracing::debug!(%error, "the try was not noted: there is another one");
    }
}

/// The schedule, the run and its batch as JSON.
async fn body(shared: &Shared, untold: &UntoldRun) -> Result<Vec<u8>, StoreError> {
    let (schedule, run) = (&untold.schedule, &untold.run);
    let batch = match &run.batch {
        Some((id, _)) => shared.batches.store().batch_get(id).await?,
        None => None,
    };
    let zone = Zone::named(&schedule.plan.tz).unwrap_or(Zone::UTC);
    let body = json!({
        "object": "schedule.run.ended",
        "schedule": {"id": schedule.id, "name": schedule.name},
        "run": RunView::new(run, zone),
        "batch": batch.as_ref().map(BatchView::from),
    });
    Ok(body.to_string().into_bytes())
}

/// When the URL is told again, and what is said of it.
async fn tell_url(
    shared: &Shared,
    untold: &UntoldRun,
    url: &str,
    body: Vec<u8>,
) -> (Option<Duration>, Option<String>) {
    let id = format!("{}.{}", untold.schedule.id, untold.run.tick_us);
    let message = Message { id: &id, body };
    let told = match &shared.options.webhooks {
        Some(webhooks) => webhooks.send(url, message).await,
        None => Err(NotHeard::Broken("this server tells nobody".to_owned())),
    };
    match next(&told, untold.tries, shared.options.tell_again) {
        Next::Done => (None, None),
        Next::Again(wait, error) => {
            tracing::warn!(schedule = %untold.schedule.name, %error, wait_s = wait.as_secs(), "the receiver of a run's end did not hear and is told again");
            (Some(wait), None)
        }
        Next::GiveUp(error) => (None, Some(format!("the URL was not told: {error}"))),
    }
}

/// Runs the command of a name. `Some`: it did not end well.
async fn run_command(
    settings: &ScheduleSettings,
    untold: &UntoldRun,
    name: &str,
    body: Vec<u8>,
) -> Option<String> {
    let Some(program) = settings.commands.get(name) else {
        return Some(format!(
            "this server has no command {name}: --schedule-command names it"
        ));
    };
    let told = run_program(program, untold, body);
    match tokio::time::timeout(COMMAND_PATIENCE, told).await {
        Ok(Ok(())) => None,
        Ok(Err(reason)) => Some(format!("the command {name} {reason}")),
        Err(_) => Some(format!(
            "the command {name} took more than an hour and was ended"
        )),
    }
}

async fn run_program(program: &Path, untold: &UntoldRun, body: Vec<u8>) -> Result<(), String> {
    let run = RunView::new(&untold.run, Zone::UTC);
    let batch = run.batch.map(String::from).unwrap_or_default();
    let passed_on = PASSED_ON
        .iter()
        .filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let mut child = Command::new(program)
        .env_clear()
        .envs(passed_on)
        .env("RBEE_SCHEDULE", &untold.schedule.name)
        .env("RBEE_RUN_STATE", run.state.as_str())
        .env("RBEE_RUN_BATCH", batch)
        .env("RBEE_RUN_OUTPUT", run.output.unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let mut stdin = child.stdin.take().expect("it was asked to be a pipe");
    let mut stderr = child.stderr.take().expect("it was asked to be a pipe");
    let write = async move {
        // A command that does not read closes the pipe, and may.
        let _ = stdin.write_all(&body).await;
    };
    let read = async move {
        let (mut last, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
            last.extend_from_slice(&buffer[..count]);
            let over = last.len().saturating_sub(LAST_WORDS);
            last.drain(..over);
        }
        last
    };
    let ((), last, status) = tokio::join!(write, read, child.wait());
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!(
            "ended with {status}: {}",
            String::from_utf8_lossy(&last).trim()
        )),
        Err(error) => Err(format!("cannot be waited for: {error}")),
    }
}
