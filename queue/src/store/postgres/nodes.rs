//! Nodes and their leases, and the lead: all judged by the server's clock.

use super::rows::{self, Fields};
use super::{Failure, StoreError, micros};
use crate::ids::NodeInstance;
use crate::node::{NodeReport, Renewal, StoredNode};
use sqlx::postgres::PgConnection;
use std::time::Duration;

fn report_json(report: &NodeReport) -> String {
    serde_json::to_string(report).expect("a report has string keys only")
}

pub async fn join(
    tx: &mut PgConnection,
    node: &NodeInstance,
    report: &NodeReport,
    lease: Duration,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO nodes (instance, name, report, joined_at_us, renewed_at_us, lease_until_us) \
         SELECT $1, $2, $3, now, now, now + $4 \
         FROM (SELECT rbee_now_us() AS now OFFSET 0) clock \
         ON CONFLICT (instance) DO UPDATE SET report = excluded.report, \
           renewed_at_us = excluded.renewed_at_us, lease_until_us = excluded.lease_until_us \
         WHERE nodes.lost = 0",
    )
    .bind(node.as_str())
    .bind(&report.name)
    .bind(report_json(report))
    .bind(micros(lease))
    .execute(&mut *tx)
    .await?;
    Ok(())
}

pub async fn renew(
    tx: &mut PgConnection,
    node: &NodeInstance,
    report: &NodeReport,
    lease: Duration,
) -> Result<Renewal, Failure> {
    let drain: Option<bool> = sqlx::query_scalar(
        "UPDATE nodes SET report = $2, renewed_at_us = rbee_now_us(), \
         lease_until_us = rbee_now_us() + $3 WHERE instance = $1 AND lost = 0 \
         RETURNING EXISTS (SELECT 1 FROM drains WHERE drains.name = nodes.name)",
    )
    .bind(node.as_str())
    .bind(report_json(report))
    .bind(micros(lease))
    .fetch_optional(&mut *tx)
    .await?;
    Ok(drain.map_or(Renewal::Lost, |drain| Renewal::Renewed { drain }))
}

pub async fn leave(tx: &mut PgConnection, node: &NodeInstance) -> Result<(), Failure> {
    sqlx::query("DELETE FROM nodes WHERE instance = $1")
        .bind(node.as_str())
        .execute(&mut *tx)
        .await?;
    Ok(())
}

pub async fn list(tx: &mut PgConnection) -> Result<Vec<StoredNode>, Failure> {
    let found = sqlx::query(
        "SELECT instance, report, joined_at_us, renewed_at_us, lease_until_us, lost, \
         CASE WHEN EXISTS (SELECT 1 FROM drains WHERE drains.name = nodes.name) THEN 1 ELSE 0 END \
           AS drain, rbee_now_us() AS now_us FROM nodes ORDER BY name, joined_at_us, instance",
    )
    .fetch_all(&mut *tx)
    .await?;
    found
        .iter()
        .map(|row| Ok(rows::stored_node(row, row.int("now_us")?)?))
        .collect()
}

pub async fn judge(tx: &mut PgConnection, keep: Duration) -> Result<Vec<NodeInstance>, Failure> {
    sqlx::query(
        "DELETE FROM nodes WHERE lost = 1 AND lease_until_us < rbee_now_us() - $1 AND NOT EXISTS \
         (SELECT 1 FROM jobs WHERE jobs.node = nodes.instance AND jobs.state = 1)",
    )
    .bind(micros(keep))
    .execute(&mut *tx)
    .await?;
    let mut lost: Vec<String> = sqlx::query_scalar(
        "UPDATE nodes SET lost = 1 WHERE lost = 0 AND lease_until_us < rbee_now_us() \
         RETURNING instance",
    )
    .fetch_all(&mut *tx)
    .await?;
    let burdened: Vec<String> = sqlx::query_scalar(
        "SELECT instance FROM nodes WHERE lost = 1 AND EXISTS \
         (SELECT 1 FROM jobs WHERE jobs.node = nodes.instance AND jobs.state = 1)",
    )
    .fetch_all(&mut *tx)
    .await?;
    lost.extend(burdened);
    lost.sort_unstable();
    lost.dedup();
    let lost = lost.iter().map(|id| rows::instance(id));
    Ok(lost.collect::<Result<_, StoreError>>()?)
}

pub async fn drain(tx: &mut PgConnection, name: &str, drain: bool) -> Result<(), Failure> {
    let sql = match drain {
        true => "INSERT INTO drains (name) VALUES ($1) ON CONFLICT DO NOTHING",
        false => "DELETE FROM drains WHERE name = $1",
    };
    sqlx::query(sql).bind(name).execute(&mut *tx).await?;
    Ok(())
}

pub async fn lead(
    tx: &mut PgConnection,
    holder: &str,
    lease: Duration,
) -> Result<Option<u64>, Failure> {
    let term: Option<i64> = sqlx::query_scalar(
        "INSERT INTO leader (only_one, holder, term, until_us) \
         VALUES (1, $1, 1, rbee_now_us() + $2) \
         ON CONFLICT (only_one) DO UPDATE SET holder = excluded.holder, \
           until_us = rbee_now_us() + $2, \
           term = leader.term + CASE WHEN leader.holder = excluded.holder THEN 0 ELSE 1 END \
         WHERE leader.holder = excluded.holder OR leader.until_us < rbee_now_us() RETURNING term",
    )
    .bind(holder)
    .bind(micros(lease))
    .fetch_optional(&mut *tx)
    .await?;
    Ok(term.map(|term| term as u64))
}

pub async fn lead_end(tx: &mut PgConnection, holder: &str) -> Result<(), Failure> {
    sqlx::query("UPDATE leader SET until_us = 0 WHERE holder = $1")
        .bind(holder)
        .execute(&mut *tx)
        .await?;
    Ok(())
}
