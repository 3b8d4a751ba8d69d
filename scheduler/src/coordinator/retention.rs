//! Deleting finished batches when they have been kept for as long as was wanted.

use super::Shared;
use super::trouble::Trouble;
use rbee_queue::StoreError;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// How often old batches are looked for at most.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// How often old batches are looked for at least.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);

/// How long finished batches are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Whose; `None`: everybody's.
    pub owner: Option<String>,
    /// How long after their end.
    pub keep: Duration,
}

/// Deletes until it is dropped. Returns only with an error that no patience changes.
pub(super) async fn retain(shared: &Arc<Shared>) -> StoreError {
    let rules = &shared.options.retention;
    let Some(interval) = rules.iter().map(interval).min() else {
        return std::future::pending().await;
    };
    let mut trouble = Trouble::new("old batches cannot be deleted");
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for rule in rules {
            match (shared.batches)
                .purge_ended(rule.owner.as_deref(), rule.keep)
                .await
            {
                Ok(0) => trouble.over(),
                Ok(purged) => {
                    trouble.over();
                    tracing::info!(purged, owner = ?rule.owner, keep_s = rule.keep.as_secs(), "old batches are deleted");
                }
                Err(error @ StoreError::NewerSchema { .. }) => return error,
                Err(error) => trouble.note(&error),
            }
        }
    }
}

/// A batch goes at most a tenth of its time too late, or a minute.
fn interval(rule: &Retention) -> Duration {
    (rule.keep / 10).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
}
