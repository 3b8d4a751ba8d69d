//! The schema's versions and their application at start.
//!
//! Owns the list of migrations. Several processes may start at once: the first one migrates, under
//! SQLite's write lock.

use sqlx::{AssertSqlSafe, SqlitePool};

/// Every migration: its number and its SQL.
const MIGRATIONS: [(i64, &str); 8] = [
    (
        1,
        include_str!("../../../../migrations/sqlite/0001_batches.sql"),
    ),
    (
        2,
        include_str!("../../../../migrations/sqlite/0002_nodes.sql"),
    ),
    (
        3,
        include_str!("../../../../migrations/sqlite/0003_schedules.sql"),
    ),
    (
        4,
        include_str!("../../../../migrations/sqlite/0004_tokens.sql"),
    ),
    (
        5,
        include_str!("../../../../migrations/sqlite/0005_files.sql"),
    ),
    (
        6,
        include_str!("../../../../migrations/sqlite/0006_equal_jobs.sql"),
    ),
    (
        8,
        include_str!("../../../../migrations/sqlite/0008_failed_jobs.sql"),
    ),
    (
        9,
        include_str!("../../../../migrations/sqlite/0009_announced_batches.sql"),
    ),
];

/// The newest schema that this program knows.
pub const KNOWN_SCHEMA: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// Brings the schema up to date. `Ok(Some(version))`: it is newer than this program and was left
/// alone.
pub async fn migrate(writer: &SqlitePool) -> Result<Option<i64>, sqlx::Error> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    let found: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *tx)
        .await?;
    if found > KNOWN_SCHEMA {
        return Ok(Some(found));
    }
    for (version, sql) in MIGRATIONS {
        if version > found {
            sqlx::raw_sql(sql).execute(&mut *tx).await?;
        }
    }
    // A pragma takes no parameters; the number is a constant of this file.
    let raise = format!("PRAGMA user_version = {KNOWN_SCHEMA}");
    sqlx::raw_sql(AssertSqlSafe(raise))
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_of_migrations_equals_the_folder() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/sqlite");
        let mut versions: Vec<i64> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| {
                let name = file.unwrap().file_name().into_string().unwrap();
                name.split('_').next().unwrap().parse().unwrap()
            })
            .collect();
        versions.sort_unstable();
        assert_eq!(versions, MIGRATIONS.map(|(version, _)| version));
        assert!(versions.is_sorted());
    }
}
