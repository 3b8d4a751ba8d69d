//! Rows to schedules and runs, for every kind of database.

use super::StoreError;
use super::rows::{Fields, batch_id};
use super::schedules::{NewRun, NewRunState};
use crate::batch::Counts;
use crate::ids::BatchNo;
use crate::schedule::{RunCause, RunNo, RunState, Schedule, ScheduleNo, SchedulePlan, ScheduleRun};

pub fn schedule(row: &impl Fields) -> Result<Schedule, StoreError> {
    let id = row.text("id")?;
    let damaged = |what: &dyn std::fmt::Display| StoreError::damaged(format!("{id}: {what}"));
    Ok(Schedule {
        id: id.parse().map_err(|error| damaged(&error))?,
        no: ScheduleNo(row.int("schedule_no")?),
        name: row.text("name")?.to_owned(),
        plan: serde_json::from_str(row.text("plan")?).map_err(|error| damaged(&error))?,
        paused: row.int("paused")? != 0,
        next_tick_us: row.int_or_null("next_tick_us")?,
        created_at_us: row.int("created_at_us")?,
    })
}

pub fn run(row: &impl Fields) -> Result<ScheduleRun, StoreError> {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let state = row.text("state")?;
    let cause = row.text("cause")?;
    let batch = match (row.text_or_null("batch_id")?, row.int_or_null("batch_no")?) {
        (Some(id), Some(no)) => Some((batch_id(id)?, BatchNo(no))),
        _ => None,
    };
    let counts = match row.int_or_null("total")? {
        None => None,
        Some(_) => Some(Counts {
            total: row.count("total")?,
            succeeded: row.count("succeeded")?,
            failed: row.count("failed")?,
        }),
    };
    Ok(ScheduleRun {
        no: RunNo(row.int("run_no")?),
        schedule: ScheduleNo(row.int("schedule_no")?),
        tick_us: row.int("tick_us")?,
        cause: RunCause::from_word(cause)
            .ok_or_else(|| StoreError::damaged(format!("a run has the unknown cause {cause:?}")))?,
        state: RunState::from_word(state).ok_or_else(|| {
            StoreError::damaged(format!("a run is in the unknown state {state:?}"))
        })?,
        reason: owned(row.text_or_null("reason")?),
        batch,
        counts,
        output: owned(row.text_or_null("output")?),
        made_at_us: row.int("made_at_us")?,
        ended_at_us: row.int_or_null("ended_at_us")?,
    })
}

pub fn plan_json(plan: &SchedulePlan) -> String {
    serde_json::to_string(plan).expect("a plan has string keys only, so it is always JSON")
}

/// The state in which a new run is written, and why.
pub fn first_state(new: &NewRun) -> (RunState, Option<&str>) {
    match &new.state {
        NewRunState::Load(_) => (RunState::Loading, None),
        NewRunState::Wait => (RunState::Waiting, None),
        NewRunState::Skip { reason } => (RunState::Skipped, Some(reason)),
        NewRunState::Miss { reason } => (RunState::Missed, Some(reason)),
    }
}
