//! What can go wrong with a store, in sentences.

use std::path::PathBuf;

/// Why a store did not do what it was asked. Nothing was changed by the call, unless its doc says
/// that it works in chunks or the error is [`StoreError::Unavailable`].
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room for the store's files.
    #[error(
        "the disk of the store at {place} is full: results so far are kept; make room and run the same command again"
    )]
    DiskFull {
        /// The store's path.
        place: String,
    },
    /// Made by a newer rbee.
    #[error(
        "the store at {place} was made by a newer rbee (schema {found}, this program knows {known}): use that rbee, or another store"
    )]
    NewerSchema {
        /// The store's path.
        place: String,
        /// The schema's version there.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// SQLite's locks and its shared memory do not work there.
    #[error("{path} lies on a network file system ({kind}), on which SQLite loses data: choose a local directory for the store", path = .path.display())]
    NetworkFileSystem {
        /// The directory.
        path: PathBuf,
        /// The kind, such as `nfs4`.
        kind: String,
    },
    /// The store's directory or file cannot be opened.
    #[error("the store at {place} cannot be opened: {reason}")]
    Open {
        /// The store's path.
        place: String,
        /// What the system said.
        reason: String,
    },
    /// Other processes kept the store locked for too long.
    #[error("the store at {place} was locked by another process for too long: try again")]
    Busy {
        /// The store's path.
        place: String,
    },
    /// The store's server cannot be reached, or was lost on the way: whether the call changed
    /// anything is not known.
    #[error("the store at {place} cannot be reached: {reason}")]
    Unavailable {
        /// Host, port and database.
        place: String,
        /// What happened.
        reason: String,
    },
    /// A row does not read as it must.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: String,
    },
    /// There is no such batch.
    #[error("there is no such batch in the store")]
    NoSuchBatch,
    /// The batch's state forbids the call.
    #[error("the batch is {status}, {what}")]
    WrongState {
        /// Its state.
        status: String,
        /// Why that does not go.
        what: &'static str,
    },
    /// A call carries more than one transaction may.
    #[error("{count} jobs in one call to the store, at most {limit} are allowed")]
    TooMany {
        /// How many were given.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// Anything else that the database says.
    #[error("the store at {place} failed: {source}")]
    Database {
        /// The store's path.
        place: String,
        /// What the driver said.
        source: sqlx::Error,
    },
}

impl StoreError {
    pub(super) fn damaged(what: impl Into<String>) -> StoreError {
        StoreError::Damaged { what: what.into() }
    }

    /// True if the same call may succeed later without anybody's doing but room or patience.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            StoreError::DiskFull { .. } | StoreError::Busy { .. } | StoreError::Unavailable { .. }
        )
    }
}
