//! Schedules: listed, shown, paused, resumed, run now, removed, their runs and the days that come.

mod add;
mod body;
mod calendar;
mod find;

pub use add::add;
pub use calendar::calendar;

use super::Server;
use super::auth::{Admin, SeesAll};
use super::error::{ApiError, within};
use super::types::{Listing, RunView, ScheduleView};
use crate::coordinator::ScheduleSettings;
use crate::schedule::{CronSchedule, Zone};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use rbee_queue::schedule::{Overlap, RunCause, RunNo, Schedule, ScheduleRun};
use rbee_queue::store::{Fire, NewRun, NewRunState};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Next ticks that a schedule is shown with.
const NEXT_SHOWN: usize = 5;
/// Next ticks of each schedule in a listing.
const NEXT_LISTED: usize = 1;
/// Runs that a history without a limit has.
const USUAL_RUNS: usize = 20;
/// Runs that one history has at most.
const MAX_RUNS: usize = 1_000;

/// A schedule's expression and zone, as this program reads them.
fn cron_of(schedule: &Schedule) -> Result<CronSchedule, ApiError> {
    let bad = |error: String| {
        let message = format!("the schedule {} cannot be read: {error}", schedule.name);
        ApiError::conflict("unreadable_schedule", message)
    };
    let zone = Zone::named(&schedule.plan.tz).map_err(|error| bad(error.to_string()))?;
    CronSchedule::read(&schedule.plan.cron, zone).map_err(|error| bad(error.to_string()))
}

/// A schedule with its next ticks. One that this program cannot read has none.
fn view(schedule: &Schedule, next: usize, last: Option<&ScheduleRun>) -> ScheduleView {
    let cron = cron_of(schedule).ok();
    let zone = cron.as_ref().map_or(Zone::UTC, CronSchedule::zone);
    let first = schedule.next_tick_us.filter(|_| !schedule.paused);
    let ticks: Vec<i64> = match (cron, first) {
        (Some(cron), Some(first)) => cron.after(first - 1).take(next).collect(),
        _ => Vec::new(),
    };
    ScheduleView::new(schedule, zone, &ticks, last)
}

impl Server {
    /// What schedules may use here.
    fn schedule_settings(&self) -> Result<&ScheduleSettings, ApiError> {
        self.coordinator.schedules().ok_or_else(|| {
            ApiError::conflict("no_schedules", "this server runs no schedules".to_owned())
        })
    }

    async fn shown(&self, schedule: &Schedule) -> Result<ScheduleView, ApiError> {
        let store = self.batches.store();
        let last = store.run_list(schedule.no, None, 1).await?;
        Ok(view(schedule, NEXT_SHOWN, last.first()))
    }

    async fn shown_again(&self, schedule: &Schedule) -> Result<Json<ScheduleView>, ApiError> {
        let schedule = self.schedule(schedule.id.as_str()).await?;
        Ok(Json(self.shown(&schedule).await?))
    }
}

/// `GET /v1/schedules`: all of them by name, each with its next tick and its newest run.
pub async fn list(
    State(server): State<Server>,
    _: SeesAll,
) -> Result<Json<Listing<ScheduleView>>, ApiError> {
    let store = server.batches.store();
    let schedules = store.schedule_list().await?;
    let latest = store.run_latest().await?;
    let latest: HashMap<_, _> = latest.iter().map(|run| (run.schedule, run)).collect();
    let data: Vec<ScheduleView> = schedules
        .iter()
        .map(|schedule| view(schedule, NEXT_LISTED, latest.get(&schedule.no).copied()))
        .collect();
    let id = |view: Option<&ScheduleView>| view.map(|view| view.id.to_string());
    Ok(Json(Listing {
        object: "list".to_owned(),
        first_id: id(data.first()),
        last_id: id(data.last()),
        has_more: false,
        data,
    }))
}

/// `GET /v1/schedules/{id}`.
pub async fn show(
    State(server): State<Server>,
    _: SeesAll,
    Path(id): Path<String>,
) -> Result<Json<ScheduleView>, ApiError> {
    let schedule = server.schedule(&id).await?;
    Ok(Json(server.shown(&schedule).await?))
}

