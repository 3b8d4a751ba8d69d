//! Hours of the day: `22:00-07:00`.

use std::fmt;

const MINUTES_A_DAY: u16 = 24 * 60;

/// A minute of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minute(u16);

impl Minute {
    /// The minute of a time of the day, `HHMMSS`.
    pub fn of(time: &str) -> Option<Minute> {
        let part = |from: usize| time.get(from..from + 2)?.parse::<u16>().ok();
        Some(Minute(part(0)? * 60 + part(2)?))
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// From one minute up to another one, maybe over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    from: Minute,
    to: Minute,
}

impl Hours {
    /// Whether a minute lies in them.
    pub fn hold(&self, now: Minute) -> bool {
        match self.from < self.to {
            true => self.from <= now && now < self.to,
            false => self.from <= now || now < self.to,
        }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from, self.to)
    }
}

/// Reads `22:00-07:00`, `9:30-12:00`, `18:00-24:00`.
pub fn parse(text: &str) -> Result<Hours, String> {
    let bad = || format!("`{text}` is no part of a day: write it as 22:00-07:00");
    let minute = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let two = |text: &str| (text.len() <= 2).then(|| text.parse::<u16>().ok())?;
        let (hour, minute) = (two(hour)?, two(minute)?);
        let all = hour * 60 + minute;
        (minute < 60 && all <= MINUTES_A_DAY).then_some(all)
    };
    let (from, to) = text.split_once('-').ok_or_else(bad)?;
    let (from, to) = (minute(from).ok_or_else(bad)?, minute(to).ok_or_else(bad)?);
    if from == MINUTES_A_DAY {
        return Err(bad());
    }
    if from == to {
        return Err(format!("`{text}` begins where it ends"));
    }
    Ok(Hours {
        from: Minute(from),
        to: Minute(to),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(hours: &str, time: &str) -> bool {
        parse(hours).unwrap().hold(Minute::of(time).unwrap())
    }

    #[test]
    fn hours_may_go_over_midnight() {
        for (time, inside) in [
            ("215959", false),
            ("220000", true),
            ("235959", true),
            ("000000", true),
            ("065959", true),
            ("070000", false),
            ("120000", false),
        ] {
            assert_eq!(holds("22:00-07:00", time), inside, "{time}");
        }
        assert!(holds("9:30-12:00", "093000") && !holds("9:30-12:00", "120000"));
        assert!(holds("18:00-24:00", "235959") && !holds("18:00-24:00", "000000"));
    }

    #[test]
    fn what_is_no_part_of_a_day_is_refused() {
        for text in [
            "",
            "22:00",
            "22-7",
            "25:00-07:00",
            "22:60-07:00",
            "07:00-07:00",
            "24:00-07:00",
            "-1:00-07:00",
            "022:00-07:00",
        ] {
            assert!(parse(text).is_err(), "{text} was taken");
        }
        assert_eq!(parse("9:5-7:00").unwrap().to_string(), "09:05-07:00");
    }
}
