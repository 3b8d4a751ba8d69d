//! Rows of files to types, for every kind of database.

use super::StoreError;
use super::rows::Fields;
use crate::file::{Purpose, StoredFile};
use crate::ids::BatchNo;

pub fn file(row: &impl Fields) -> Result<StoredFile, StoreError> {
    let damaged = |what: String| StoreError::damaged(format!("a file: {what}"));
    let purpose = row.text("purpose")?;
    Ok(StoredFile {
        id: (row.text("id")?.parse()).map_err(|error| damaged(format!("{error}")))?,
        owner: row.text("owner")?.to_owned(),
        purpose: Purpose::from_word(purpose)
            .ok_or_else(|| damaged(format!("the unknown purpose {purpose:?}")))?,
        filename: row.text("filename")?.to_owned(),
        bytes: match row.int_or_null("bytes")? {
            Some(_) => Some(row.count("bytes")?),
            None => None,
        },
        created_at_us: row.int("created_at_us")?,
        expires_at_us: row.int_or_null("expires_at_us")?,
        batch: row.int_or_null("batch_no")?.map(BatchNo),
    })
}
