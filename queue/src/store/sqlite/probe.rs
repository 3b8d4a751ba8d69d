//! Looking at a database file without changing it.

use super::{SqliteStore, schema};
use crate::store::{StoreError, StoreProbe};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use std::path::Path;
use std::time::Instant;

impl SqliteStore {
    /// Looks at the database file at `path`, which is there.
    ///
    /// # Errors
    /// [`StoreError::Open`]: it cannot be read, or is no database.
    pub async fn probe(path: &Path) -> Result<StoreProbe, StoreError> {
        let looking = async {
            let options = SqliteConnectOptions::new().filename(path).read_only(true);
            let mut connection = options.connect().await?;
            let found = look(&mut connection).await;
            let _ = connection.close().await;
            found
        };
        looking.await.map_err(|error| StoreError::Open {
            place: path.display().to_string(),
            reason: error.to_string(),
        })
    }
}

async fn look(connection: &mut SqliteConnection) -> Result<StoreProbe, sqlx::Error> {
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(&mut *connection)
        .await?;
    let asked = Instant::now();
    let schema: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *connection)
        .await?;
    Ok(StoreProbe {
        version,
        schema: (schema > 0).then_some(schema),
        known_schema: schema::KNOWN_SCHEMA,
        ahead_us: None,
        took: asked.elapsed(),
    })
}
