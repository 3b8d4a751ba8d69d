//! What a store does for files: a trait of its own, which every store has.
//!
//! Owns what goes in and comes out. Uploads come in pieces before their file is there; what a batch gave appears with the
//! batch's end, in the transaction that ends it, and goes when the batch runs again or is deleted.

use super::StoreError;
use crate::file::{Purpose, StoredFile};
use crate::ids::FileId;
use async_trait::async_trait;
use std::time::Duration;

/// Files of one owner.
pub const MAX_FILES: usize = 10_000;
/// How long pieces may wait for their file.
pub(super) const PIECES_WAIT: Duration = Duration::from_secs(6 * 3_600);

/// A file whose pieces are all there.
#[derive(Clone, Debug)]
pub struct NewFile {
    /// Its id, under which its pieces are kept already.
    pub id: FileId,
    /// Whose it is.
    pub owner: String,
    /// What it is for.
    pub purpose: Purpose,
    /// Its name, for people.
    pub filename: String,
    /// The bytes of all pieces.
    pub bytes: u64,
    /// How long it is kept. `None`: until somebody deletes it.
    pub keep: Option<Duration>,
}

/// What became of a new file.
#[derive(Clone, Debug, PartialEq)]
pub enum FileAdded {
    /// It is there.
    Added(Box<StoredFile>),
    /// Its owner has [`MAX_FILES`] already.
    TooMany,
}

/// Which files are listed.
#[derive(Clone, Debug)]
pub struct FilesQuery {
    /// Whose; `None`: everybody's.
    pub owner: Option<String>,
    /// What for; `None`: anything.
    pub purpose: Option<Purpose>,
    /// Those that follow this one.
    pub after: Option<FileId>,
    /// From the oldest to the newest.
    pub oldest_first: bool,
    /// At most so many.
    pub limit: usize,
}

/// What every store can do for files. One whose time is over is not there any more.
#[async_trait]
pub trait FileStore: Send + Sync {
    /// Keeps a piece of a file that is on its way. Pieces are numbered from 0.
    async fn file_keep(&self, id: &FileId, piece: u64, bytes: Vec<u8>) -> Result<(), StoreError>;

    /// A piece of an uploaded file; `None` after the last.
    async fn file_kept(&self, id: &FileId, piece: u64) -> Result<Option<Vec<u8>>, StoreError>;

    /// Makes a file of its pieces.
    async fn file_add(&self, new: NewFile) -> Result<FileAdded, StoreError>;

    /// A file.
    async fn file_get(&self, id: &FileId) -> Result<Option<StoredFile>, StoreError>;

    /// Files from the newest to the oldest, or the other way.
    async fn file_list(&self, query: FilesQuery) -> Result<Vec<StoredFile>, StoreError>;

    /// Notes the size of what a batch gave, if it has not run again meanwhile: `created_at_us` is the file's as it was seen.
    async fn file_sized(
        &self,
        id: &FileId,
        created_at_us: i64,
        bytes: u64,
    ) -> Result<(), StoreError>;

    /// Deletes a file and its pieces, or the pieces of one that never came to be. False: there was no such file.
    async fn file_remove(&self, id: &FileId) -> Result<bool, StoreError>;

    /// Deletes files whose time is over and pieces that wait for their file in vain. Returns how many files.
    async fn file_prune(&self) -> Result<u64, StoreError>;
}
