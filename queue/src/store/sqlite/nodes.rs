//! Nodes and their leases, the lead, and who is told of a batch's end.

use super::super::jobs::{PlacedJob, PlacedQuery, Release, ReleaseCause, Untold};
use super::rows::{self, BATCH_COLUMNS, Fields};
use super::{MAX_JOBS_A_CALL, SqliteStore, StoreError, micros, now_us};
use crate::batch::Batch;
use crate::ids::{BatchNo, NodeInstance};
use crate::node::{NodeReport, Renewal, StoredNode};
use sqlx::AssertSqlSafe;
use std::time::Duration;

fn report_json(report: &NodeReport) -> String {
    serde_json::to_string(report).expect("a report has string keys only")
}

impl SqliteStore {
    pub(super) async fn join_node(
        &self,
        node: &NodeInstance,
        report: &NodeReport,
        lease: Duration,
    ) -> Result<(), StoreError> {
        let now = now_us();
        sqlx::query(
            "INSERT INTO nodes (instance, name, report, joined_at_us, renewed_at_us, lease_until_us) \
             VALUES ($1, $2, $3, $4, $4, $5) \
             ON CONFLICT (instance) DO UPDATE SET report = excluded.report, \
               renewed_at_us = excluded.renewed_at_us, lease_until_us = excluded.lease_until_us \
             WHERE nodes.lost = 0",
        )
        .bind(node.as_str())
        .bind(&report.name)
        .bind(report_json(report))
        .bind(now)
        .bind(now + micros(lease))
        .execute(&self.writer)
        .await
        .map(drop)
        .map_err(|error| self.error(error))
    }

    pub(super) async fn renew_node(
        &self,
        node: &NodeInstance,
        report: &NodeReport,
        lease: Duration,
    ) -> Result<Renewal, StoreError> {
        let now = now_us();
        let drain: Option<i64> = sqlx::query_scalar(
            "UPDATE nodes SET report = $2, renewed_at_us = $3, lease_until_us = $4 \
             WHERE instance = $1 AND lost = 0 \
             RETURNING EXISTS (SELECT 1 FROM drains WHERE drains.name = nodes.name)",
        )
        .bind(node.as_str())
        .bind(report_json(report))
        .bind(now)
        .bind(now + micros(lease))
        .fetch_optional(&self.writer)
        .await
        .map_err(|error| self.error(error))?;
        Ok(drain.map_or(Renewal::Lost, |drain| Renewal::Renewed {
            drain: drain != 0,
        }))
    }

