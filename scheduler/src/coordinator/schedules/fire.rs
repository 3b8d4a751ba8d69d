//! Firing the ticks that have come.

use super::super::Shared;
use super::beginning::{Beginnings, new_batch};
use crate::schedule::{
    Begin, CronSchedule, DuePlan, Lateness, MAX_FIRED, MissedSpan, Zone, begin, due,
};
use rbee_queue::owner::BatchLock;
use rbee_queue::schedule::{Missed, Overlap, RunCause, RunState, Schedule, ScheduleRun};
use rbee_queue::store::{Fire, NewRun, NewRunState};
use rbee_queue::{BatchId, StoreError};
use std::collections::HashMap;
use std::time::Duration;

/// Runs of one schedule that may wait. Further ticks are skipped; those that make up for an outage one by one are fired when
/// some have begun.
const MAX_WAITING: usize = 100;
/// Nothing is due in sight.
const NOTHING_SOON: Duration = Duration::from_secs(3_600);

/// Fires what is due. Returns how long it is until the next tick.
pub(super) async fn fire_due(
    shared: &Shared,
    beginnings: &mut Beginnings,
) -> Result<Duration, StoreError> {
    let store = shared.batches.store();
    let found = store.schedule_due().await?;
    let open = match found.due.is_empty() {
        true => Vec::new(),
        false => store.run_open().await?,
    };
    let mut next_us = found.next_us;
    for schedule in &found.due {
        let mine = open.iter().filter(|run| run.schedule == schedule.no);
        let following = fire(shared, beginnings, schedule, mine.collect(), found.now_us).await?;
        next_us = match (next_us, following) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    Ok(next_us.map_or(NOTHING_SOON, |next| {
        Duration::from_micros(u64::try_from(next - found.now_us).unwrap_or(0))
    }))
}

/// Fires one schedule's ticks. Returns its next tick, if it is to be looked at then.
async fn fire(
    shared: &Shared,
    beginnings: &mut Beginnings,
    schedule: &Schedule,
    open: Vec<&ScheduleRun>,
    now_us: i64,
) -> Result<Option<i64>, StoreError> {
    let Some(next_us) = schedule.next_tick_us else {
        return Ok(None);
    };
    let cron = match read(schedule) {
        Ok(cron) => cron,
        Err(reason) => {
            tracing::warn!(schedule = %schedule.name, %reason, "a schedule cannot be read");
            return Ok(None);
        }
    };
    let waiting = open.iter().filter(|run| run.state == RunState::Waiting);
    let room = MAX_WAITING.saturating_sub(waiting.count());
    let plan = due(
        &cron,
        Lateness {
            next_us,
            now_us,
            missed: schedule.plan.missed,
            window_us: window_us(schedule),
            room: match schedule.plan.missed {
                Missed::All => MAX_FIRED.min(room),
                Missed::Once | Missed::None => MAX_FIRED,
            },
        },
    );
    if plan.fire.is_empty() && plan.missed.is_none() {
        return Ok(None);
    }
    let mut locks = HashMap::new();
    let before = Before {
        open: open.len(),
        room,
    };
    let runs = runs_of(shared, schedule, &plan, before, &mut locks);
    let fired = shared.batches.store().schedule_fire(Fire {
        schedule: schedule.no,
        moves: Some((next_us, plan.next_us)),
        runs,
    });
    for run in fired.await?.unwrap_or_default() {
        tracing::info!(schedule = %schedule.name, tick = %cron.zone().local(run.tick_us), state = %run.state, "a tick has come");
        let lock = (run.batch.as_ref()).and_then(|(id, _)| locks.remove(id).flatten());
        beginnings.begun(schedule.clone(), run, lock);
    }
    Ok(plan.next_us)
}

/// A stored schedule was read when it was made; another version of this program may see it differently.
fn read(schedule: &Schedule) -> Result<CronSchedule, String> {
    let zone = Zone::named(&schedule.plan.tz).map_err(|error| error.to_string())?;
    CronSchedule::read(&schedule.plan.cron, zone).map_err(|error| error.to_string())
}

fn window_us(schedule: &Schedule) -> i64 {
    i64::try_from(schedule.plan.missed_window_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX / 4)
}

/// What there is of a schedule's runs when some more are made.
struct Before {
    /// Runs that are not at their end.
    open: usize,
    /// Runs that may still wait.
    room: usize,
}

/// The runs that a plan makes; their batches' locks are put into `locks`.
fn runs_of(
    shared: &Shared,
    schedule: &Schedule,
    plan: &DuePlan,
    mut before: Before,
    locks: &mut HashMap<BatchId, Option<BatchLock>>,
) -> Vec<NewRun> {
    let mut runs: Vec<NewRun> = plan.missed.iter().map(missed).collect();
    let last = plan.fire.len().saturating_sub(1);
    for (at, due) in plan.fire.iter().enumerate() {
        let overlap = schedule.plan.overlap;
        let all = due.catches_up && schedule.plan.missed == Missed::All;
        let state = match begin(overlap, before.open, all) {
            _ if overlap == Overlap::CancelRunning && at < last => NewRunState::Skip {
                reason: "a later tick had come too".to_owned(),
            },
            Begin::Wait if before.room == 0 => NewRunState::Skip {
                reason: format!("{MAX_WAITING} runs waited already"),
            },
            Begin::Wait => NewRunState::Wait,
            Begin::Skip => NewRunState::Skip {
                reason: "the run before it was not at its end".to_owned(),
            },
            Begin::Now => match shared.batches.reserve() {
                Ok((id, lock)) => {
                    let batch = new_batch(schedule, due.tick_us, id.clone());
                    locks.insert(id, lock);
                    NewRunState::Load(Box::new(batch))
                }
                Err(error) => {
                    // It begins as soon as its lock file can be made.
                    tracing::warn!(%error, schedule = %schedule.name, "a run waits");
                    NewRunState::Wait
                }
            },
        };
        before.open += usize::from(!matches!(state, NewRunState::Skip { .. }));
        before.room -= usize::from(matches!(state, NewRunState::Wait) && before.room > 0);
        let cause = match due.catches_up {
            true => RunCause::CatchUp,
            false => RunCause::Tick,
        };
        runs.push(NewRun {
            tick_us: due.tick_us,
            cause,
            state,
        });
    }
    runs
}

/// What is noted about missed ticks, under the first of them.
fn missed(span: &MissedSpan) -> NewRun {
    let until = Zone::UTC.local(span.last_us);
    let reason = match (span.count, span.more) {
        (1, _) => "no server was there at this tick".to_owned(),
        (count, false) => format!("no server was there at {count} ticks from this one to {until}"),
        (count, true) => format!("no server was there at more than {count} ticks from this one on"),
    };
    NewRun {
        tick_us: span.first_us,
        cause: RunCause::Tick,
        state: NewRunState::Miss { reason },
    }
}
