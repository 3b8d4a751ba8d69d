//! `GET /v1/activity`: the last hour, as this server saw it.
//!
//! Owns the looks: a few figures every five seconds, in a bounded ring in memory.

use super::Server;
use super::auth::SeesAll;
use axum::Json;
use axum::extract::State;
use rbee_queue::{NodeState, Store, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;

/// How often a look is taken.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How far back looks are kept.
const KEPT: Duration = Duration::from_secs(3_600);
/// The same in looks.
const MAX_SAMPLES: usize = (KEPT.as_secs() / LOOK_EVERY.as_secs()) as usize;

/// What a server does at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Unix seconds.
    pub at: f64,
    /// Batches that are not at their end.
    pub batches: usize,
    /// Their jobs without a result.
    pub unfinished: u64,
    /// Jobs that nodes have taken.
    pub running: usize,
    /// Nodes that take work.
    pub nodes: usize,
    /// Generated tokens a second of all models that run, as nodes measured them last.
    pub tokens_per_s: f64,
}

impl Sample {
    /// Looks now.
    pub async fn take(store: &dyn Store) -> Result<Sample, StoreError> {
        let open = store.batch_open().await?;
        let nodes = store.node_list().await?;
        let live: Vec<_> = nodes
            .iter()
            .filter(|node| !matches!(node.state(), NodeState::Lost))
            .map(|node| &node.report)
            .collect();
        let busy = live.iter().flat_map(|report| &report.resident);
        let busy = busy.filter(|model| model.running > 0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Sample {
            at: now.unwrap_or_default().as_secs_f64(),
            batches: open.len(),
            unfinished: open.iter().map(|batch| batch.counts.unfinished()).sum(),
            running: live.iter().map(|report| report.running).sum(),
            nodes: live.iter().filter(|report| !report.draining).count(),
            tokens_per_s: busy.fold(0.0, |sum, model| sum + model.tokens_per_s),
        })
    }
}

/// The looks of the last hour.
#[derive(Debug, Default)]
pub struct Activity(Mutex<VecDeque<Sample>>);

impl Activity {
    fn note(&self, sample: Sample) {
        let mut samples = self.0.lock().expect("nothing panics while it holds this");
        if samples.len() >= MAX_SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    fn samples(&self) -> Vec<Sample> {
        let samples = self.0.lock().expect("nothing panics while it holds this");
        samples.iter().copied().collect()
    }
}

/// Takes looks until the server stops.
pub async fn look_on(server: Server, stop: CancellationToken) {
    let mut clock = tokio::time::interval(LOOK_EVERY);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = clock.tick() => {}
        }
        match Sample::take(server.batches.store().as_ref()).await {
            Ok(sample) => server.activity.note(sample),
            Err(error) => tracing::debug!(%error, "a look at the activity failed"),
        }
    }
}

/// What was seen, oldest first.
#[derive(Debug, Serialize, Deserialize)]
pub struct ActivityView {
    /// Always `activity`.
    pub object: String,
    /// Seconds back to which looks are kept.
    pub span_s: u64,
    /// The looks.
    pub samples: Vec<Sample>,
}

/// `GET /v1/activity`.
pub async fn activity(State(server): State<Server>, _: SeesAll) -> Json<ActivityView> {
    Json(ActivityView {
        object: "activity".to_owned(),
        span_s: KEPT.as_secs(),
        samples: server.activity.samples(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_looks_are_forgotten() {
        let activity = Activity::default();
        for at in 0..MAX_SAMPLES + 2 {
            activity.note(Sample {
                at: at as f64,
                ..Sample::default()
            });
        }
        let samples = activity.samples();
        assert_eq!((samples.len(), samples[0].at), (MAX_SAMPLES, 2.0));
    }
}
