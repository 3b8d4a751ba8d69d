//! Batches that are shown before their lines are known.

use super::super::announced::AnnouncedStore;
use super::super::decide;
use super::super::jobs::{NewBatch, Sealed};
use super::rows::{self, BATCH_COLUMNS, Fields};
use super::{SqliteStore, StoreError, now_us};
use crate::batch::Batch;
use crate::file::RefusedLine;
use crate::ids::{BatchId, BatchNo};
use crate::jsonl::Shape;
use crate::state::{BatchEvent, BatchStatus, batch_after};
use async_trait::async_trait;
use sqlx::AssertSqlSafe;

/// What became of the try to take an announced batch's place.
enum Place {
    Taken(BatchId),
    /// The announced one is not validating any more.
    Gone(BatchId),
}

#[async_trait]
impl AnnouncedStore for SqliteStore {
    async fn batch_announce(&self, new: NewBatch) -> Result<Batch, StoreError> {
        let mut tx = self.begin().await?;
        let (id, no) = self.create_in(&mut tx, new).await?;
        sqlx::query("UPDATE batches SET visible = 1 WHERE batch_no = $1")
            .bind(no.0)
            .execute(&mut *tx)
            .await
            .map_err(|error| self.error(error))?;
        self.commit(tx).await?;
        self.get(&id).await?.ok_or(StoreError::NoSuchBatch)
    }

    async fn batch_announced(&self, most: usize) -> Result<Vec<Batch>, StoreError> {
        let sql = format!(
            "SELECT {BATCH_COLUMNS} FROM batches WHERE visible = 1 AND status = 'validating' \
             ORDER BY batch_no LIMIT $1"
        );
        let found = sqlx::query(AssertSqlSafe(sql))
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        let mut batches = Vec::with_capacity(found.len());
        for row in found {
            batches.extend(self.with_models(Some(row)).await?);
        }
        Ok(batches)
    }

    async fn batch_seal_as(
        &self,
        batch: BatchNo,
        announced: BatchNo,
    ) -> Result<Sealed, StoreError> {
        if let Some(refusal) = self.refusal(batch).await? {
            self.delete(batch).await?;
            return Ok(Sealed::Refused(refusal));
        }
        match self.take_place(batch, announced).await {
            Ok(Place::Taken(id)) => {
                let now = self.get(&id).await?.ok_or(StoreError::NoSuchBatch)?;
                Ok(Sealed::Shown(Box::new(now)))
            }
            Ok(Place::Gone(id)) => {
                self.delete(batch).await?;
                let now = self.get(&id).await?.ok_or(StoreError::NoSuchBatch)?;
                Ok(Sealed::Existing(Box::new(now)))
            }
            Err(error @ StoreError::NoSuchBatch) => {
                self.delete(batch).await?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn batch_refuse(
        &self,
        announced: BatchNo,
        reasons: Vec<RefusedLine>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let failed = decide::refuse(self.status_of(&mut tx, announced).await?)?;
        sqlx::query("UPDATE batches SET refused = $2 WHERE batch_no = $1")
            .bind(announced.0)
            .bind(serde_json::to_string(&reasons).expect("reasons are texts and numbers"))
            .execute(&mut *tx)
            .await
            .map_err(|error| self.error(error))?;
        self.set_status(&mut tx, announced, failed).await?;
        self.commit(tx).await
    }
}

impl SqliteStore {
    async fn take_place(&self, batch: BatchNo, announced: BatchNo) -> Result<Place, StoreError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query(
            "SELECT id, status, created_at_us, expires_at_us, paused_reason FROM batches \
             WHERE batch_no = $1",
        )
        .bind(announced.0)
        .fetch_optional(&mut *tx)
        .await
        .map_err(|error| self.error(error))?
        .ok_or(StoreError::NoSuchBatch)?;
        let (id, status) = (rows::batch_id(row.text("id")?)?, rows::status(&row)?);
        if status != BatchStatus::Validating {
            return Ok(Place::Gone(id));
        }
        let shown = batch_after(status, BatchEvent::Show).expect("a validating batch can be shown");
        sqlx::query("DELETE FROM batches WHERE batch_no = $1")
            .bind(announced.0)
            .execute(&mut *tx)
            .await
            .map_err(|error| self.error(error))?;
        let taken = sqlx::query(
            "UPDATE batches SET visible = 1, status = $2, shape = COALESCE(shape, $3), \
             in_progress_at_us = $4, id = $5, created_at_us = $6, expires_at_us = $7, \
             paused_reason = $8 WHERE batch_no = $1 AND visible = 0",
        )
        .bind(batch.0)
        .bind(shown.as_str())
        .bind(rows::shape_word(Shape::Short))
        .bind(now_us())
        .bind(id.as_str())
        .bind(row.int("created_at_us")?)
        .bind(row.int_or_null("expires_at_us")?)
        .bind(row.text_or_null("paused_reason")?.map(str::to_owned))
        .execute(&mut *tx)
        .await
        .map_err(|error| self.error(error))?;
        if taken.rows_affected() == 0 {
            return Err(StoreError::NoSuchBatch);
        }
        // A batch of bad lines only has nothing left to do.
        self.close_if_done(&mut tx, batch).await?;
        self.commit(tx).await?;
        Ok(Place::Taken(id))
    }
}
