//! How fast each model was while it ran: measured, and kept while it idles.

use super::desk::ModelWork;
use super::host::Resident;
use rbee_queue::ModelSha;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Weight of the newest interval.
const NEWEST: f64 = 0.3;
/// Rates are measured over intervals of this length.
const INTERVAL: Duration = Duration::from_secs(1);

/// The speeds of one model.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rate {
    /// Jobs a second; 0 while unknown.
    pub jobs_per_s: f64,
    /// Generated tokens a second; 0 while unknown.
    pub tokens_per_s: f64,
    ended: u64,
}

/// The speeds of all models.
pub struct Rates {
    models: HashMap<ModelSha, Rate>,
    measured_at: Instant,
}

impl Rates {
    /// Nothing is known.
    pub fn new() -> Rates {
        Rates {
            models: HashMap::new(),
            measured_at: Instant::now(),
        }
    }

    /// Measures, if it is time. A model without jobs keeps its rate: it is a speed, not a load.
    pub fn measure<'a>(
        &mut self,
        work: &HashMap<ModelSha, ModelWork>,
        residents: impl Iterator<Item = &'a Resident>,
        now: Instant,
    ) {
        let elapsed = now.duration_since(self.measured_at);
        if elapsed < INTERVAL {
            return;
        }
        self.measured_at = now;
        for resident in residents {
            let Some(work) = work.get(&resident.model) else {
                continue;
            };
            let rate = self.models.entry(resident.model).or_default();
            let ended = work.ended - rate.ended;
            rate.ended = work.ended;
            if work.running + work.pending == 0 {
                continue;
            }
            let newest = ended as f64 / elapsed.as_secs_f64();
            rate.jobs_per_s = mean(rate.jobs_per_s, newest);
            let tokens_per_s = resident.stats().completion_tokens_per_s;
            if tokens_per_s > 0.0 {
                rate.tokens_per_s = mean(rate.tokens_per_s, tokens_per_s);
            }
        }
    }

    /// A model's speeds.
    pub fn of(&self, model: &ModelSha) -> Rate {
        self.models.get(model).copied().unwrap_or_default()
    }
}

fn mean(before: f64, newest: f64) -> f64 {
    if before == 0.0 {
        newest
    } else {
        before + (newest - before) * NEWEST
    }
}
