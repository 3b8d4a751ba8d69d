//! What a store decides about jobs before it writes: pure, and the same for every database.
//!
//! Owns which of the asked placements, results and releases hold, given the rows that the
//! transaction has locked. State changes are `state`'s. Reading and writing the rows is the
//! implementations'.

use super::jobs::{Finish, FinishOutcome, Place, PlaceOutcome, Refusal, Release, ReleaseCause};
use crate::ids::{Attempt, BatchNo, JobRef};
use crate::record::{CIRCUMSTANCE_CODES, JobError, Outcome, RECORD_VERSION, ResultRecord};
use crate::state::{BatchEvent, BatchStatus, JobEvent, JobState, batch_after, job_after};
use crate::store::StoreError;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Solo crashes after which a job fails.
const MAX_SOLO_CRASHES: i64 = 3;

/// What the transaction knows of a job.
#[derive(Clone, Debug)]
pub struct JobNow {
    pub state: JobState,
    pub attempt: i64,
    pub crashes: i64,
    pub model: Option<i64>,
    /// The number of its last result; a retried job has one too.
    pub finish_no: Option<i64>,
    /// Queued jobs wait for its answer.
    pub leads: bool,
}

pub type JobsNow = HashMap<JobRef, JobNow>;

/// What the transaction knows of a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchNow {
    pub status: BatchStatus,
    pub paused: bool,
    pub any_numerics: bool,
}

impl BatchNow {
    fn runs(&self) -> bool {
        self.status == BatchStatus::InProgress && !self.paused
    }
}

pub type BatchesNow = HashMap<BatchNo, BatchNow>;

/// A model of a batch, or -1 for jobs that have none.
pub type Slot = (BatchNo, i64);

/// The placements that hold.
#[derive(Debug, Default)]
pub struct Placing<'a> {
    /// One for each that was asked.
    pub outcomes: Vec<PlaceOutcome>,
    /// To be written, with the new attempts.
    pub placed: Vec<(&'a Place, i64)>,
    /// Numerics to be pinned.
    pub pins: Vec<(Slot, &'a str)>,
}

/// Decides placements; `pins` are the numerics pinned so far.
pub fn place<'a>(
    places: &'a [Place],
    mut jobs: JobsNow,
    batches: &BatchesNow,
    mut pins: HashMap<Slot, String>,
) -> Placing<'a> {
    let mut placing = Placing::default();
    for place in places {
        let runs = batches.get(&place.job.batch).filter(|batch| batch.runs());
        let (Some(batch), Some(job)) = (runs, jobs.get_mut(&place.job)) else {
            placing.outcomes.push(PlaceOutcome::NotQueued);
            continue;
        };
        let Some(state) = job_after(job.state, JobEvent::Place) else {
            placing.outcomes.push(PlaceOutcome::NotQueued);
            continue;
        };
        let slot = (place.job.batch, job.model.unwrap_or(-1));
        let numerics = place.numerics.as_deref().filter(|_| !batch.any_numerics);
        if let Some(numerics) = numerics {
            match pins.get(&slot) {
                Some(pinned) if pinned != numerics => {
                    placing.outcomes.push(PlaceOutcome::OtherNumerics);
                    continue;
                }
                Some(_) => {}
                None => {
                    pins.insert(slot, numerics.to_owned());
                    placing.pins.push((slot, numerics));
                }
            }
        }
        job.state = state;
        job.attempt += 1;
        let attempt = Attempt(job.attempt as u64);
        placing.outcomes.push(PlaceOutcome::Placed(attempt));
        placing.placed.push((place, job.attempt));
    }
    placing
}

/// A job that gets its result in the running transaction, which has already checked that it may.
#[derive(Clone, Debug)]
pub struct Ended {
    pub job: JobRef,
    pub attempt: i64,
    pub state: JobState,
    /// The record as JSON.
    pub record: String,
    pub error_code: Option<String>,
    pub input_tokens: i64,
    pub output_tokens: i64,
    /// The statistics as JSON.
    pub stats: Option<String>,
    /// The number of the result that this one takes the place of.
    pub replaces: Option<i64>,
    /// Queued jobs wait for this answer.
    pub leads: bool,
}

