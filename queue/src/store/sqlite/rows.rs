//! SQLite's rows, and the columns that the reads of jobs select.

pub use super::super::rows::*;
use super::StoreError;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// The columns of [`stored_job`], of `jobs j`, `payloads p` and `results r`.
pub const JOB_COLUMNS: &str = "j.idx, j.line_no, p.line, j.content, j.occurrence, j.model_no, \
     j.state, j.attempt, j.node, j.blamed, j.losses, r.record, r.stats, r.finished_at_us";

/// The joins of [`JOB_COLUMNS`].
pub const JOB_TABLES: &str = "jobs j \
     LEFT JOIN payloads p ON p.batch_no = j.batch_no AND p.idx = j.idx \
     LEFT JOIN results r ON r.batch_no = j.batch_no AND r.idx = j.idx";

fn get<'r, T>(row: &'r SqliteRow, column: &str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column)
        .map_err(|error| StoreError::damaged(format!("column {column}: {error}")))
}

impl Fields for SqliteRow {
    fn int_or_null(&self, column: &str) -> Result<Option<i64>, StoreError> {
        get(self, column)
    }

    fn text_or_null(&self, column: &str) -> Result<Option<&str>, StoreError> {
        get(self, column)
    }

    fn bytes_or_null(&self, column: &str) -> Result<Option<&[u8]>, StoreError> {
        get(self, column)
    }
}