/// `POST /v1/schedules/{id}/pause`: its ticks pass by; what runs goes on.
pub async fn pause(
    State(server): State<Server>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Json<ScheduleView>, ApiError> {
    let schedule = server.schedule(&id).await?;
    let store = server.batches.store();
    store.schedule_pause(schedule.no, true, None).await?;
    server.shown_again(&schedule).await
}

/// `POST /v1/schedules/{id}/resume`: from its next tick after now on.
pub async fn resume(
    State(server): State<Server>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Json<ScheduleView>, ApiError> {
    let schedule = server.schedule(&id).await?;
    if schedule.paused {
        let store = server.batches.store();
        let next = cron_of(&schedule)?.next_after(store.clock_us().await?);
        store.schedule_pause(schedule.no, false, next).await?;
        server.coordinator.wake_schedules();
    }
    server.shown_again(&schedule).await
}

/// `POST /v1/schedules/{id}/run`: a run now, beside its ticks.
pub async fn run(
    State(server): State<Server>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<RunView>), ApiError> {
    server.schedule_settings()?;
    let schedule = server.schedule(&id).await?;
    let store = server.batches.store();
    let open = store.run_open().await?;
    let open = open.iter().filter(|run| run.schedule == schedule.no);
    if schedule.plan.overlap == Overlap::Skip && open.count() > 0 {
        let message = format!(
            "a run of {} is under way: wait for it, or cancel its batch",
            schedule.name
        );
        return Err(ApiError::conflict("run_under_way", message));
    }
    // Ticks lie on whole seconds, and this one on none.
    let now = store.clock_us().await? | 1;
    let fire = Fire {
        schedule: schedule.no,
        moves: None,
        runs: vec![NewRun {
            tick_us: now,
            cause: RunCause::Manual,
            state: NewRunState::Wait,
        }],
    };
    let made = store.schedule_fire(fire).await?.unwrap_or_default();
    let Some(run) = made.first() else {
        return Err(ApiError::conflict(
            "run_under_way",
            "the schedule was removed or run in this moment: look again",
        ));
    };
    server.coordinator.wake_schedules();
    let zone = Zone::named(&schedule.plan.tz).unwrap_or(Zone::UTC);
    Ok((StatusCode::CREATED, Json(RunView::new(run, zone))))
}

/// `DELETE /v1/schedules/{id}`: the schedule and its history; its batches stay.
pub async fn remove(
    State(server): State<Server>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let schedule = server.schedule(&id).await?;
    server.batches.store().schedule_remove(schedule.no).await?;
    server.coordinator.wake_schedules();
    Ok(Json(
        json!({"id": schedule.id, "name": schedule.name, "object": "schedule", "deleted": true}),
    ))
}

/// Which runs are listed.
#[derive(Debug, Deserialize)]
pub struct RunsQuery {
    limit: Option<usize>,
    before: Option<i64>,
}

/// `GET /v1/schedules/{id}/runs`: newest first, those before the run of a number.
pub async fn runs(
    State(server): State<Server>,
    _: SeesAll,
    Path(id): Path<String>,
    Query(query): Query<RunsQuery>,
) -> Result<Json<Listing<RunView>>, ApiError> {
    let schedule = server.schedule(&id).await?;
    let limit = within("limit", query.limit, USUAL_RUNS, 1..=MAX_RUNS)?;
    let store = server.batches.store();
    let mut runs = store
        .run_list(schedule.no, query.before.map(RunNo), limit + 1)
        .await?;
    let has_more = runs.len() > limit;
    runs.truncate(limit);
    let zone = Zone::named(&schedule.plan.tz).unwrap_or(Zone::UTC);
    let id = |run: Option<&ScheduleRun>| run.map(|run| run.no.0.to_string());
    Ok(Json(Listing {
        object: "list".to_owned(),
        first_id: id(runs.first()),
        last_id: id(runs.last()),
        has_more,
        data: runs.iter().map(|run| RunView::new(run, zone)).collect(),
    }))
}