impl Ended {
    pub fn new(job: JobRef, now: &JobNow, state: JobState, record: &ResultRecord) -> Ended {
        let (error_code, usage) = match &record.outcome {
            Outcome::Completed(completed) => (None, completed.usage),
            Outcome::Failed(error) => (Some(error.code.clone()), Default::default()),
        };
        Ended {
            job,
            attempt: now.attempt,
            state,
            record: record.to_json(),
            error_code,
            input_tokens: i64::from(usage.prompt_tokens),
            output_tokens: i64::from(usage.completion_tokens),
            stats: None,
            replaces: now.finish_no,
            leads: now.leads,
        }
    }

    /// Whether it says something about every equal job.
    pub fn is_verdict(&self) -> bool {
        let code = self.error_code.as_deref();
        code.is_none_or(|code| !CIRCUMSTANCE_CODES.contains(&code))
    }

    /// A job without a result, of a batch that is cancelled or whose time is up.
    pub fn unfinished(job: JobRef, now: &JobNow, status: BatchStatus) -> Ended {
        Ended::new(job, now, JobState::Cancelled, &unfinished(status))
    }
}

/// What jobs without a result get, where their batch is cancelled or its time is up.
fn unfinished(status: BatchStatus) -> ResultRecord {
    let error = match status {
        BatchStatus::Finalizing => JobError::expired(),
        _ => JobError::cancelled(),
    };
    ResultRecord {
        version: RECORD_VERSION,
        outcome: Outcome::Failed(error),
    }
}

/// Whether a batch gives no more work, and ends what has no result.
fn is_ending(status: BatchStatus) -> bool {
    matches!(status, BatchStatus::Cancelling | BatchStatus::Finalizing)
}

/// Whether a node stopped the job because it was told to: why, only the batch says.
pub fn is_stopped(finish: &Finish) -> bool {
    event_of(&finish.record) == JobEvent::Cancel
}

/// The results that hold.
#[derive(Debug, Default)]
pub struct Finishing {
    /// One for each that was given.
    accepted: Vec<bool>,
    /// To be written.
    pub ended: Vec<Ended>,
}

/// Decides results: an attempt that still holds is answered once. `batches` are those of jobs that
/// [`is_stopped`] is true for.
pub fn finish(finishes: &[Finish], mut jobs: JobsNow, batches: &BatchesNow) -> Finishing {
    let mut finishing = Finishing::default();
    for finish in finishes {
        let held = jobs
            .get_mut(&finish.job)
            .filter(|job| job.attempt as u64 == finish.attempt.0);
        let after =
            held.and_then(|job| Some((job_after(job.state, event_of(&finish.record))?, job)));
        finishing.accepted.push(after.is_some());
        if let Some((state, job)) = after {
            job.state = state;
            let stats = serde_json::to_string(&finish.stats).expect("statistics are plain numbers");
            let status = batches.get(&finish.job.batch).map(|batch| batch.status);
            let ended = match status.filter(|status| is_stopped(finish) && is_ending(*status)) {
                Some(status) => Ended::unfinished(finish.job, job, status),
                None => Ended::new(finish.job, job, state, &finish.record),
            };
            finishing.ended.push(Ended {
                stats: Some(stats),
                ..ended
            });
        }
    }
    finishing
}

impl Finishing {
    /// The answers, once the results have their numbers and it is known which batches are done.
    pub fn outcomes(&self, numbers: &[i64], done: &BTreeSet<BatchNo>) -> Vec<FinishOutcome> {
        let mut stored = self.ended.iter().zip(numbers);
        self.accepted
            .iter()
            .map(|accepted| match accepted.then(|| stored.next()).flatten() {
                Some((ended, number)) => FinishOutcome::Stored {
                    finish_no: *number as u64,
                    batch_done: done.contains(&ended.job.batch),
                },
                None => FinishOutcome::Fenced,
            })
            .collect()
    }
}

