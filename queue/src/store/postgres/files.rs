//! Files: uploads in pieces, and the names of what batches gave. All times are the server's.

use super::super::file_rows as rows;
use super::super::file_sql as sql;
use super::super::files::*;
use super::schedules::clock;
use super::{CHUNK, Failure, PAGE, PLAIN, PostgresStore, StoreError, WHOLE, limit, micros};
use crate::file::StoredFile;
use crate::ids::FileId;
use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

#[async_trait]
impl FileStore for PostgresStore {
    async fn file_keep(&self, id: &FileId, piece: u64, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.call(CHUNK, &(id, piece, bytes), |tx, (id, piece, bytes)| {
            Box::pin(keep(tx, id, *piece, bytes))
        })
        .await
    }

    async fn file_kept(&self, id: &FileId, piece: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.call(PAGE, &(id, piece), |tx, (id, piece)| {
            Box::pin(kept(tx, id, *piece))
        })
        .await
    }

    async fn file_add(&self, new: NewFile) -> Result<FileAdded, StoreError> {
        self.call(WHOLE, &new, |tx, new| Box::pin(add(tx, new)))
            .await
    }

    async fn file_get(&self, id: &FileId) -> Result<Option<StoredFile>, StoreError> {
        self.call(PLAIN, id, |tx, id| Box::pin(get(tx, id))).await
    }

    async fn file_list(&self, query: FilesQuery) -> Result<Vec<StoredFile>, StoreError> {
        self.call(PLAIN, &query, |tx, query| Box::pin(list(tx, query)))
            .await
    }

    async fn file_sized(
        &self,
        id: &FileId,
        created_at_us: i64,
        bytes: u64,
    ) -> Result<(), StoreError> {
        self.call(
            PLAIN,
            &(id, created_at_us, bytes),
            |tx, (id, created, bytes)| Box::pin(sized(tx, id, *created, *bytes)),
        )
        .await
    }

    async fn file_remove(&self, id: &FileId) -> Result<bool, StoreError> {
        self.call(WHOLE, id, |tx, id| Box::pin(remove(tx, id)))
            .await
    }

    async fn file_prune(&self) -> Result<u64, StoreError> {
        self.call(WHOLE, &(), |tx, ()| Box::pin(prune(tx))).await
    }
}

async fn keep(tx: &mut PgConnection, id: &FileId, piece: u64, bytes: &[u8]) -> Result<(), Failure> {
    let now = clock(tx).await?;
    sqlx::query(sql::KEEP)
        .bind(id.as_str())
        .bind(piece as i64)
        .bind(bytes)
        .bind(now)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

async fn kept(tx: &mut PgConnection, id: &FileId, piece: u64) -> Result<Option<Vec<u8>>, Failure> {
    Ok(sqlx::query_scalar(sql::KEPT)
        .bind(id.as_str())
        .bind(piece as i64)
        .fetch_optional(&mut *tx)
        .await?)
}

async fn add(tx: &mut PgConnection, new: &NewFile) -> Result<FileAdded, Failure> {
    let count: i64 = sqlx::query_scalar(sql::COUNT)
        .bind(new.owner.as_str())
        .fetch_one(&mut *tx)
        .await?;
    if count >= MAX_FILES as i64 {
        return Ok(FileAdded::TooMany);
    }
    let now = clock(tx).await?;
    let row = sqlx::query(sql::ADD)
        .bind(new.id.as_str())
        .bind(new.owner.as_str())
        .bind(new.purpose.as_str())
        .bind(new.filename.as_str())
        .bind(new.bytes as i64)
        .bind(now)
        .bind(new.keep.map(|keep| now + micros(keep)))
        .fetch_one(&mut *tx)
        .await?;
    Ok(FileAdded::Added(Box::new(rows::file(&row)?)))
}

async fn get(tx: &mut PgConnection, id: &FileId) -> Result<Option<StoredFile>, Failure> {
    let now = clock(tx).await?;
    let found = sqlx::query(sql::GET)
        .bind(id.as_str())
        .bind(now)
        .fetch_optional(&mut *tx)
        .await?;
    Ok(found.as_ref().map(rows::file).transpose()?)
}

async fn list(tx: &mut PgConnection, query: &FilesQuery) -> Result<Vec<StoredFile>, Failure> {
    let now = clock(tx).await?;
    let found = sqlx::query(AssertSqlSafe(sql::list(query)))
        .bind(query.owner.as_deref())
        .bind(query.purpose.map(|purpose| purpose.as_str()))
        .bind(query.after.as_ref().map(FileId::as_str))
        .bind(now)
        .bind(limit(query.limit))
        .fetch_all(&mut *tx)
        .await?;
    let files = found.iter().map(rows::file);
    Ok(files.collect::<Result<_, StoreError>>()?)
}

async fn sized(
    tx: &mut PgConnection,
    id: &FileId,
    created_at_us: i64,
    bytes: u64,
) -> Result<(), Failure> {
    sqlx::query(sql::SIZED)
        .bind(id.as_str())
        .bind(created_at_us)
        .bind(bytes as i64)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

async fn remove(tx: &mut PgConnection, id: &FileId) -> Result<bool, Failure> {
    let mut deleted = 0;
    for statement in [sql::REMOVE_PIECES, sql::REMOVE] {
        let done = sqlx::query(statement)
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        deleted = done.rows_affected();
    }
    Ok(deleted > 0)
}

async fn prune(tx: &mut PgConnection) -> Result<u64, Failure> {
    let now = clock(tx).await?;
    let mut pruned = 0;
    for (statement, before) in [
        (sql::PRUNE_ORPHANS, now - micros(PIECES_WAIT)),
        (sql::PRUNE_PIECES, now),
        (sql::PRUNE, now),
    ] {
        let done = sqlx::query(statement)
            .bind(before)
            .execute(&mut *tx)
            .await?;
        pruned = done.rows_affected();
    }
    Ok(pruned)
}
