//! Looking at a database without changing it.

use super::connection::PostgresStore;
use super::schema;
use crate::store::now_us;
use crate::store::{StoreError, StoreProbe};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl PostgresStore {
    /// Looks at the database of a `postgres://` URL.
    ///
    /// # Errors
    /// [`StoreError::Open`]: it cannot be reached or used; the sentence has no secret.
    pub async fn probe(url: &str) -> Result<StoreProbe, StoreError> {
        let options = PgConnectOptions::from_str(url).map_err(|_| StoreError::Open {
            place: "the given URL".to_owned(),
            reason: "it is no URL of the form postgres://user:password@host:port/database".into(),
        })?;
        let place = format!("{}:{}", options.get_host(), options.get_port());
        let refused = |reason: String| StoreError::Open {
            place: place.clone(),
            reason,
        };
        let looking = async {
            let mut connection = options.application_name("rbee doctor").connect().await?;
            let found = look(&mut connection).await;
            let _ = connection.close().await;
            found
        };
        match tokio::time::timeout(PATIENCE, looking).await {
            Ok(found) => found.map_err(|error| refused(error.to_string())),
            Err(_) => Err(refused(format!("no answer in {} s", PATIENCE.as_secs()))),
        }
    }
}

async fn look(connection: &mut PgConnection) -> Result<StoreProbe, sqlx::Error> {
    let version: String = sqlx::query_scalar("SELECT current_setting('server_version')")
        .fetch_one(&mut *connection)
        .await?;
    let (asked, before) = (Instant::now(), now_us());
    let theirs: i64 =
        sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
            .fetch_one(&mut *connection)
            .await?;
    let (took, after) = (asked.elapsed(), now_us());
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('rbee_schema') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    let schema = match exists {
        true => {
            let asked = sqlx::query_scalar("SELECT version FROM rbee_schema");
            Some(asked.fetch_one(&mut *connection).await?)
        }
        false => None,
    };
    Ok(StoreProbe {
        version,
        schema,
        known_schema: schema::KNOWN_SCHEMA,
        ahead_us: Some(theirs - before.midpoint(after)),
        took,
    })
}
