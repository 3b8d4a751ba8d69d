//! Batches that are shown before their lines are known.

use super::super::announced::AnnouncedStore;
use super::super::decide;
use super::super::jobs::{NewBatch, Sealed};
use super::batches::{get, lock_status, set_status, with_models};
use super::finish::close_if_done;
use super::rows::{self, BATCH_COLUMNS, Fields};
use super::{Failure, PLAIN, PostgresStore, StoreError, WHOLE, limit, load};
use crate::batch::Batch;
use crate::file::RefusedLine;
use crate::ids::BatchNo;
use crate::jsonl::Shape;
use crate::state::{BatchEvent, BatchStatus, batch_after};
use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

/// What became of the try to take an announced batch's place.
enum Place {
    Taken(Box<Batch>),
    /// The announced one is not validating any more.
    Gone(Box<Batch>),
}

#[async_trait]
impl AnnouncedStore for PostgresStore {
    async fn batch_announce(&self, new: NewBatch) -> Result<Batch, StoreError> {
        self.call(WHOLE, &new, |tx, new| Box::pin(announce(tx, new)))
            .await
    }

    async fn batch_announced(&self, most: usize) -> Result<Vec<Batch>, StoreError> {
        self.call(PLAIN, &most, |tx, most| Box::pin(announced(tx, *most)))
            .await
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
        let place = self
            .call(WHOLE, &(batch, announced), |tx, (batch, announced)| {
                Box::pin(take_place(tx, *batch, *announced))
            })
            .await;
        match place {
            Ok(Place::Taken(batch)) => Ok(Sealed::Shown(batch)),
            Ok(Place::Gone(now)) => {
                self.delete(batch).await?;
                Ok(Sealed::Existing(now))
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
        self.call(WHOLE, &(announced, reasons), |tx, (batch, reasons)| {
            Box::pin(refuse(tx, *batch, reasons))
        })
        .await
    }
}

async fn announce(tx: &mut PgConnection, new: &NewBatch) -> Result<Batch, Failure> {
    let no = load::create(tx, new).await?;
    sqlx::query("UPDATE batches SET visible = 1 WHERE batch_no = $1")
        .bind(no.0)
        .execute(&mut *tx)
        .await?;
    Ok(get(tx, &new.id).await?.ok_or(StoreError::NoSuchBatch)?)
}

async fn announced(tx: &mut PgConnection, most: usize) -> Result<Vec<Batch>, Failure> {
    let sql = format!(
        "SELECT {BATCH_COLUMNS} FROM batches WHERE visible = 1 AND status = 'validating' \
         ORDER BY batch_no LIMIT $1"
    );
    let found = sqlx::query(AssertSqlSafe(sql))
        .bind(limit(most))
        .fetch_all(&mut *tx)
        .await?;
    with_models(tx, &found).await
}

async fn take_place(
    tx: &mut PgConnection,
    batch: BatchNo,
    announced: BatchNo,
) -> Result<Place, Failure> {
    let status = lock_status(tx, announced).await?;
    let row = sqlx::query(
        "SELECT id, created_at_us, expires_at_us, paused_reason FROM batches WHERE batch_no = $1",
    )
    .bind(announced.0)
    .fetch_one(&mut *tx)
    .await?;
    let id = rows::batch_id(row.text("id")?)?;
    if status != BatchStatus::Validating {
        let now = get(tx, &id).await?.ok_or(StoreError::NoSuchBatch)?;
        return Ok(Place::Gone(Box::new(now)));
    }
    let shown = batch_after(status, BatchEvent::Show).expect("a validating batch can be shown");
    sqlx::query("DELETE FROM batches WHERE batch_no = $1")
        .bind(announced.0)
        .execute(&mut *tx)
        .await?;
    let taken = sqlx::query(
        "UPDATE batches SET visible = 1, status = $2, shape = COALESCE(shape, $3), \
         in_progress_at_us = rbee_now_us(), id = $4, created_at_us = $5, expires_at_us = $6, \
         paused_reason = $7 WHERE batch_no = $1 AND visible = 0",
    )
    .bind(batch.0)
    .bind(shown.as_str())
    .bind(rows::shape_word(Shape::Short))
    .bind(id.as_str())
    .bind(row.int("created_at_us")?)
    .bind(row.int_or_null("expires_at_us")?)
    .bind(row.text_or_null("paused_reason")?)
    .execute(&mut *tx)
    .await?;
    if taken.rows_affected() == 0 {
        return Err(StoreError::NoSuchBatch.into());
    }
    // A batch of bad lines only has nothing left to do.
    close_if_done(tx, batch).await?;
    let now = get(tx, &id).await?.ok_or(StoreError::NoSuchBatch)?;
    Ok(Place::Taken(Box::new(now)))
}

async fn refuse(
    tx: &mut PgConnection,
    batch: BatchNo,
    reasons: &[RefusedLine],
) -> Result<(), Failure> {
    let failed = decide::refuse(lock_status(tx, batch).await?)?;
    sqlx::query("UPDATE batches SET refused = $2 WHERE batch_no = $1")
        .bind(batch.0)
        .bind(serde_json::to_string(reasons).expect("reasons are texts and numbers"))
        .execute(&mut *tx)
        .await?;
    set_status(tx, batch, failed).await
}
