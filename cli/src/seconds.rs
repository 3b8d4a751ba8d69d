//! A time in seconds, as flags take it.

use std::time::Duration;

/// Seconds, with a fraction or without, with an `s` behind them or without.
pub fn parse(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .trim_end_matches('s')
        .parse()
        .map_err(|_| "must be a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|_| "must be a number of seconds".to_owned())
}
