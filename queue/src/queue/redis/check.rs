//! What a server is looked at for before it is used.

use redis::aio::MultiplexedConnection;
use std::collections::HashMap;

/// The oldest that knows every command that is used.
const OLDEST: (u32, u32) = (6, 2);

/// Refuses a server that is too old; warns about settings that lose work.
///
/// # Errors
/// A sentence.
pub async fn check(server: &mut MultiplexedConnection, place: &str) -> Result<(), String> {
    match redis::cmd("INFO").arg("server").query_async(server).await {
        Ok::<String, _>(info) => version_is_known(&info)?,
        Err(error) if error.is_io_error() => return Err(super::link::reason(&error)),
        Err(error) if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => {
            return Err(super::link::reason(&error));
        }
        Err(error) => tracing::debug!(%error, "the queue's server does not say its version"),
    }
    let asked = redis::cmd("CONFIG").arg("GET").arg("maxmemory*").to_owned();
    match asked.query_async::<HashMap<String, String>>(server).await {
        Ok(settings) => {
            if let Some(warning) = eviction_warning(&settings) {
                tracing::warn!(place, "{warning}");
            }
        }
        Err(error) => tracing::debug!(%error, "the queue's server does not show its settings"),
    }
    Ok(())
}

pub(super) fn version_is_known(info: &str) -> Result<(), String> {
    let version = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"));
    let Some(version) = version.map(str::trim) else {
        return Ok(());
    };
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let has = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if has < OLDEST {
        return Err(format!(
            "it is version {version}, and rbee needs Redis 6.2 or newer, or Valkey"
        ));
    }
    Ok(())
}

pub(super) fn eviction_warning(settings: &HashMap<String, String>) -> Option<String> {
    let limited = settings.get("maxmemory").is_some_and(|limit| limit != "0");
    let policy = settings.get("maxmemory-policy")?;
    (limited && policy != "noeviction").then(|| {
        format!(
            "the queue's server has maxmemory-policy {policy}: when its memory is full it deletes queued work, which costs time; set maxmemory-policy to noeviction"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_are_refused() {
        assert!(version_is_known("redis_version:6.2.0\r\nx:1").is_ok());
        assert!(version_is_known("redis_version:7.2.4\r\nvalkey_version:8.0.1").is_ok());
        assert!(version_is_known("redis_version:10.0.0").is_ok());
        let error = version_is_known("a:b\r\nredis_version:6.0.16\r\n").unwrap_err();
        assert!(error.contains("version 6.0.16"), "{error}");
    }

    #[test]
    fn evicting_policy_with_a_limit_is_warned_of() {
        let settings = |limit: &str, policy: &str| {
            HashMap::from([
                ("maxmemory".to_owned(), limit.to_owned()),
                ("maxmemory-policy".to_owned(), policy.to_owned()),
            ])
        };
        let warning = eviction_warning(&settings("1000", "allkeys-lru")).unwrap();
        assert!(warning.contains("maxmemory-policy allkeys-lru"));
        assert_eq!(eviction_warning(&settings("0", "allkeys-lru")), None);
        assert_eq!(eviction_warning(&settings("1000", "noeviction")), None);
        assert_eq!(eviction_warning(&HashMap::new()), None);
    }
}
