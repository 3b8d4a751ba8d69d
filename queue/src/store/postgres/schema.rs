//! The schema's versions and their application at start.
//!
//! Owns the list of migrations. Several processes may start at once: the first one migrates, under
//! an advisory lock of the database.

use super::Failure;
use sqlx::postgres::PgConnection;

/// Every migration: its number and its SQL.
const MIGRATIONS: [(i64, &str); 8] = [
    (
        1,
        include_str!("../../../../migrations/postgres/0001_batches.sql"),
    ),
    (
        2,
        include_str!("../../../../migrations/postgres/0002_nodes.sql"),
    ),
    (
        3,
        include_str!("../../../../migrations/postgres/0003_schedules.sql"),
    ),
    (
        4,
        include_str!("../../../../migrations/postgres/0004_tokens.sql"),
    ),
    (
        5,
        include_str!("../../../../migrations/postgres/0005_files.sql"),
    ),
    (
        6,
        include_str!("../../../../migrations/postgres/0006_equal_jobs.sql"),
    ),
    (
        8,
        include_str!("../../../../migrations/postgres/0008_failed_jobs.sql"),
    ),
    (
        9,
        include_str!("../../../../migrations/postgres/0009_announced_batches.sql"),
    ),
];

/// The newest schema that this program knows.
pub const KNOWN_SCHEMA: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// The key of the lock, the same in every version: the letters "rbee".
const LOCK: i64 = 0x7262_6565;

/// Brings the schema up to date, in the caller's transaction. `Some(version)`: it is newer than
/// this program and was left alone.
pub async fn migrate(tx: &mut PgConnection) -> Result<Option<i64>, Failure> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut *tx)
        .await?;
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('rbee_schema') IS NOT NULL")
        .fetch_one(&mut *tx)
        .await?;
    let found: i64 = match exists {
        true => {
            sqlx::query_scalar("SELECT version FROM rbee_schema")
                .fetch_one(&mut *tx)
                .await?
        }
        false => {
            sqlx::raw_sql(
                "CREATE TABLE rbee_schema (version BIGINT NOT NULL); \
                 INSERT INTO rbee_schema VALUES (0)",
            )
            .execute(&mut *tx)
            .await?;
            0
        }
    };
    if found > KNOWN_SCHEMA {
        return Ok(Some(found));
    }
    if found == KNOWN_SCHEMA {
        return Ok(None);
    }
    for (version, sql) in MIGRATIONS {
        if version > found {
            sqlx::raw_sql(sql).execute(&mut *tx).await?;
        }
    }
    sqlx::query("UPDATE rbee_schema SET version = $1")
        .bind(KNOWN_SCHEMA)
        .execute(&mut *tx)
        .await?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_of_migrations_equals_the_folder() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/postgres");
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
