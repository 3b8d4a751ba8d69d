//! Schedules: when they are due, and what follows from that. Pure: no store, no clock of its own.
//!
//! Owns the one wrapper over the `cron` crate ([`CronSchedule`]), whose types stay in here, and the decisions about missed
//! ticks ([`due`]) and runs that overlap ([`begin`]). A tick is a UTC instant, in microseconds since 1970 like every other
//! moment; ticks lie on whole seconds.

mod cron_error;
mod due;
mod expression;
mod field;
mod overlap;
mod ticks;
mod zone;

pub use cron_error::CronError;
pub use due::{DuePlan, DueTick, Lateness, MAX_FIRED, MissedSpan, ON_TIME, due};
pub use overlap::{Begin, begin};
pub use ticks::CronSchedule;
pub use zone::{Zone, ZoneError};

/// Microseconds of a second.
const US_A_SECOND: i64 = 1_000_000;

#[cfg(test)]
mod dst_tests;
#[cfg(test)]
mod oracle_tests;