fn event_of(record: &ResultRecord) -> JobEvent {
    match &record.outcome {
        Outcome::Completed(_) => JobEvent::Succeed,
        Outcome::Failed(error) if error.code == "cancelled" => JobEvent::Cancel,
        Outcome::Failed(_) => JobEvent::Fail,
    }
}

/// A released job's row, before those that end get their results.
#[derive(Clone, Copy, Debug)]
pub struct Released {
    pub job: JobRef,
    pub state: JobState,
    /// 1: there is evidence against it.
    pub blamed: i64,
    /// Solo crashes to be added.
    pub crashes: i64,
    /// Losses to be added.
    pub losses: i64,
}

/// The releases that hold.
#[derive(Debug, Default)]
pub struct Releasing {
    /// One for each that was asked.
    pub held: Vec<bool>,
    /// To be written.
    pub released: Vec<Released>,
    /// Of those, the ones that do not run again.
    pub ended: Vec<Ended>,
}

/// Decides releases.
pub fn release(releases: &[Release], mut jobs: JobsNow, batches: &BatchesNow) -> Releasing {
    let mut releasing = Releasing::default();
    for release in releases {
        let after = jobs
            .get_mut(&release.job)
            .filter(|job| job.attempt as u64 == release.attempt.0)
            .and_then(|job| Some((job_after(job.state, JobEvent::Release)?, job)));
        releasing.held.push(after.is_some());
        let Some((state, job)) = after else {
            continue;
        };
        let (blamed, crashes, losses) = match release.cause {
            ReleaseCause::Returned => (0, 0, 0),
            ReleaseCause::Lost => (0, 0, 1),
            ReleaseCause::Blamed { alone } => (1, i64::from(alone), 0),
        };
        job.state = state;
        releasing.released.push(Released {
            job: release.job,
            state,
            blamed,
            crashes,
            losses,
        });
        let ending = (batches.get(&release.job.batch))
            .map(|batch| batch.status)
            .filter(|status| is_ending(*status));
        let ended = if crashes > 0 && job.crashes + crashes >= MAX_SOLO_CRASHES {
            let message = format!("the job brought its node down {MAX_SOLO_CRASHES} times, alone");
            let record = ResultRecord::failed("worker_crashed", message);
            Ended::new(release.job, job, JobState::Failed, &record)
        } else if let Some(status) = ending {
            Ended::unfinished(release.job, job, status)
        } else {
            continue;
        };
        job.state = ended.state;
        releasing.ended.push(ended);
    }
    releasing
}

/// What results add to their batch's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub succeeded: i64,
    pub failed: i64,
    pub input_tokens: i64,
    pub output_tokens: i64,
}

impl Tally {
    /// How many results there are.
    pub fn finished(&self) -> i64 {
        self.succeeded + self.failed
    }
}

/// What each batch's counters grow by.
pub fn tallies(ended: &[Ended]) -> BTreeMap<BatchNo, Tally> {
    let mut tallies: BTreeMap<BatchNo, Tally> = BTreeMap::new();
    for end in ended {
        let tally = tallies.entry(end.job.batch).or_default();
        match end.error_code {
            Some(_) => tally.failed += 1,
            None => tally.succeeded += 1,
        }
        tally.input_tokens += end.input_tokens;
        tally.output_tokens += end.output_tokens;
    }
    tallies
}

/// Numbers results in order; `first` is the first free number of each batch.
pub fn number(ended: &[Ended], mut first: BTreeMap<BatchNo, i64>) -> Vec<i64> {
    ended
        .iter()
        .map(|end| {
            let next = first
                .get_mut(&end.job.batch)
                .expect("every batch with a result has a tally");
            *next += 1;
            *next - 1
        })
        .collect()
}

