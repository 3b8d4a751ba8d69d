//! Ending batches whose completion window passed, by the store's clock.
//!
//! The store ends what waits; what nodes still have is ended as that of cancelled batches is.

use super::told_of_end;
use rbee_queue::{Batch, BatchStatus, Batches, StoreError};

/// Begins the end of those whose time is up. Returns the batches as they are now, but for those that have ended by that.
pub(super) async fn expire(batches: &Batches, open: Vec<Batch>) -> Result<Vec<Batch>, StoreError> {
    let may = |batch: &Batch| {
        let expires_us = batch.times.expires_us;
        expires_us.filter(|_| batch.status == BatchStatus::InProgress)
    };
    let store = batches.store();
    let Some(first_us) = open.iter().filter_map(may).min() else {
        return Ok(open);
    };
    let now_us = store.clock_us().await?;
    if first_us > now_us {
        return Ok(open);
    }
    let mut still = Vec::with_capacity(open.len());
    for batch in open {
        if may(&batch).is_none_or(|expires_us| expires_us > now_us) {
            still.push(batch);
            continue;
        }
        match store.batch_expire(batch.no).await {
            Ok(placed) => tracing::info!(batch = %batch.id, placed, "the batch's time is up"),
            // It ended, or was cancelled, in this moment.
            Err(StoreError::WrongState { .. } | StoreError::NoSuchBatch) => {}
            Err(error) => return Err(error),
        }
        told_of_end(batches, &batch.id).await;
        let now = store.batch_get(&batch.id).await?;
        still.extend(now.filter(|batch| !batch.status.is_terminal()));
    }
    Ok(still)
}