    pub(super) async fn forget_node(&self, node: &NodeInstance) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM nodes WHERE instance = $1")
            .bind(node.as_str())
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(|error| self.error(error))
    }

    pub(super) async fn nodes(&self) -> Result<Vec<StoredNode>, StoreError> {
        let found = sqlx::query(
            "SELECT instance, report, joined_at_us, renewed_at_us, lease_until_us, lost, \
             EXISTS (SELECT 1 FROM drains WHERE drains.name = nodes.name) AS drain \
             FROM nodes ORDER BY name, joined_at_us, instance",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(|error| self.error(error))?;
        let now = now_us();
        found
            .iter()
            .map(|row| rows::stored_node(row, now))
            .collect()
    }

    pub(super) async fn judge_nodes(
        &self,
        keep: Duration,
    ) -> Result<Vec<NodeInstance>, StoreError> {
        let now = now_us();
        let mut tx = self.begin().await?;
        sqlx::query(
            "DELETE FROM nodes WHERE lost = 1 AND lease_until_us < $1 AND NOT EXISTS \
             (SELECT 1 FROM jobs WHERE jobs.node = nodes.instance AND jobs.state = 1)",
        )
        .bind(now - micros(keep))
        .execute(&mut *tx)
        .await
        .map_err(|error| self.error(error))?;
        let judged: Vec<String> = sqlx::query_scalar(
            "UPDATE nodes SET lost = 1 WHERE lost = 0 AND lease_until_us < $1 RETURNING instance",
        )
        .bind(now)
        .fetch_all(&mut *tx)
        .await
        .map_err(|error| self.error(error))?;
        let burdened: Vec<String> = sqlx::query_scalar(
            "SELECT instance FROM nodes WHERE lost = 1 AND EXISTS \
             (SELECT 1 FROM jobs WHERE jobs.node = nodes.instance AND jobs.state = 1)",
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(|error| self.error(error))?;
        self.commit(tx).await?;
        let mut lost = judged;
        lost.extend(burdened);
        lost.sort_unstable();
        lost.dedup();
        lost.iter().map(|id| rows::instance(id)).collect()
    }

    pub(super) async fn wish_drain(&self, name: &str, drain: bool) -> Result<(), StoreError> {
        let sql = match drain {
            true => "INSERT INTO drains (name) VALUES ($1) ON CONFLICT DO NOTHING",
            false => "DELETE FROM drains WHERE name = $1",
        };
        sqlx::query(sql)
            .bind(name)
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(|error| self.error(error))
    }

    pub(super) async fn take_lead(
        &self,
        holder: &str,
        lease: Duration,
    ) -> Result<Option<u64>, StoreError> {
        let now = now_us();
        let term: Option<i64> = sqlx::query_scalar(
            "INSERT INTO leader (only, holder, term, until_us) VALUES (1, $1, 1, $3) \
             ON CONFLICT (only) DO UPDATE SET holder = excluded.holder, \
               until_us = excluded.until_us, \
               term = leader.term + CASE WHEN leader.holder = excluded.holder THEN 0 ELSE 1 END \
             WHERE leader.holder = excluded.holder OR leader.until_us < $2 RETURNING term",
        )
        .bind(holder)
        .bind(now)
        .bind(now + micros(lease))
        .fetch_optional(&self.writer)
        .await
        .map_err(|error| self.error(error))?;
        Ok(term.map(|term| term as u64))
    }

    pub(super) async fn give_lead(&self, holder: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE leader SET until_us = 0 WHERE holder = $1")
            .bind(holder)
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(|error| self.error(error))
    }

    /// Ends every lease of nodes and of leaders, those that a clock which was wrong put far ahead too. For whoever knows
    /// that it alone uses the store.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn end_leases(&self) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for end in [
            "UPDATE nodes SET lease_until_us = 0",
            "UPDATE leader SET until_us = 0",
        ] {
            let ended = sqlx::query(end).execute(&mut *tx).await;
            ended.map_err(|error| self.error(error))?;
        }
        self.commit(tx).await
    }

    pub(super) async fn placed(&self, query: &PlacedQuery) -> Result<Vec<PlacedJob>, StoreError> {
        let which = match query {
            PlacedQuery::Node(_) => "jobs WHERE node = $1",
            PlacedQuery::Batch(_) => "jobs INDEXED BY jobs_placed WHERE batch_no = $1",
        };
        let sql = format!(
            "SELECT batch_no, idx, attempt, node FROM {which} AND state = 1 \
             ORDER BY batch_no, idx LIMIT $2"
        );
        let asked = sqlx::query(AssertSqlSafe(sql));
        let asked = match query {
            PlacedQuery::Node(node) => asked.bind(node.as_str()),
            PlacedQuery::Batch(batch) => asked.bind(batch.0),
        };
        let found = asked
            .bind(MAX_JOBS_A_CALL as i64)
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        found.iter().map(rows::placed_job).collect()
    }

    pub(super) async fn release_of_node(
        &self,
        node: &NodeInstance,
        cause: ReleaseCause,
    ) -> Result<u64, StoreError> {
        let placed = self.placed(&PlacedQuery::Node(node.clone())).await?;
        let releases = placed
            .iter()
            .map(|placed| Release {
                job: placed.held.job,
                attempt: placed.held.attempt,
                cause,
            })
            .collect();
        let held = self.release_jobs(releases).await?;
        Ok(held.into_iter().filter(|held| *held).count() as u64)
    }

    pub(super) async fn open_batches(&self) -> Result<Vec<Batch>, StoreError> {
        let sql = format!(
            "SELECT {BATCH_COLUMNS} FROM batches \
             WHERE visible = 1 AND status IN ('in_progress', 'cancelling', 'finalizing') \
             ORDER BY CASE WHEN priority = 'interactive' THEN 0 ELSE 1 END, batch_no"
        );
        let found = sqlx::query(AssertSqlSafe(sql))
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        let mut batches = Vec::with_capacity(found.len());
        for row in found {
            batches.extend(self.with_models(Some(row)).await?);
        }
        Ok(batches)
    }

    pub(super) async fn ended(
        &self,
        owner: Option<&str>,
        age: Duration,
        limit: usize,
    ) -> Result<Vec<Batch>, StoreError> {
        let sql = format!(
            "SELECT {BATCH_COLUMNS} FROM batches WHERE visible = 1 AND ($1 IS NULL OR owner = $1) \
             AND finished_at_us <= $2 AND status IN ('completed', 'failed', 'expired', 'cancelled') \
             ORDER BY batch_no LIMIT $3"
        );
        let found = sqlx::query(AssertSqlSafe(sql))
            .bind(owner)
            .bind(now_us() - micros(age))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        let mut batches = Vec::with_capacity(found.len());
        for row in found {
            batches.extend(self.with_models(Some(row)).await?);
        }
        Ok(batches)
    }

    pub(super) async fn untold(&self, limit: usize) -> Result<Vec<Untold>, StoreError> {
        let sql = format!(
            "SELECT {BATCH_COLUMNS}, tell_tries FROM batches WHERE visible = 1 \
             AND tell_at_us IS NOT NULL AND tell_at_us <= $1 ORDER BY tell_at_us LIMIT $2"
        );
        let found = sqlx::query(AssertSqlSafe(sql))
            .bind(now_us())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        let mut untold = Vec::new();
        for row in found {
            let tries = row.count("tell_tries")?;
            let batch = self.with_models(Some(row)).await?;
            untold.extend(batch.map(|batch| Untold { batch, tries }));
        }
        Ok(untold)
    }

    pub(super) async fn told(
        &self,
        batch: BatchNo,
        again_in: Option<Duration>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE batches SET tell_tries = tell_tries + 1, tell_at_us = $2 WHERE batch_no = $1",
        )
        .bind(batch.0)
        .bind(again_in.map(|wait| now_us() + micros(wait)))
        .execute(&self.writer)
        .await
        .map(drop)
        .map_err(|error| self.error(error))
    }
}
