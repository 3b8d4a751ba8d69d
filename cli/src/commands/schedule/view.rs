//! Schedules, runs and ticks in words and as JSON.

use rbee_queue::schedule::{PromptSource, RunCause, RunState};
use rbee_scheduler::http::types::{RunView, TickView};
use serde::Serialize;

use crate::byte_size;
use crate::failure::Failure;

/// One JSON object on one line.
pub fn line(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Program(error.into()))
}

/// `2026-03-29 03:00:00+02:00 (2026-03-29 01:00:00 UTC)`.
pub fn tick(tick: &TickView) -> String {
    format!("{} ({})", local(tick), utc(tick))
}

/// `2026-03-29 03:00:00+02:00`.
pub fn local(tick: &TickView) -> String {
    tick.local.replacen('T', " ", 1)
}

/// `2026-03-29 01:00:00 UTC`.
pub fn utc(tick: &TickView) -> String {
    tick.utc.replacen('T', " ", 1).replacen('Z', " UTC", 1)
}

/// What became of a run, shortly.
pub fn result(run: &RunView) -> String {
    let counts = run.request_counts;
    match (run.state, counts) {
        (RunState::Completed, Some(counts)) if counts.failed > 0 => {
            format!("completed, {} of {} failed", counts.failed, counts.total)
        }
        (RunState::Completed, Some(counts)) => format!("completed, {} jobs", counts.total),
        (state, _) => state.to_string(),
    }
}

/// Why a run is there.
pub fn cause(run: &RunView) -> &'static str {
    match run.cause {
        RunCause::Tick => "tick",
        RunCause::CatchUp => "catch-up",
        RunCause::Manual => "by hand",
    }
}

/// Where the prompts come from.
pub fn source(source: &PromptSource) -> String {
    match source {
        PromptSource::Files { pattern } => pattern.clone(),
        PromptSource::Kept { name, bytes } => {
            format!("{name} as it was ({})", byte_size::show(*bytes))
        }
        PromptSource::Uploaded { file, name } => format!("{name} of /v1/files ({file})"),
    }
}
