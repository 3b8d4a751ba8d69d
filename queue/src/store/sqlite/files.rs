//! Files: uploads in pieces, and the names of what batches gave.

use super::super::file_rows as rows;
use super::super::file_sql as sql;
use super::super::files::*;
use super::{SqliteStore, StoreError, now_us};
use crate::file::StoredFile;
use crate::ids::FileId;
use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use std::time::Duration;

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
}

#[async_trait]
impl FileStore for SqliteStore {
    async fn file_keep(&self, id: &FileId, piece: u64, bytes: Vec<u8>) -> Result<(), StoreError> {
        sqlx::query(sql::KEEP)
            .bind(id.as_str())
            .bind(piece as i64)
            .bind(bytes)
            .bind(now_us())
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(|error| self.error(error))
    }

    async fn file_kept(&self, id: &FileId, piece: u64) -> Result<Option<Vec<u8>>, StoreError> {
        sqlx::query_scalar(sql::KEPT)
            .bind(id.as_str())
            .bind(piece as i64)
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.error(error))
    }

    async fn file_add(&self, new: NewFile) -> Result<FileAdded, StoreError> {
        let mut tx = self.begin().await?;
        let count: i64 = sqlx::query_scalar(sql::COUNT)
            .bind(new.owner.as_str())
            .fetch_one(&mut *tx)
            .await
            .map_err(|error| self.error(error))?;
        if count >= MAX_FILES as i64 {
            return Ok(FileAdded::TooMany);
        }
        let now = now_us();
        let row = sqlx::query(sql::ADD)
            .bind(new.id.as_str())
            .bind(new.owner.as_str())
            .bind(new.purpose.as_str())
            .bind(new.filename.as_str())
            .bind(new.bytes as i64)
            .bind(now)
            .bind(new.keep.map(|keep| now + micros(keep)))
            .fetch_one(&mut *tx)
            .await
            .map_err(|error| self.error(error))?;
        let file = rows::file(&row)?;
        self.commit(tx).await?;
        Ok(FileAdded::Added(Box::new(file)))
    }

    async fn file_get(&self, id: &FileId) -> Result<Option<StoredFile>, StoreError> {
        let found = sqlx::query(sql::GET)
            .bind(id.as_str())
            .bind(now_us())
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        found.as_ref().map(rows::file).transpose()
    }

    async fn file_list(&self, query: FilesQuery) -> Result<Vec<StoredFile>, StoreError> {
        let found = sqlx::query(AssertSqlSafe(sql::list(&query)))
            .bind(query.owner.as_deref())
            .bind(query.purpose.map(|purpose| purpose.as_str()))
            .bind(query.after.as_ref().map(FileId::as_str))
            .bind(now_us())
            .bind(i64::try_from(query.limit).unwrap_or(i64::MAX))
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        found.iter().map(rows::file).collect()
    }

    async fn file_sized(
        &self,
        id: &FileId,
        created_at_us: i64,
        bytes: u64,
    ) -> Result<(), StoreError> {
        sqlx::query(sql::SIZED)
            .bind(id.as_str())
            .bind(created_at_us)
            .bind(bytes as i64)
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(|error| self.error(error))
    }

    async fn file_remove(&self, id: &FileId) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let mut deleted = 0;
        for statement in [sql::REMOVE_PIECES, sql::REMOVE] {
            let done = sqlx::query(statement)
                .bind(id.as_str())
                .execute(&mut *tx)
                .await
                .map_err(|error| self.error(error))?;
            deleted = done.rows_affected();
        }
        self.commit(tx).await?;
        Ok(deleted > 0)
    }

    async fn file_prune(&self) -> Result<u64, StoreError> {
        let now = now_us();
        let mut tx = self.begin().await?;
        let mut pruned = 0;
        for (statement, before) in [
            (sql::PRUNE_ORPHANS, now - micros(PIECES_WAIT)),
            (sql::PRUNE_PIECES, now),
            (sql::PRUNE, now),
        ] {
            let done = sqlx::query(statement)
                .bind(before)
                .execute(&mut *tx)
                .await
                .map_err(|error| self.error(error))?;
            pruned = done.rows_affected();
        }
        self.commit(tx).await?;
        Ok(pruned)
    }
}