/// The state of a batch whose last job has its result. Results are rendered at export, so there is
/// nothing to make before it is complete. `None`: it stays as it is.
pub fn close(status: BatchStatus, total: u64, finished: u64) -> Option<BatchStatus> {
    if finished < total {
        return None;
    }
    let after = batch_after(status, BatchEvent::LastJobFinished)?;
    Some(batch_after(after, BatchEvent::Finalized).unwrap_or(after))
}

/// The state of a batch whose failed jobs run again.
pub fn retry(status: BatchStatus) -> Result<BatchStatus, StoreError> {
    if status == BatchStatus::InProgress {
        return Ok(status);
    }
    batch_after(status, BatchEvent::Retry).ok_or_else(|| StoreError::WrongState {
        status: status.to_string(),
        what: "so its jobs cannot run again",
    })
}

/// The state of a batch that is cancelled; one whose cancel was cut off in the middle goes on.
pub fn cancel(status: BatchStatus) -> Result<BatchStatus, StoreError> {
    if status == BatchStatus::Cancelling {
        return Ok(status);
    }
    batch_after(status, BatchEvent::Cancel).ok_or_else(|| StoreError::WrongState {
        status: status.to_string(),
        what: "so there is nothing to cancel",
    })
}

/// The state of a batch that is refused as a whole.
pub fn refuse(status: BatchStatus) -> Result<BatchStatus, StoreError> {
    batch_after(status, BatchEvent::Refuse).ok_or_else(|| StoreError::WrongState {
        status: status.to_string(),
        what: "so it cannot be refused any more",
    })
}

/// The state of a batch whose completion window passed; one whose end was cut off in the middle goes on.
pub fn expire(status: BatchStatus) -> Result<BatchStatus, StoreError> {
    if status == BatchStatus::Finalizing {
        return Ok(status);
    }
    batch_after(status, BatchEvent::Expire).ok_or_else(|| StoreError::WrongState {
        status: status.to_string(),
        what: "so its time cannot be up",
    })
}

/// The columns with the times of a batch whose state changes to `$2` at `now`. A retry takes them back, and the completion
/// window with them.
pub fn times_sql(now: &str) -> String {
    format!(
        "cancelling_at_us = CASE $2 WHEN 'cancelling' THEN {now} WHEN 'in_progress' THEN NULL \
         ELSE cancelling_at_us END, \
         finalizing_at_us = CASE $2 WHEN 'finalizing' THEN {now} WHEN 'completed' THEN {now} \
         WHEN 'in_progress' THEN NULL ELSE finalizing_at_us END, \
         expires_at_us = CASE $2 WHEN 'in_progress' THEN NULL ELSE expires_at_us END"
    )
}

/// The stored record of a line that is no request.
pub fn bad_line(error: JobError) -> ResultRecord {
    ResultRecord {
        version: RECORD_VERSION,
        outcome: Outcome::Failed(error),
    }
}

/// Ids that more than one line shows, gathered from rows in order of id and index.
#[derive(Debug, Default)]
pub struct Duplicates {
    ids: Vec<(String, Vec<u64>)>,
    last: Option<String>,
    count: u64,
}

impl Duplicates {
    /// A line with a duplicate id.
    pub fn add(&mut self, shown: &str, line_number: u64) {
        let begins = self.last.as_deref() != Some(shown);
        if begins {
            self.count += 1;
            self.last = Some(shown.to_owned());
            if self.ids.len() < Refusal::MAX_LISTED {
                self.ids.push((shown.to_owned(), Vec::new()));
            }
        }
        if let Some((_, lines)) = self.ids.last_mut().filter(|(id, _)| id == shown) {
            lines.push(line_number);
        }
    }

    /// The refusal, if there was a duplicate.
    pub fn refusal(mut self) -> Option<Refusal> {
        self.ids.sort_by_key(|(_, lines)| lines.first().copied());
        (self.count > 0).then_some(Refusal::Duplicates {
            ids: self.ids,
            count: self.count,
        })
    }
}
