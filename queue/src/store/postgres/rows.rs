//! Postgres's rows, and the columns that the reads of jobs select.
//!
//! Values come in the binary format, in which a whole number is as long as its type and a text is
//! its bytes, BYTEA or not.

pub use super::super::rows::*;
use super::StoreError;
use sqlx::Row;
use sqlx::postgres::PgRow;

/// The columns of [`stored_job`], of `jobs j`, `payloads p` and `results r`.
pub const JOB_COLUMNS: &str = "j.batch_no, j.idx, p.line_no, p.line, p.content, p.occurrence, \
     j.model_no, j.state, j.attempt, j.node, j.blamed, j.losses, r.record, r.stats, \
     r.finished_at_us";

/// The joins of [`JOB_COLUMNS`], after `jobs j`. Every job has a line: its join is a left one so that
/// the planner cannot walk the lines of a whole batch to find their jobs.
pub const JOB_JOINS: &str = "\
     LEFT JOIN payloads p ON p.batch_no = j.batch_no AND p.idx = j.idx \
     LEFT JOIN results r ON r.batch_no = j.batch_no AND r.finish_no = j.finish_no";

/// The columns of [`job_now`] with its name, of `jobs j`.
pub const JOB_NOW: &str = "j.batch_no, j.idx, j.state, j.attempt, j.model_no, j.crashes, j.finish_no, j.same_as, \
     (EXISTS (SELECT 1 FROM jobs f WHERE f.batch_no = j.batch_no AND f.same_as = j.idx \
       AND f.state = 0))::INTEGER AS leads";

fn raw<'r>(row: &'r PgRow, column: &str) -> Result<Option<&'r [u8]>, StoreError> {
    use sqlx::ValueRef;
    let value = row
        .try_get_raw(column)
        .map_err(|error| StoreError::damaged(format!("column {column}: {error}")))?;
    if value.is_null() {
        return Ok(None);
    }
    value
        .as_bytes()
        .map(Some)
        .map_err(|error| StoreError::damaged(format!("column {column}: {error}")))
}

impl Fields for PgRow {
    fn int_or_null(&self, column: &str) -> Result<Option<i64>, StoreError> {
        let Some(bytes) = raw(self, column)? else {
            return Ok(None);
        };
        if let Ok(bytes) = bytes.try_into() {
            return Ok(Some(i64::from_be_bytes(bytes)));
        }
        if let Ok(bytes) = bytes.try_into() {
            return Ok(Some(i64::from(i32::from_be_bytes(bytes))));
        }
        if let Ok(bytes) = bytes.try_into() {
            return Ok(Some(i64::from(i16::from_be_bytes(bytes))));
        }
        Err(StoreError::damaged(format!("column {column} is no number")))
    }

    fn text_or_null(&self, column: &str) -> Result<Option<&str>, StoreError> {
        raw(self, column)?
            .map(std::str::from_utf8)
            .transpose()
            .map_err(|error| StoreError::damaged(format!("column {column}: {error}")))
    }

    fn bytes_or_null(&self, column: &str) -> Result<Option<&[u8]>, StoreError> {
        raw(self, column)
    }
}
