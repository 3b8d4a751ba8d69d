//! Time zones by their IANA names: which offset holds when, and how an instant reads there.

use super::US_A_SECOND;
use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;
use std::str::FromStr;

/// Offsets are looked at in steps of this: no zone changes its clocks twice within it.
const PROBE_S: i64 = 6 * 3_600;

/// A time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone(Tz);

/// Why a name is no zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is no time zone: write an IANA name such as Europe/Berlin, America/New_York or UTC"
)]
pub struct ZoneError {
    name: String,
}

/// The moment at which a zone's clocks are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The first second with the new offset.
    pub at_s: i64,
    /// Seconds east of UTC from then on.
    pub offset_s: i64,
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Zone = Zone(Tz::UTC);

    /// The zone of an IANA name.
    pub fn named(name: &str) -> Result<Zone, ZoneError> {
        Tz::from_str(name).map(Zone).map_err(|_| ZoneError {
            name: name.chars().take(80).collect(),
        })
    }

    /// Its IANA name.
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// How an instant reads there: `2026-03-29T03:00:00+02:00`.
    pub fn local(&self, instant_us: i64) -> String {
        self.format(instant_us, "%Y-%m-%dT%H:%M:%S%:z")
    }

    /// The day there: `2026-03-29`.
    pub fn date(&self, instant_us: i64) -> String {
        self.format(instant_us, "%Y-%m-%d")
    }

    /// The time of the day there: `030000`.
    pub fn time(&self, instant_us: i64) -> String {
        self.format(instant_us, "%H%M%S")
    }

    fn format(&self, instant_us: i64, form: &str) -> String {
        let seconds = instant_us.div_euclid(US_A_SECOND);
        match DateTime::from_timestamp(seconds, 0) {
            Some(utc) => utc.with_timezone(&self.0).format(form).to_string(),
            // Beyond the calendar, where no tick lies.
            None => format!("@{seconds}"),
        }
    }

    /// Seconds east of UTC at an instant.
    pub(super) fn offset_s(&self, instant_s: i64) -> i64 {
        let Some(utc) = DateTime::from_timestamp(instant_s, 0) else {
            return 0;
        };
        let offset = self.0.offset_from_utc_datetime(&utc.naive_utc());
        i64::from(offset.fix().local_minus_utc())
    }

    /// The first change after one instant and not after another.
    pub(super) fn change(&self, after_s: i64, until_s: i64) -> Option<Change> {
        let old = self.offset_s(after_s);
        let mut same = after_s;
        while same < until_s {
            let next = (same + PROBE_S).min(until_s);
            if self.offset_s(next) != old {
                return Some(self.bisect(same, next, old));
            }
            same = next;
        }
        None
    }

    fn bisect(&self, mut same: i64, mut other: i64, old: i64) -> Change {
        while other - same > 1 {
            let middle = same + (other - same) / 2;
            match self.offset_s(middle) == old {
                true => same = middle,
                false => other = middle,
            }
        }
        Change {
            at_s: other,
            offset_s: self.offset_s(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_found_to_the_second() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        // 2026-03-29T01:00:00Z.
        let spring = 1_774_746_000;
        let found = berlin.change(spring - 40 * 86_400, spring + 86_400);
        assert_eq!(
            found,
            Some(Change {
                at_s: spring,
                offset_s: 7_200
            })
        );
        assert_eq!(berlin.change(spring, spring + 86_400), None);
        assert_eq!(Zone::UTC.change(0, 2_000_000_000), None);
    }

    #[test]
    fn instants_read_as_they_do_there() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        assert_eq!(
            berlin.local(1_774_746_000_000_000),
            "2026-03-29T03:00:00+02:00"
        );
        assert_eq!(berlin.date(0), "1970-01-01");
        assert_eq!(berlin.time(1_774_746_000_000_000), "030000");
        assert!(Zone::named("Mars/Base").is_err());
    }
}
