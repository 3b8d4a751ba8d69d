//! Answers that more jobs get than the one that was computed: pure decisions, the same for every database.
//!
//! Owns which equal jobs of a batch get the answer of the one that they wait for, and what a batch takes over from
//! another one.

use super::decide::{BatchNow, BatchesNow, Ended, JobNow, JobsNow, Slot};
use super::jobs::Adoption;
use crate::ids::JobRef;
use crate::state::{BatchStatus, JobEvent, job_after};
use std::collections::HashMap;

/// A queued job that waits for another one's answer.
#[derive(Debug)]
pub struct Follower {
    pub leader: JobRef,
    pub job: JobRef,
    pub now: JobNow,
}

/// Ended jobs that others wait for.
#[derive(Debug, Default)]
pub struct Leaders {
    /// Their answers are the others' too.
    pub answered: Vec<JobRef>,
    /// They failed by circumstance: the others are computed themselves.
    pub lost: Vec<JobRef>,
}

/// Which ended jobs others wait for.
pub fn leaders(ended: &[Ended]) -> Leaders {
    let mut leaders = Leaders::default();
    for end in ended.iter().filter(|end| end.leads) {
        match end.is_verdict() {
            true => leaders.answered.push(end.job),
            false => leaders.lost.push(end.job),
        }
    }
    leaders
}

/// The ended jobs, and behind them those that get their answers.
pub fn follow(ended: &[Ended], followers: Vec<Follower>) -> Vec<Ended> {
    let answers: HashMap<JobRef, &Ended> = ended.iter().map(|end| (end.job, end)).collect();
    let mut all = ended.to_vec();
    for follower in followers {
        let waits = job_after(follower.now.state, JobEvent::Place).is_some();
        let answer = answers.get(&follower.leader);
        if let (true, false, Some(answer)) = (waits, answers.contains_key(&follower.job), answer) {
            all.push(Ended {
                job: follower.job,
                attempt: follower.now.attempt,
                replaces: follower.now.finish_no,
                leads: false,
                ..(*answer).clone()
            });
        }
    }
    all
}

/// The answers that are taken over.
#[derive(Debug, Default)]
pub struct Adopting {
    /// Numerics to be pinned.
    pub pin: Option<(Slot, String)>,
    /// To be written.
    pub ended: Vec<Ended>,
}

/// Decides what a batch takes over; `pins` are the numerics pinned so far.
pub fn adopt(
    adoption: &Adoption,
    mut jobs: JobsNow,
    batches: &BatchesNow,
    pins: &HashMap<Slot, String>,
) -> Adopting {
    let mut adopting = Adopting::default();
    let open = |batch: &&BatchNow| batch.status == BatchStatus::InProgress;
    let Some(batch) = batches.get(&adoption.batch).filter(open) else {
        return adopting;
    };
    let slot = (adoption.batch, i64::from(adoption.model.0));
    let pin = match (pins.get(&slot), &adoption.numerics) {
        _ if batch.any_numerics => None,
        (None, Some(numerics)) => Some((slot, numerics.clone())),
        (Some(pinned), Some(numerics)) if pinned == numerics => None,
        _ => return adopting,
    };
    for adopt in &adoption.jobs {
        let job = JobRef {
            batch: adoption.batch,
            index: adopt.index,
        };
        let waits = jobs.get_mut(&job).filter(|now| now.model == Some(slot.1));
        let after = waits.and_then(|now| Some((job_after(now.state, JobEvent::Adopt)?, now)));
        if let Some((state, now)) = after {
            now.state = state;
            let stats = adopt.stats.as_ref();
            let stats = stats
                .map(|stats| serde_json::to_string(stats).expect("statistics are plain numbers"));
            adopting.ended.push(Ended {
                stats,
                ..Ended::new(job, now, state, &adopt.record)
            });
        }
    }
    adopting.pin = pin.filter(|_| !adopting.ended.is_empty());
    adopting
}
