//! Single requests that were answered a while ago are purged.
//!
//! The time is counted from when this process first saw them done, by its own clock: a clock that is an hour off purges
//! nothing early.

use super::Shared;
use rbee_queue::batch::INTERACTIVE_OWNER;
use rbee_queue::batches::PurgeError;
use rbee_queue::{BatchId, StoreError};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long an answered request is kept.
const KEPT: Duration = Duration::from_secs(600);
/// Requests that are read at once.
const PAGE: usize = 500;
/// Pages that one look reads: requests beyond are purged by later looks.
const PAGES: usize = 40;

/// The requests that are done, and since when.
#[derive(Default)]
pub(super) struct Answered(HashMap<BatchId, Instant>);

impl Answered {
    /// Purges what was kept for long enough.
    pub async fn purge(&mut self, shared: &Shared) -> Result<(), StoreError> {
        let store = shared.batches.store();
        let (mut seen, mut after) = (HashMap::new(), None);
        for _ in 0..PAGES {
            let page = store
                .batch_list(Some(INTERACTIVE_OWNER), after.as_ref(), PAGE)
                .await?;
            let Some(last) = page.last() else {
                break;
            };
            after = Some(last.id.clone());
            for batch in page.iter().filter(|batch| batch.status.is_terminal()) {
                let since = self.0.get(&batch.id).copied();
                let since = since.unwrap_or_else(Instant::now);
                if since.elapsed() < KEPT {
                    seen.insert(batch.id.clone(), since);
                    continue;
                }
                match shared.batches.purge(batch).await {
                    Ok(()) => {}
                    Err(PurgeError::Store(error)) => return Err(error),
                    // It is tried again.
                    Err(PurgeError::Lock(error)) => {
                        tracing::debug!(%error, "a request is kept");
                        seen.insert(batch.id.clone(), since);
                    }
                }
            }
        }
        self.0 = seen;
        Ok(())
    }
}
