//! A length of time as flags of people's calendars take it: `30d`, `12h`, `10m`, `90s`, `2w`.

use std::time::Duration;

/// The units and their seconds.
const UNITS: [(char, u64); 5] = [
    ('s', 1),
    ('m', 60),
    ('h', 3_600),
    ('d', 86_400),
    ('w', 604_800),
];

/// Reads a whole number with a unit behind it.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a number with s, m, h, d or w behind it, such as 30d".to_owned();
    let text = text.trim();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let (_, seconds) = (UNITS.iter().find(|(letter, _)| *letter == unit)).ok_or_else(wrong)?;
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let total = number
        .checked_mul(*seconds)
        .filter(|total| *total <= i64::MAX as u64 / 1_000_000);
    total
        .map(Duration::from_secs)
        .ok_or_else(|| "is too long".to_owned())
}

/// Seconds in the greatest unit that they are a whole number of: `1h`, `90m`.
pub fn show(seconds: u64) -> String {
    let whole = |(_, length): &&(char, u64)| seconds >= *length && seconds.is_multiple_of(*length);
    let (letter, length) = UNITS.iter().rev().find(whole).unwrap_or(&UNITS[0]);
    format!("{}{letter}", seconds / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_they_are_read() {
        for text in ["0s", "1h", "90m", "2d", "1w", "61s"] {
            assert_eq!(show(parse(text).unwrap().as_secs()), text);
        }
    }

    #[test]
    fn a_number_and_a_unit_are_a_time() {
        assert_eq!(parse("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(parse("2w"), Ok(Duration::from_secs(14 * 86_400)));
        assert_eq!(parse("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("0m"), Ok(Duration::ZERO));
        for text in [
            "",
            "d",
            "30",
            "1.5d",
            "-1d",
            "30 days",
            "30é",
            "99999999999999999d",
        ] {
            assert!(parse(text).is_err(), "{text} was taken");
        }
    }
}
