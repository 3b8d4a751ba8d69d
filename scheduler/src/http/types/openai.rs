//! Files and models in OpenAI's form.

use rbee_queue::file::StoredFile;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Microseconds of a second.
const US_A_SECOND: i64 = 1_000_000;

/// A file as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileView {
    /// Its id.
    pub id: String,
    /// Always `file`.
    pub object: String,
    /// Its size.
    pub bytes: u64,
    /// Unix seconds.
    pub created_at: i64,
    /// When it goes, in Unix seconds.
    pub expires_at: Option<i64>,
    /// Its name.
    pub filename: String,
    /// `batch`, or `batch_output` for what a batch gave.
    pub purpose: String,
    /// Always `processed`: a file is there when it is whole.
    pub status: String,
}

impl FileView {
    /// A file of this size.
    pub fn of(file: &StoredFile, bytes: u64) -> FileView {
        FileView {
            id: file.id.to_string(),
            object: "file".to_owned(),
            bytes,
            created_at: file.created_at_us.div_euclid(US_A_SECOND),
            expires_at: file.expires_at_us.map(|us| us.div_euclid(US_A_SECOND)),
            filename: file.filename.clone(),
            purpose: file.purpose.as_str().to_owned(),
            status: "processed".to_owned(),
        }
    }
}

/// A model as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelView {
    /// The name that requests say.
    pub id: String,
    /// Always `model`.
    pub object: String,
    /// Since when this server offers it, in Unix seconds.
    pub created: i64,
    /// Always `rbee`.
    pub owned_by: String,
}

/// What was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deleted {
    /// Its id.
    pub id: String,
    /// What it was.
    pub object: String,
    /// Always true.
    pub deleted: bool,
}
