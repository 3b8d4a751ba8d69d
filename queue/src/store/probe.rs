//! What a store says of itself to somebody who only looks: nothing is made, and no schema changed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A store, looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreProbe {
    /// The server's or library's version.
    pub version: String,
    /// The schema that is there; `None`: none yet.
    pub schema: Option<i64>,
    /// The newest schema that this program knows.
    pub known_schema: i64,
    /// Microseconds that the server's clock is ahead of this machine's; `None`: it has no clock of its own.
    pub ahead_us: Option<i64>,
    /// How long one question took.
    pub took: Duration,
}

/// This machine's clock, in microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    })
}
