//! Which batch is meant: by its id, the beginning of its id, or `last`.

use rbee_queue::store::Store;
use rbee_queue::{Batch, BatchId, StoreError};

/// Stands for the newest batch.
pub const LAST: &str = "last";
/// Batches read at once while a short id is looked for.
const PAGE: usize = 500;
/// Ids that a message about an ambiguous one lists.
const LISTED: usize = 5;
/// What every batch id begins with.
const PREFIX: &str = "batch_";

/// Why no batch was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// There is none at all.
    #[error("there is no batch yet: `rbee submit FILE` or `rbee run FILE` makes one")]
    Nothing,
    /// None has this id.
    #[error("there is no batch {wanted}: `rbee list` shows those that are kept")]
    Unknown {
        /// What was asked for.
        wanted: String,
    },
    /// Several ids begin like this.
    #[error("{wanted} is the beginning of several ids: {ids}")]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// The first of them.
        ids: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The batch that `wanted` names, among those of an owner; `None`: among all.
pub async fn find(
    store: &dyn Store,
    owner: Option<&str>,
    wanted: &str,
) -> Result<Batch, FindError> {
    if wanted == LAST {
        let newest = store.batch_list(owner, None, 1).await?.pop();
        return newest.ok_or(FindError::Nothing);
    }
    let unknown = || FindError::Unknown {
        wanted: wanted.chars().take(80).collect(),
    };
    if let Ok(id) = wanted.parse::<BatchId>() {
        let found = store.batch_get(&id).await?;
        return found
            .filter(|batch| owner.is_none_or(|owner| owner == batch.owner))
            .ok_or_else(unknown);
    }
    let mut found = matching(store, owner, wanted).await?;
    match found.len() {
        0 => Err(unknown()),
        1 => Ok(found.remove(0)),
        _ => {
            let ids: Vec<&str> = found.iter().map(|batch| batch.id.as_str()).collect();
            Err(FindError::Ambiguous {
                wanted: wanted.to_owned(),
                ids: ids.join(", "),
            })
        }
    }
}

/// The newest batches whose ids begin with `wanted`, at most [`LISTED`].
async fn matching(
    store: &dyn Store,
    owner: Option<&str>,
    wanted: &str,
) -> Result<Vec<Batch>, StoreError> {
    let mut found = Vec::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let mut after: Option<BatchId> = None;
    loop {
        let page = store.batch_list(owner, after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        after = Some(last.id.clone());
        let more = page
            .into_iter()
            .filter(|batch| begins_with(batch.id.as_str(), wanted));
        found.extend(more.take(LISTED - found.len()));
        if found.len() == LISTED {
            return Ok(found);
        }
    }
}

/// Whether `id` begins with `wanted`, with or without the prefix that all ids share.
fn begins_with(id: &str, wanted: &str) -> bool {
    id.starts_with(wanted) && wanted.len() > PREFIX.len()
        || id
            .strip_prefix(PREFIX)
            .is_some_and(|digits| digits.starts_with(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ids_need_no_prefix() {
        let id = "batch_019a3f00000000000000000000000000";
        assert!(begins_with(id, "batch_019a"));
        assert!(begins_with(id, "019a"));
        assert!(!begins_with(id, "batch_"));
        assert!(!begins_with(id, "19a"));
        assert!(!begins_with(id, "batch_019b"));
    }
}
