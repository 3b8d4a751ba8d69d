//! The states of batches and jobs, and the only two functions that change them.
//!
//! Owns which event moves which state where. Pure: stores read the state, ask here, and write the
//! answer in the same transaction. `running` is no state of the store: it lives in the queue.

use serde::{Deserialize, Serialize};

/// The state of a job in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for a place. Entered when the batch is made, and when an attempt ends without a
    /// result; left by the dispatcher. A crash leaves it as it is.
    Queued,
    /// Belongs to a node under an attempt. Entered by the dispatcher; left by the node's result,
    /// or back to `Queued` when the node drains or is lost (a crash leaves that to the rescuer).
    Placed,
    /// Has its answer. Final.
    Succeeded,
    /// Has its error. Left only by a retry.
    Failed,
    /// Was cancelled or expired before it had a result. Final, counted as failed.
    Cancelled,
}

impl JobState {
    /// All states; a state's place is its number in SQL.
    pub const ALL: [JobState; 5] = [
        JobState::Queued,
        JobState::Placed,
        JobState::Succeeded,
        JobState::Failed,
        JobState::Cancelled,
    ];

    /// True if the job has its one result.
    pub fn is_terminal(self) -> bool {
        !matches!(self, JobState::Queued | JobState::Placed)
    }

    /// The state's number in SQL.
    pub fn number(self) -> i64 {
        match self {
            JobState::Queued => 0,
            JobState::Placed => 1,
            JobState::Succeeded => 2,
            JobState::Failed => 3,
            JobState::Cancelled => 4,
        }
    }

    /// The state of a number in SQL.
    pub fn from_number(number: i64) -> Option<JobState> {
        JobState::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// What can happen to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// The dispatcher gives it to a node under a new attempt.
    Place,
    /// An equal job of another batch has its answer.
    Adopt,
    /// The node that holds it answered.
    Succeed,
    /// The node that holds it found an error.
    Fail,
    /// Its attempt ends without a result: the node drained, was lost, or its process died.
    Release,
    /// The batch was cancelled or expired.
    Cancel,
    /// A failed job runs again.
    Retry,
}

/// The state after an event, or `None` if the event does not apply and nothing may change.
pub fn job_after(state: JobState, event: JobEvent) -> Option<JobState> {
    match (state, event) {
        (JobState::Queued, JobEvent::Place) => Some(JobState::Placed),
        (JobState::Queued, JobEvent::Adopt) => Some(JobState::Succeeded),
        (JobState::Placed, JobEvent::Succeed) => Some(JobState::Succeeded),
        (JobState::Placed, JobEvent::Fail) => Some(JobState::Failed),
        (JobState::Placed, JobEvent::Release) => Some(JobState::Queued),
        (JobState::Queued | JobState::Placed, JobEvent::Cancel) => Some(JobState::Cancelled),
        (JobState::Failed | JobState::Cancelled, JobEvent::Retry) => Some(JobState::Queued),
        _ => None,
    }
}

/// The state of a batch, in the words of OpenAI's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchStatus {
    /// Its lines are being loaded. Nobody sees it, and a crash leaves it to the sweeper; but for one that was announced, which
    /// has no job yet, and whose file whoever leads reads.
    Validating,
    /// Its jobs run.
    InProgress,
    /// Its completion window passed and some jobs are still with nodes. Left when the last one has ended. A batch that
    /// completes passes it within one transaction: results are rendered when they are asked for.
    Finalizing,
    /// Done. Left only by a retry.
    Completed,
    /// Refused as a whole (duplicate ids, no line). Final.
    Failed,
    /// Its completion window passed. Final.
    Expired,
    /// A cancel was asked for and some jobs are still with nodes.
    Cancelling,
    /// Cancelled. Final.
    Cancelled,
}

impl BatchStatus {
    /// All states.
    pub const ALL: [BatchStatus; 8] = [
        BatchStatus::Validating,
        BatchStatus::InProgress,
        BatchStatus::Finalizing,
        BatchStatus::Completed,
        BatchStatus::Failed,
        BatchStatus::Expired,
        BatchStatus::Cancelling,
        BatchStatus::Cancelled,
    ];

