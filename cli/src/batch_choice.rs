//! Which batch a command means in the embedded store: its id, the beginning of its id, or `last`.

use rbee_queue::batch::Batch;
use rbee_queue::store::Store;
use rbee_scheduler::http::find::{self, FindError};

use crate::failure::Failure;

/// The batch that `wanted` names.
pub async fn find(store: &dyn Store, wanted: &str) -> Result<Batch, Failure> {
    find::find(store, None, wanted)
        .await
        .map_err(|error| match error {
            FindError::Store(error) => Failure::Program(error.into()),
            FindError::Nothing | FindError::Unknown { .. } | FindError::Ambiguous { .. } => {
                Failure::usage(error.to_string())
            }
        })
}
