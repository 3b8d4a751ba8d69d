//! Schedules: firing due ticks, reading their prompts, ending runs and telling of it.
//!
//! Owns the loops of the leader. When a tick is due and what becomes of it is decided in `schedule`, by the store's clock;
//! that a tick is fired once is the store's. Whatever a leader leaves in the middle, the next one finds in the store.

mod beginning;
mod ending;
mod fire;
mod gather;
mod load;
mod output;
mod settings;
mod tell;

pub(crate) use gather::uploaded_file;
pub use output::{PLACEHOLDERS, RunPlace, expand};
pub use settings::ScheduleSettings;

use super::Shared;
use super::trouble::Trouble;
use beginning::Beginnings;
use futures_util::FutureExt;
use rbee_queue::StoreError;
use rbee_queue::store::MAX_KEPT_RUNS;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often the store is asked what is due, if not before: schedules are made by other servers too.
const LOOK: Duration = Duration::from_secs(2);
/// The wait after an error.
const AFTER_ERROR: Duration = Duration::from_millis(500);
/// How often old runs are forgotten.
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// Runs schedules until it is dropped. Returns only with an error that no patience changes.
pub(super) async fn run(shared: &Arc<Shared>) -> StoreError {
    let Some(settings) = &shared.options.schedules else {
        return std::future::pending().await;
    };
    tokio::select! {
        error = begin_runs(shared, settings) => error,
        error = ending::end_runs(shared, settings) => error,
        error = tell::tell_runs(shared, settings) => error,
    }
}

/// Fires ticks and has runs begin: at each tick, and when something has changed.
async fn begin_runs(shared: &Arc<Shared>, settings: &ScheduleSettings) -> StoreError {
    let mut trouble = Trouble::new("schedules cannot be looked at");
    let mut beginnings = Beginnings::new(Arc::clone(shared), settings.clone());
    let mut prune_at = Instant::now();
    loop {
        let looked = async {
            let wait = fire::fire_due(shared, &mut beginnings).await?;
            beginnings.tidy().await?;
            if Instant::now() >= prune_at {
                shared.batches.store().run_prune(MAX_KEPT_RUNS).await?;
                prune_at = Instant::now() + PRUNE_EVERY;
            }
            Ok::<_, StoreError>(wait)
        };
        let wait = match looked.await {
            Ok(wait) => {
                trouble.over();
                wait.min(LOOK)
            }
            Err(error @ StoreError::NewerSchema { .. }) => return error,
            Err(error) => {
                trouble.note(&error);
                AFTER_ERROR
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.schedules_woken.notified() => {}
            () = beginnings.one_loaded() => {}
        }
        // Several wishes at once are one.
        let _ = shared.schedules_woken.notified().now_or_never();
    }
}
