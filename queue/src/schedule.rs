//! Schedules and their runs, as stores and servers see them.
//!
//! Owns the types and their words. When a tick is due is decided elsewhere; here a tick is a UTC instant in microseconds.

use crate::batch::{BatchSpec, Counts, Priority};
use crate::ids::{BatchId, BatchNo, FileId, ModelSha, ScheduleId};
use crate::words::words;
use serde::{Deserialize, Serialize};

/// A schedule's number in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScheduleNo(pub i64);

/// A run's number in its store: a later run has a greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunNo(pub i64);

words! {
    /// What becomes of a tick while a run of the schedule is not at its end.
    Overlap {
        /// There is no run.
        Skip = "skip",
        /// The run begins when those before it have ended.
        Queue = "queue",
        /// The run begins beside them.
        Allow = "allow",
        /// They are cancelled, and the run begins.
        CancelRunning = "cancel-running",
    }
}

words! {
    /// What becomes of ticks at which no server was there.
    Missed {
        /// One run for all of them that lie in the window, however many.
        Once = "once",
        /// A run for each.
        All = "all",
        /// Nothing.
        None = "none",
    }
}

words! {
    /// Why there is a run.
    RunCause {
        /// Its tick came.
        Tick = "tick",
        /// Its tick was missed, and is made up for.
        CatchUp = "catch-up",
        /// Somebody wanted it.
        Manual = "manual",
    }
}

words! {
    /// What a run is up to.
    RunState {
        /// It waits for those before it. Left by: the leader, when they have ended.
        Waiting = "waiting",
        /// Its prompts are read. Left by: the leader that reads; a later leader reads again.
        Loading = "loading",
        /// Its batch is computed. Left by: the leader, when the batch has ended and the results are written.
        Running = "running",
        /// Its batch is complete; some jobs may have failed.
        Completed = "completed",
        /// There is no result; the reason says why.
        Failed = "failed",
        /// Somebody or a later run cancelled it.
        Cancelled = "cancelled",
        /// There was no run, since another one was under way.
        Skipped = "skipped",
        /// There was no run, since no server was there at this tick and maybe at some more.
        Missed = "missed",
    }
}

impl RunState {
    /// Whether nothing follows.
    pub fn is_terminal(self) -> bool {
        !matches!(
            self,
            RunState::Waiting | RunState::Loading | RunState::Running
        )
    }
}

/// Where the prompts of a schedule come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PromptSource {
    /// Files of the server, read at each tick: an absolute path, which may hold `*`, `?` and `[…]`.
    Files {
        /// The path.
        pattern: String,
    },
    /// What was sent when the schedule was made.
    Kept {
        /// The file's name for people.
        name: String,
        /// Its length.
        bytes: u64,
    },
    /// A file that was sent to the server for batches, read at each tick.
    Uploaded {
        /// The file.
        file: FileId,
        /// Its name for people.
        name: String,
    },
}

/// A model that was resolved when the schedule was made: a client's own file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnModel {
    /// As lines and options name it.
    pub requested: String,
    /// What it is.
    pub sha256: ModelSha,
}

/// All that is said about a schedule when it is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SchedulePlan {
    /// The cron expression.
    pub cron: String,
    /// The IANA name of the zone in which it is read.
    pub tz: String,
    /// What becomes of a tick while a run is under way.
    pub overlap: Overlap,
    /// What becomes of ticks that were missed.
    pub missed: Missed,
    /// How far back missed ticks are made up for by one run.
    pub missed_window_s: u64,
    /// The prompts.
    pub source: PromptSource,
    /// What batches are made with.
    pub spec: BatchSpec,
    /// Whose jobs go first.
    pub priority: Priority,
    /// The name of the only node that may run them.
    pub node: Option<String>,
    /// Models that the client resolved.
    pub models: Vec<OwnModel>,
    /// Where the server writes the results of each run: an absolute path with `{date}` and the like.
    pub output: Option<String>,
    /// A URL that is told when a run has ended.
    pub on_done: Option<String>,
    /// The name of a command of the server's that is run when a run has ended.
    pub command: Option<String>,
}

/// A schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// Its number in this store.
    pub no: ScheduleNo,
    /// Its name: no other has it.
    pub name: String,
    /// All that was said about it.
    pub plan: SchedulePlan,
    /// Its ticks pass by.
    pub paused: bool,
    /// The first tick that was not fired yet. `None`: there is none any more.
    pub next_tick_us: Option<i64>,
    /// By the store's clock.
    pub created_at_us: i64,
}

/// A run of a schedule, or why there is none for a tick.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleRun {
    /// Its number.
    pub no: RunNo,
    /// Whose it is.
    pub schedule: ScheduleNo,
    /// Its tick: no other run of the schedule has it. For a manual run the moment at which it was wanted.
    pub tick_us: i64,
    /// Why it is there.
    pub cause: RunCause,
    /// What it is up to.
    pub state: RunState,
    /// Why it is not as it should be.
    pub reason: Option<String>,
    /// Its batch. While it loads, nobody else sees that one.
    pub batch: Option<(BatchId, BatchNo)>,
    /// What became of the batch's jobs.
    pub counts: Option<Counts>,
    /// The file with its results.
    pub output: Option<String>,
    /// When it was made.
    pub made_at_us: i64,
    /// When it ended.
    pub ended_at_us: Option<i64>,
}

impl ScheduleRun {
    /// The number of its batch.
    pub fn batch_no(&self) -> Option<BatchNo> {
        self.batch.as_ref().map(|(_, no)| *no)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_in_sql_and_json() {
        for state in RunState::ALL {
            assert_eq!(RunState::from_word(state.as_str()), Some(*state));
            let json = serde_json::to_value(state).unwrap();
            assert_eq!(json, state.as_str());
        }
        assert_eq!(
            Overlap::from_word("cancel-running"),
            Some(Overlap::CancelRunning)
        );
        assert_eq!(Missed::from_word("never"), None);
    }
}
