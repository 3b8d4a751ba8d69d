//! Rows in the binary format of COPY.
//!
//! Owns the format: a signature, then for each row the number of its fields and each field's length
//! and bytes, then -1. Whole numbers are big-endian and as long as their columns.

use super::Failure;
use sqlx::postgres::{PgConnection, PgCopyIn};

/// Bytes that are gathered before they are sent.
const SEND_BYTES: usize = 256 * 1024;
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// A COPY under way.
pub struct Copy<'c> {
    stream: PgCopyIn<&'c mut PgConnection>,
    rows: Vec<u8>,
}

impl<'c> Copy<'c> {
    /// Begins; the statement names the columns.
    pub async fn begin(
        tx: &'c mut PgConnection,
        statement: &'static str,
    ) -> Result<Copy<'c>, Failure> {
        let stream = tx.copy_in_raw(statement).await?;
        let mut rows = Vec::with_capacity(SEND_BYTES * 2);
        rows.extend_from_slice(SIGNATURE);
        Ok(Copy { stream, rows })
    }

    /// Begins a row of so many fields, which must follow.
    pub async fn row(&mut self, fields: i16) -> Result<(), Failure> {
        if self.rows.len() >= SEND_BYTES {
            self.stream.send(self.rows.as_slice()).await?;
            self.rows.clear();
        }
        self.rows.extend_from_slice(&fields.to_be_bytes());
        Ok(())
    }

    /// A BIGINT.
    pub fn bigint(&mut self, value: i64) {
        self.bytes(&value.to_be_bytes());
    }

    /// An INTEGER.
    pub fn integer(&mut self, value: i32) {
        self.bytes(&value.to_be_bytes());
    }

    /// A SMALLINT.
    pub fn smallint(&mut self, value: i16) {
        self.bytes(&value.to_be_bytes());
    }

    /// A TEXT or a BYTEA.
    pub fn bytes(&mut self, value: &[u8]) {
        let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
        self.rows.extend_from_slice(&length.to_be_bytes());
        self.rows.extend_from_slice(value);
    }

    /// A null.
    pub fn null(&mut self) {
        self.rows.extend_from_slice(&(-1i32).to_be_bytes());
    }

    /// Sends the rest and waits until all rows are in.
    pub async fn finish(mut self) -> Result<(), Failure> {
        self.rows.extend_from_slice(&(-1i16).to_be_bytes());
        self.stream.send(self.rows.as_slice()).await?;
        self.stream.finish().await?;
        Ok(())
    }
}
