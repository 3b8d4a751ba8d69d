//! From an expression and a zone to ticks.
//!
//! The crate is asked for wall times only, as if they were UTC; which instants those are is decided here. Between two
//! changes of a zone's clocks wall times and instants run side by side, so that the search goes from change to change:
//!
//! | the hour | wall times that a change skips | wall times that it repeats |
//! |---|---|---|
//! | `*` or a step | none | both |
//! | anything else | once, at the first valid instant | once, at the first |

use super::US_A_SECOND;
use super::cron_error::CronError;
use super::expression::Expression;
use super::zone::Zone;
use chrono::{DateTime, Utc};

/// No change of clocks repeats more wall time than this.
const LONGEST_REPEAT_S: i64 = 26 * 3_600;

/// When something is due: an expression in a time zone.
#[derive(Clone, Debug)]
pub struct CronSchedule {
    expression: Expression,
    zone: Zone,
}

impl CronSchedule {
    /// Reads an expression: five fields, six with the seconds in front, or a word such as `@daily`.
    ///
    /// # Errors
    /// Says which field is wrong and what may stand there; one that never comes is refused too.
    pub fn read(expression: &str, zone: Zone) -> Result<CronSchedule, CronError> {
        let schedule = CronSchedule {
            expression: Expression::read(expression)?,
            zone,
        };
        match schedule.next_after(0) {
            Some(_) => Ok(schedule),
            None => Err(CronError::Never {
                given: expression.to_owned(),
            }),
        }
    }

    /// Its zone.
    pub fn zone(&self) -> Zone {
        self.zone
    }

    /// The first tick after an instant. `None`: there is none before the year 2100.
    pub fn next_after(&self, instant_us: i64) -> Option<i64> {
        let next = self.next_second(instant_us.div_euclid(US_A_SECOND))?;
        Some(next * US_A_SECOND)
    }

    /// The ticks after an instant, one by one.
    pub fn after(&self, instant_us: i64) -> impl Iterator<Item = i64> + '_ {
        std::iter::successors(self.next_after(instant_us), |tick| self.next_after(*tick))
    }

    fn next_second(&self, after_s: i64) -> Option<i64> {
        let mut from = after_s;
        let mut offset = self.zone.offset_s(from);
        // Wall times up to this one were shown before.
        let mut shown = self.shown_before(from);
        loop {
            let wall = self.next_wall((from + offset).max(shown))?;
            let Some(change) = self.zone.change(from, wall - offset) else {
                return Some(wall - offset);
            };
            let skipped = wall < change.at_s + change.offset_s;
            if skipped && !self.expression.follows_utc {
                return Some(change.at_s);
            }
            if !self.expression.follows_utc {
                shown = shown.max(change.at_s - 1 + offset);
            }
            // The second before the change, on the new clock.
            from = change.at_s - 1;
            offset = change.offset_s;
            if let Some(found) = self.first_second_of(change.at_s, offset, shown) {
                return Some(found);
            }
            from += 1;
        }
    }

    /// The first second of a new offset, if it is a tick.
    fn first_second_of(&self, at_s: i64, offset: i64, shown: i64) -> Option<i64> {
        let wall = at_s + offset;
        let before = (wall - 1).max(shown);
        (self.next_wall(before)? == wall).then_some(at_s)
    }

    /// The last wall time that was shown before a change of which `at_s` is still in the shadow.
    fn shown_before(&self, at_s: i64) -> i64 {
        let mut shown = i64::MIN;
        if self.expression.follows_utc {
            return shown;
        }
        let mut from = at_s - LONGEST_REPEAT_S;
        while let Some(change) = self.zone.change(from, at_s) {
            shown = shown.max(change.at_s - 1 + self.zone.offset_s(change.at_s - 1));
            from = change.at_s;
        }
        shown
    }

    /// The first wall time after another one.
    fn next_wall(&self, after_s: i64) -> Option<i64> {
        let after: DateTime<Utc> = DateTime::from_timestamp(after_s, 0)?;
        let nexts = self.expression.walls.iter().filter_map(|wall| {
            let next = wall.after(&after).next()?;
            Some(next.timestamp())
        });
        nexts.min()
    }
}
