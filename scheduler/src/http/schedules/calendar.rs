//! `GET /v1/schedules/calendar`: what is due in the days that come.

use super::super::Server;
use super::super::auth::SeesAll;
use super::super::error::{ApiError, within};
use super::super::types::{Calendar, CalendarTick, TickView};
use super::cron_of;
use axum::Json;
use axum::extract::{Query, State};
use rbee_queue::schedule::Schedule;
use serde::Deserialize;

/// Days that are shown if nothing else is said.
const USUAL_DAYS: i64 = 7;
/// Days that are shown at most.
const MAX_DAYS: i64 = 31;
/// Entries of one calendar.
const MAX_ENTRIES: usize = 5_000;
/// Ticks of one hour that are counted; one more says that there are more.
const MAX_COUNTED: u64 = 60;
const HOUR_US: i64 = 3_600 * 1_000_000;

/// How far ahead.
#[derive(Debug, Deserialize)]
pub struct CalendarQuery {
    days: Option<i64>,
}

/// All ticks of schedules that are not paused, those of one hour together.
pub async fn calendar(
    State(server): State<Server>,
    _: SeesAll,
    Query(query): Query<CalendarQuery>,
) -> Result<Json<Calendar>, ApiError> {
    let days = within("days", query.days, USUAL_DAYS, 1..=MAX_DAYS)?;
    let store = server.batches.store();
    let now = store.clock_us().await?;
    let schedules = store.schedule_list().await?;
    let counting = tokio::task::spawn_blocking(move || {
        let mut data = Vec::new();
        let mut has_more = false;
        for schedule in schedules.iter().filter(|schedule| !schedule.paused) {
            let entries = ticks(schedule, now, now + days * 24 * HOUR_US);
            data.extend(entries.take(MAX_ENTRIES + 1));
            data.sort_by_key(|entry: &CalendarTick| entry.tick.tick_us);
            has_more |= data.len() > MAX_ENTRIES;
            data.truncate(MAX_ENTRIES);
        }
        (data, has_more)
    });
    let (data, has_more) = counting
        .await
        .map_err(|error| ApiError::internal(format!("a calendar was not made: {error}")))?;
    Ok(Json(Calendar {
        object: "list".to_owned(),
        data,
        has_more,
    }))
}

/// A schedule's ticks between two instants, hour by hour.
fn ticks(schedule: &Schedule, from: i64, until: i64) -> impl Iterator<Item = CalendarTick> + '_ {
    let cron = cron_of(schedule).ok();
    let mut at = from;
    std::iter::from_fn(move || {
        let cron = cron.as_ref()?;
        let first = cron.next_after(at).filter(|tick| *tick < until)?;
        let hour_end = first - first.rem_euclid(HOUR_US) + HOUR_US;
        let in_hour = cron.after(first).take_while(|tick| *tick < hour_end);
        let ticks = 1 + in_hour.take(MAX_COUNTED as usize).count() as u64;
        at = hour_end - 1;
        Some(CalendarTick {
            tick: TickView::new(first, cron.zone()),
            ticks,
            schedule: schedule.id.clone(),
            name: schedule.name.clone(),
        })
    })
}
