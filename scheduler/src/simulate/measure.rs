//! What is reported of a play.

use super::bound::alone_s;
use super::node::Job;
use super::policy::Policy;
use super::scenario::Scenario;
use super::{LOOK_S, MOST_TIMES_BOUND};
use crate::placement::{BATCH_PATIENCE, TENURE_SWITCHES};
use rbee_queue::Priority;
use serde::Serialize;

/// A person who asks waits at most so long for a slot, in seconds, where the model is in memory.
const INTERACTIVE_P95_S: f64 = 1.0;

/// How a play ended.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The scenario.
    pub scenario: &'static str,
    /// Its seed.
    pub seed: u64,
    /// Who decided.
    pub policy: &'static str,
    /// Seconds until the last job ended; none: it was given up.
    pub makespan_s: Option<f64>,
    /// Seconds that no schedule beats.
    pub bound_s: f64,
    /// Loads.
    pub loads: u64,
    /// 95 of 100 jobs of batches began so many seconds after they were submitted, or earlier.
    pub p95_wait_s: f64,
    /// The same of interactive jobs.
    pub interactive_p95_wait_s: Option<f64>,
    /// Jain's index of how fast batches were, each beside itself alone: 1 is the same for all.
    pub fairness: f64,
    /// The longest that jobs waited without one of their model and batch getting a place.
    pub longest_drought_s: f64,
    /// The longest that the shipped policy promises.
    pub promised_drought_s: f64,
}

/// Whether an outcome is good enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Good,
    /// It is not: why.
    Bad(String),
}

impl Outcome {
    /// The makespan as a multiple of the bound.
    pub fn times_bound(&self) -> Option<f64> {
        Some(self.makespan_s? / self.bound_s)
    }

    /// Whether it is what the shipped policy has to reach.
    pub fn verdict(&self) -> Verdict {
        let Some(times) = self.times_bound() else {
            return Verdict::Bad("it did not end".into());
        };
        if times > MOST_TIMES_BOUND {
            return Verdict::Bad(format!(
                "it took {times:.3} times the lower bound, more than {MOST_TIMES_BOUND}"
            ));
        }
        if self.longest_drought_s > self.promised_drought_s {
            return Verdict::Bad(format!(
                "jobs waited {:.0} s without a place, longer than {:.0} s",
                self.longest_drought_s, self.promised_drought_s
            ));
        }
        match self.interactive_p95_wait_s {
            Some(wait_s) if wait_s > INTERACTIVE_P95_S => {
                Verdict::Bad(format!("people waited {wait_s:.1} s"))
            }
            _ => Verdict::Good,
        }
    }
}

/// What is counted while a scenario is played.
pub(super) struct Measures<'a> {
    scenario: &'a Scenario,
    left: Vec<u64>,
    ended_s: Vec<f64>,
    unfinished: u64,
    waits: Vec<f32>,
    urgent_waits: Vec<f32>,
    drought_s: f64,
}

impl<'a> Measures<'a> {
    pub fn new(scenario: &'a Scenario) -> Measures<'a> {
        let left: Vec<u64> = scenario.requests.iter().map(|of| of.jobs).collect();
        Measures {
            unfinished: left.iter().sum(),
            ended_s: vec![0.0; left.len()],
            left,
            scenario,
            waits: Vec::new(),
            urgent_waits: Vec::new(),
            drought_s: 0.0,
        }
    }

    pub fn unfinished(&self) -> u64 {
        self.unfinished
    }

    pub fn placed(&mut self, request: usize, waited_s: f64) {
        if self.scenario.requests[request].priority == Priority::Batch {
            self.drought_s = self.drought_s.max(waited_s);
        }
    }

    pub fn begun(&mut self, job: &Job, now_s: f64) {
        let waits = match job.urgent {
            true => &mut self.urgent_waits,
            false => &mut self.waits,
        };
        waits.push((now_s - job.submitted_s) as f32);
    }

    pub fn ended(&mut self, request: usize, now_s: f64) {
        self.unfinished -= 1;
        self.left[request] -= 1;
        self.ended_s[request] = now_s;
    }

    pub fn outcome(
        mut self,
        policy: Policy,
        bound_s: f64,
        loads: u64,
        makespan_s: Option<f64>,
    ) -> Outcome {
        Outcome {
            scenario: self.scenario.name,
            seed: self.scenario.seed,
            policy: policy.name(),
            makespan_s,
            bound_s,
            loads,
            p95_wait_s: p95(&mut self.waits).unwrap_or(0.0),
            interactive_p95_wait_s: p95(&mut self.urgent_waits),
            fairness: self.fairness(),
            longest_drought_s: self.drought_s,
            promised_drought_s: promised_drought_s(self.scenario),
        }
    }

    fn fairness(&self) -> f64 {
        let requests = self.scenario.requests.iter().enumerate();
        let ended =
            requests.filter(|(at, of)| of.priority == Priority::Batch && self.left[*at] == 0);
        let mut batches: Vec<(usize, f64, f64)> = Vec::new();
        for (at, request) in ended {
            let known = batches
                .iter_mut()
                .find(|(batch, ..)| *batch == request.batch);
            match known {
                Some((_, from_s, to_s)) => {
                    *from_s = from_s.min(request.at_s);
                    *to_s = to_s.max(self.ended_s[at]);
                }
                None => batches.push((request.batch, request.at_s, self.ended_s[at])),
            }
        }
        let speeds: Vec<f64> = (batches.iter())
            .map(|(batch, from_s, to_s)| alone_s(self.scenario, *batch) / (to_s - from_s))
            .collect();
        let sum: f64 = speeds.iter().sum();
        let squares: f64 = speeds.iter().map(|one| one * one).sum();
        sum * sum / (speeds.len() as f64 * squares)
    }
}

fn p95(waits: &mut [f32]) -> Option<f64> {
    waits.sort_unstable_by(f32::total_cmp);
    let last = waits.len().checked_sub(1)?;
    Some(f64::from(waits[last * 95 / 100]))
}

/// Each model waits its patience; then those before it take their turns on the places that there
/// are, each for its tenure, with the change before it.
fn promised_drought_s(scenario: &Scenario) -> f64 {
    let largest = scenario.models.iter().map(|model| model.bytes()).max();
    let places = scenario
        .machines
        .iter()
        .filter(|machine| machine.lost_at_s.is_none());
    let places: u64 = places
        .map(|machine| machine.memory / largest.unwrap_or(1))
        .sum();
    let ahead = (scenario.models.len() as u64).div_ceil(places.max(1));
    let switches = scenario.machines.iter().flat_map(|machine| {
        let load_s = |file: u64| file as f64 / machine.load_bytes_per_s;
        let loads = scenario.models.iter().map(move |model| load_s(model.file));
        let slowest = scenario.requests.iter().map(|of| of.cost_s / machine.speed);
        let job_s = slowest.fold(0.0, f64::max);
        loads.map(move |load_s| load_s + job_s)
    });
    let switch_s = switches.fold(0.0, f64::max);
    // The jobs that run when a place changes hands may be long ones, and an inbox lies before them.
    let turn_s = (TENURE_SWITCHES + 1.0) * switch_s + 12.0 * switch_s;
    BATCH_PATIENCE.as_secs_f64() + ahead as f64 * turn_s + LOOK_S
}
