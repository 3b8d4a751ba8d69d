//! An expression of five or six fields, or a word such as `@daily`, and what the `cron` crate makes of it.
//!
//! The crate has no form of five fields, counts Sunday as 1 and joins day and weekday by "and": it is given lists of
//! numbers only, and two schedules where either day may match.

use super::cron_error::CronError;
use super::field::{DAY, Field, HOUR, MINUTE, MONTH, SECOND, WEEKDAY};
use cron::Schedule;
use std::str::FromStr;

/// Characters of an expression.
const MAX_CHARS: usize = 1_000;

/// An expression that was read.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    /// Its wall times: those of any of these.
    pub walls: Vec<Schedule>,
    /// The hour is `*` or has a step: its ticks keep their distance when clocks are changed.
    pub follows_utc: bool,
}

impl Expression {
    pub fn read(given: &str) -> Result<Expression, CronError> {
        if given.chars().count() > MAX_CHARS {
            return Err(CronError::TooLong { limit: MAX_CHARS });
        }
        let text = match given.trim() {
            word if word.starts_with('@') => known_word(word)?,
            text => text,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let (second, rest) = match fields.len() {
            5 => ("0", &fields[..]),
            6 => (fields[0], &fields[1..]),
            count => {
                return Err(CronError::FieldCount {
                    given: given.to_owned(),
                    count,
                });
            }
        };
        let hour = HOUR.read(rest[1])?;
        let times = [
            list(&SECOND.read(second)?),
            list(&MINUTE.read(rest[0])?),
            list(&hour),
        ]
        .join(" ");
        let (day, month, weekday) = (
            DAY.read(rest[2])?,
            list(&MONTH.read(rest[3])?),
            WEEKDAY.read(rest[4])?,
        );
        let dates = match (day.star, weekday.star) {
            (false, false) => vec![
                format!("{} {month} *", list(&day)),
                format!("* {month} {}", weekdays(&weekday)),
            ],
            (_, true) => vec![format!("{} {month} *", list(&day))],
            (true, false) => vec![format!("* {month} {}", weekdays(&weekday))],
        };
        let walls = dates.iter().map(|date| {
            Schedule::from_str(&format!("{times} {date}"))
                .expect("lists of numbers in their ranges are what the crate reads")
        });
        Ok(Expression {
            walls: walls.collect(),
            follows_utc: hour.steps,
        })
    }
}

fn known_word(word: &str) -> Result<&'static str, CronError> {
    match word.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        "@monthly" => Ok("0 0 1 * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@hourly" => Ok("0 * * * *"),
        _ => Err(CronError::Macro {
            given: word.to_owned(),
        }),
    }
}

fn list(field: &Field) -> String {
    match field.star {
        true => "*".to_owned(),
        false => joined(field.values.iter().copied()),
    }
}

/// As the crate counts them: from Sunday, which is 1.
fn weekdays(field: &Field) -> String {
    joined(field.values.iter().map(|day| day + 1))
}

fn joined(values: impl Iterator<Item = u32>) -> String {
    let values: Vec<String> = values.map(|value| value.to_string()).collect();
    values.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(given: &str) -> String {
        match Expression::read(given) {
            Ok(_) => panic!("{given} was taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn errors_name_the_field_and_what_is_allowed() {
        for (given, words) in [
            ("* * * *", "has 4 fields"),
            ("* * * * * * *", "has 7 fields"),
            ("", "has 0 fields"),
            (
                "60 * * * *",
                "the minute field is \"60\": 60 is out of range",
            ),
            ("61 * * * * *", "the second field"),
            ("0 24 * * *", "allowed are *, 0-23"),
            ("0 0 0 * *", "the day field is \"0\""),
            ("0 0 32 * *", "the day field"),
            ("0 0 * 13 *", "the month field is \"13\""),
            (
                "0 0 * FOO *",
                "\"FOO\" is no value; allowed are *, 1-12, JAN-DEC",
            ),
            ("0 0 * * 8", "Sunday is 0 and 7"),
            ("0 0 * * FRI-MON", "goes backwards"),
            ("30-10 * * * *", "goes backwards"),
            ("*/0 * * * *", "the step \"0\""),
            ("*/x * * * *", "the step \"x\""),
            ("5/15 * * * *", "write 5-59/15"),
            ("1,,2 * * * *", "a value is missing"),
            ("-1 * * * *", "a value is missing"),
            ("+1 * * * *", "\"+1\" is no value"),
            ("0 0 L * *", "\"L\" is no value"),
            ("@reboot", "@daily"),
        ] {
            assert!(error(given).contains(words), "{given}: {}", error(given));
        }
    }

    #[test]
    fn names_steps_and_both_sundays_are_numbers_of_the_crate() {
        let source = |given: &str| -> Vec<String> {
            let read = Expression::read(given).unwrap();
            read.walls
                .iter()
                .map(|wall| wall.source().to_owned())
                .collect()
        };
        assert_eq!(source("*/20 2 * * *"), ["0 0,20,40 2 * * *"]);
        assert_eq!(source("0 0 * jan-mar sun,Wed"), ["0 0 0 * 1,2,3 1,4"]);
        assert_eq!(source("0 0 * * 7"), source("0 0 * * 0"));
        assert_eq!(source("0 0 * * FRI-SUN"), ["0 0 0 * * 1,6,7"]);
        assert_eq!(source("0 0 * * 5-7"), ["0 0 0 * * 1,6,7"]);
        assert_eq!(source("0 0 1 * MON"), ["0 0 0 1 * *", "0 0 0 * * 2"]);
        assert_eq!(source("10-20/5 1 2 3 4 *"), ["10,15,20 1 2 3 4 *"]);
        assert_eq!(source("@Weekly"), ["0 0 0 * * 1"]);
    }
}
