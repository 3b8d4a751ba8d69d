//! Looking at a server without changing anything on it.

use super::link::reason;
use super::place::Place;
use super::{QueueError, RedisQueue, check};
use crate::store::now_us;
use redis::RedisError;
use redis::aio::MultiplexedConnection;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A queue's server, looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueProbe {
    /// The server's version, as far as it says.
    pub version: Option<String>,
    /// Settings that lose work, and what to set.
    pub warning: Option<String>,
    /// Microseconds that the server's clock is ahead of this machine's.
    pub ahead_us: i64,
    /// How long one question took.
    pub took: Duration,
}

impl RedisQueue {
    /// Looks at the server of a URL, of any form that `open` takes.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`]: it cannot be reached, or is too old; the sentence has no secret.
    pub async fn probe(url: &str) -> Result<QueueProbe, QueueError> {
        let place = Place::parse(url).map_err(|reason| QueueError::Unavailable {
            place: "the given URL".into(),
            reason,
        })?;
        let refused = |reason: String| QueueError::Unavailable {
            place: place.shown().to_owned(),
            reason,
        };
        let mut server = (place.server().await).map_err(|error| refused(reason(&error)))?;
        let found = look(&mut server).await;
        let found = found.map_err(|error| refused(reason(&error)))?;
        if let Some(version) = &found.version {
            check::version_is_known(&format!("redis_version:{version}")).map_err(refused)?;
        }
        Ok(found)
    }
}

async fn look(server: &mut MultiplexedConnection) -> Result<QueueProbe, RedisError> {
    // Managed servers may keep this and their settings to themselves.
    let info: Option<String> = (redis::cmd("INFO").arg("server"))
        .query_async(server)
        .await
        .ok();
    let version = info.as_deref().and_then(|info| {
        let version = info
            .lines()
            .find_map(|line| line.strip_prefix("redis_version:"))?;
        Some(version.trim().to_owned())
    });
    let asked = redis::cmd("CONFIG").arg("GET").arg("maxmemory*").to_owned();
    let settings: Option<HashMap<String, String>> = asked.query_async(server).await.ok();
    let (begun, before) = (Instant::now(), now_us());
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(server).await?;
    let (took, after) = (begun.elapsed(), now_us());
    Ok(QueueProbe {
        version,
        warning: settings.as_ref().and_then(check::eviction_warning),
        ahead_us: seconds * 1_000_000 + micros - before.midpoint(after),
        took,
    })
}