    /// The word of OpenAI's API, which is the one in SQL too.
    pub fn as_str(self) -> &'static str {
        match self {
            BatchStatus::Validating => "validating",
            BatchStatus::InProgress => "in_progress",
            BatchStatus::Finalizing => "finalizing",
            BatchStatus::Completed => "completed",
            BatchStatus::Failed => "failed",
            BatchStatus::Expired => "expired",
            BatchStatus::Cancelling => "cancelling",
            BatchStatus::Cancelled => "cancelled",
        }
    }

    /// The state of a word.
    pub fn from_word(word: &str) -> Option<BatchStatus> {
        BatchStatus::ALL
            .into_iter()
            .find(|status| status.as_str() == word)
    }

    /// True if no job of the batch will run any more, but for a retry.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            BatchStatus::Completed
                | BatchStatus::Failed
                | BatchStatus::Expired
                | BatchStatus::Cancelled
        )
    }

    /// True if the batch's idempotency key is free for another one.
    pub fn frees_key(self) -> bool {
        matches!(self, BatchStatus::Failed | BatchStatus::Cancelled)
    }
}

impl std::fmt::Display for BatchStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What can happen to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchEvent {
    /// All its lines are stored.
    Show,
    /// It is refused as a whole.
    Refuse,
    /// Its last job got a result.
    LastJobFinished,
    /// What was to be made of its results is made.
    Finalized,
    /// Somebody wants it to stop.
    Cancel,
    /// Its completion window passed.
    Expire,
    /// Some of its failed jobs run again.
    Retry,
}

/// The state after an event, or `None` if the event does not apply and nothing may change.
pub fn batch_after(status: BatchStatus, event: BatchEvent) -> Option<BatchStatus> {
    use BatchStatus as S;
    match (status, event) {
        (S::Validating, BatchEvent::Show) => Some(S::InProgress),
        (S::Validating, BatchEvent::Refuse) => Some(S::Failed),
        (S::InProgress, BatchEvent::LastJobFinished) => Some(S::Finalizing),
        (S::Finalizing, BatchEvent::Finalized) => Some(S::Completed),
        (S::Cancelling, BatchEvent::LastJobFinished) => Some(S::Cancelled),
        (S::Validating | S::InProgress, BatchEvent::Cancel) => Some(S::Cancelling),
        (S::Validating | S::InProgress, BatchEvent::Expire) => Some(S::Finalizing),
        (S::Finalizing, BatchEvent::LastJobFinished) => Some(S::Expired),
        (S::Completed | S::Expired | S::Cancelled, BatchEvent::Retry) => Some(S::InProgress),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB_EVENTS: [JobEvent; 7] = [
        JobEvent::Place,
        JobEvent::Adopt,
        JobEvent::Succeed,
        JobEvent::Fail,
        JobEvent::Release,
        JobEvent::Cancel,
        JobEvent::Retry,
    ];

    #[test]
    fn only_a_retry_leaves_a_terminal_state() {
        for state in JobState::ALL.into_iter().filter(|s| s.is_terminal()) {
            for event in JOB_EVENTS {
                let after = job_after(state, event);
                assert!(
                    after.is_none() || event == JobEvent::Retry,
                    "{state:?} {event:?}"
                );
            }
        }
        assert_eq!(job_after(JobState::Succeeded, JobEvent::Retry), None);
    }

    #[test]
    fn a_result_is_taken_from_a_placed_job_only() {
        for state in JobState::ALL {
            for event in [JobEvent::Succeed, JobEvent::Fail] {
                assert_eq!(job_after(state, event).is_some(), state == JobState::Placed);
            }
        }
    }

    #[test]
    fn states_read_back_from_sql() {
        for state in JobState::ALL {
            assert_eq!(JobState::from_number(state.number()), Some(state));
        }
        assert_eq!(JobState::from_number(9), None);
        for status in BatchStatus::ALL {
            assert_eq!(BatchStatus::from_word(status.as_str()), Some(status));
        }
    }
}
