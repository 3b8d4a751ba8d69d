//! Schedules and their runs as clients see them.

use crate::schedule::Zone;
use rbee_queue::schedule::{
    Missed, Overlap, OwnModel, PromptSource, RunCause, RunNo, RunState, Schedule, ScheduleRun,
};
use rbee_queue::{BatchId, BatchSpec, FileId, Priority, ScheduleId, whole_number};
use serde::{Deserialize, Serialize};

use super::RequestCounts;

/// Where the prompts of a new schedule come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WantedSource {
    /// Files of the server, read at each tick.
    Files {
        /// An absolute path, which may hold `*`, `?` and `[…]`.
        pattern: String,
    },
    /// What follows in the part `input`, the same at each tick.
    Kept {
        /// The file's name for people.
        name: String,
    },
    /// A file that was sent to `/v1/files`, read at each tick.
    Uploaded {
        /// Its id.
        file: FileId,
    },
}

/// A schedule to be made: the first part of the form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewScheduleSpec {
    /// Its name: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The cron expression.
    pub cron: String,
    /// The IANA name of its zone; the server's `UTC` if none is given.
    #[serde(default)]
    pub tz: Option<String>,
    /// What becomes of a tick while a run is under way.
    #[serde(default)]
    pub overlap: Option<Overlap>,
    /// What becomes of missed ticks.
    #[serde(default)]
    pub missed: Option<Missed>,
    /// How far back missed ticks are made up for by one run.
    #[serde(default, deserialize_with = "whole_number::optional")]
    pub missed_window_s: Option<u64>,
    /// The prompts.
    pub source: WantedSource,
    /// What batches are made with.
    pub spec: BatchSpec,
    /// Whose jobs go first.
    #[serde(default)]
    pub priority: Priority,
    /// The name of the only node that may run them.
    #[serde(default)]
    pub node: Option<String>,
    /// Models that the client has resolved already: files of its own.
    #[serde(default)]
    pub models: Vec<OwnModel>,
    /// Where the server writes the results of each run.
    #[serde(default)]
    pub output: Option<String>,
    /// A URL that is told when a run has ended.
    #[serde(default)]
    pub on_done: Option<String>,
    /// The name of a command of the server's that is run when a run has ended.
    #[serde(default)]
    pub command: Option<String>,
}

/// A tick: an instant, and how it reads in the schedule's zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickView {
    /// Microseconds since 1970.
    pub tick_us: i64,
    /// `2026-03-29T01:00:00Z`.
    pub utc: String,
    /// `2026-03-29T03:00:00+02:00`.
    pub local: String,
}

impl TickView {
    /// An instant in a zone.
    pub fn new(tick_us: i64, zone: Zone) -> TickView {
        TickView {
            tick_us,
            utc: Zone::UTC.local(tick_us).replace("+00:00", "Z"),
            local: zone.local(tick_us),
        }
    }
}

/// A run of a schedule, or why there is none for a tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// Always `schedule.run`.
    pub object: String,
    /// Its number: runs before it are asked for by this.
    pub no: RunNo,
    /// Its tick.
    #[serde(flatten)]
    pub tick: TickView,
    /// Why it is there.
    pub cause: RunCause,
    /// What it is up to.
    pub state: RunState,
    /// Why it is not as it should be.
    pub reason: Option<String>,
    /// Its batch, where others see it.
    pub batch: Option<BatchId>,
    /// What became of the batch's jobs.
    pub request_counts: Option<RequestCounts>,
    /// The file with its results.
    pub output: Option<String>,
    /// When it was made, in microseconds since 1970.
    pub made_at_us: i64,
    /// When it ended.
    pub ended_at_us: Option<i64>,
}

impl RunView {
    /// A run of a schedule in a zone.
    pub fn new(run: &ScheduleRun, zone: Zone) -> RunView {
        let batch = run.batch.as_ref().map(|(id, _)| id.clone());
        RunView {
            object: "schedule.run".to_owned(),
            no: run.no,
            tick: TickView::new(run.tick_us, zone),
            cause: run.cause,
            state: run.state,
            reason: run.reason.clone(),
            batch: batch.filter(|_| run.counts.is_some() || run.state == RunState::Running),
            request_counts: run.counts.map(RequestCounts::from),
            output: run.output.clone(),
            made_at_us: run.made_at_us,
            ended_at_us: run.ended_at_us,
        }
    }
}

/// A schedule as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleView {
    /// Its id.
    pub id: ScheduleId,
    /// Always `schedule`.
    pub object: String,
    /// Its name.
    pub name: String,
    /// Its cron expression.
    pub cron: String,
    /// Its zone.
    pub tz: String,
    /// Its ticks pass by.
    pub paused: bool,
    /// What becomes of a tick while a run is under way.
    pub overlap: Overlap,
    /// What becomes of missed ticks.
    pub missed: Missed,
    /// How far back missed ticks are made up for by one run.
    pub missed_window_s: u64,
    /// Its prompts.
    pub source: PromptSource,
    /// The model of lines that name none.
    pub model: String,
    /// Where results are written.
    pub output: Option<String>,
    /// Who is told.
    pub on_done: Option<String>,
    /// What is run.
    pub command: Option<String>,
    /// Its next ticks; none while it is paused.
    pub next_runs: Vec<TickView>,
    /// Its newest run.
    pub last_run: Option<RunView>,
    /// Microseconds since 1970.
    pub created_at_us: i64,
}

impl ScheduleView {
    /// A schedule with its next ticks and its newest run.
    pub fn new(schedule: &Schedule, zone: Zone, next: &[i64], last: Option<&ScheduleRun>) -> Self {
        let plan = &schedule.plan;
        ScheduleView {
            id: schedule.id.clone(),
            object: "schedule".to_owned(),
            name: schedule.name.clone(),
            cron: plan.cron.clone(),
            tz: plan.tz.clone(),
            paused: schedule.paused,
            overlap: plan.overlap,
            missed: plan.missed,
            missed_window_s: plan.missed_window_s,
            source: plan.source.clone(),
            model: plan.spec.options.model.clone(),
            output: plan.output.clone(),
            on_done: plan.on_done.clone(),
            command: plan.command.clone(),
            next_runs: (next.iter())
                .map(|tick| TickView::new(*tick, zone))
                .collect(),
            last_run: last.map(|run| RunView::new(run, zone)),
            created_at_us: schedule.created_at_us,
        }
    }
}

/// A schedule that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleMade {
    /// The schedule.
    pub schedule: ScheduleView,
    /// What the user should look at.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Ticks of all schedules in the days that come, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calendar {
    /// Always `list`.
    pub object: String,
    /// The ticks.
    pub data: Vec<CalendarTick>,
    /// There are more ticks than are listed.
    pub has_more: bool,
}

/// Ticks of one schedule in the calendar: one, or many in a row of an hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalendarTick {
    /// The first of them.
    #[serde(flatten)]
    pub tick: TickView,
    /// How many of the schedule lie in this hour.
    pub ticks: u64,
    /// The schedule's id.
    pub schedule: ScheduleId,
    /// Its name.
    pub name: String,
}
