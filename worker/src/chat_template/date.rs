//! `strftime` over a calendar date, for `strftime_now`. The time of day is midnight: a prompt must
//! not depend on when it was rendered.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// A day of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Date {
    year: u32,
    /// 1 to 12.
    month: u32,
    /// From 1.
    day: u32,
}

fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u32, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Date {
    /// Parses `YYYY-MM-DD`.
    pub(super) fn parse(text: &str) -> Option<Date> {
        let mut parts = text.split('-');
        let mut number = |digits: usize| {
            let part = parts.next()?;
            (part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| part.parse().ok())?
        };
        let date = Date {
            year: number(4)?,
            month: number(2)?,
            day: number(2)?,
        };
        let valid = (1..=12).contains(&date.month)
            && (1..=days_in(date.year, date.month)).contains(&date.day);
        (valid && parts.next().is_none()).then_some(date)
    }

    /// From 1.
    fn day_of_year(self) -> u32 {
        (1..self.month)
            .map(|month| days_in(self.year, month))
            .sum::<u32>()
            + self.day
    }

    /// 0 is Monday.
    fn weekday(self) -> u32 {
        let years = self.year + 399;
        (years + years / 4 - years / 100 + years / 400 + self.day_of_year() - 1) % 7
    }

    /// Python's `strftime` at midnight, in the C locale. An unknown directive stays as it is.
    pub(super) fn format(self, format: &str) -> String {
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let (padded, directive) = match chars.next() {
                Some('-') => (false, chars.next()),
                directive => (true, directive),
            };
            let Some(directive) = directive else {
                out.push('%');
                continue;
            };
            match self.directive(directive) {
                Some(text) if padded => out.push_str(&text),
                Some(text) => {
                    let trimmed = text.trim_start_matches(['0', ' ']);
                    out.push_str(if trimmed.is_empty() && !text.is_empty() {
                        "0"
                    } else {
                        trimmed
                    });
                }
                None => out.extend(['%', directive]),
            }
        }
        out
    }

    fn directive(self, directive: char) -> Option<String> {
        let Date { year, month, day } = self;
        let month_name = MONTHS[month as usize - 1];
        let day_name = DAYS[self.weekday() as usize];
        Some(match directive {
            'Y' => format!("{year:04}"),
            'y' => format!("{:02}", year % 100),
            'm' => format!("{month:02}"),
            'd' => format!("{day:02}"),
            'e' => format!("{day:2}"),
            'B' => month_name.into(),
            'b' | 'h' => month_name[..3].into(),
            'A' => day_name.into(),
            'a' => day_name[..3].into(),
            'j' => format!("{:03}", self.day_of_year()),
            'u' => (self.weekday() + 1).to_string(),
            'w' => ((self.weekday() + 1) % 7).to_string(),
            'F' => format!("{year:04}-{month:02}-{day:02}"),
            'D' | 'x' => format!("{month:02}/{day:02}/{:02}", year % 100),
            'H' | 'M' | 'S' => "00".into(),
            'I' => "12".into(),
            'p' => "AM".into(),
            'f' => "000000".into(),
            'T' | 'X' => "00:00:00".into(),
            'R' => "00:00".into(),
            'c' => format!(
                "{} {} {day:2} 00:00:00 {year:04}",
                &day_name[..3],
                &month_name[..3]
            ),
            'Z' | 'z' => String::new(),
            'n' => "\n".into(),
            't' => "\t".into(),
            '%' => "%".into(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_formatted_as_python_does() {
        let date = Date::parse("2024-07-26").unwrap();
        assert_eq!(date.format("%d %b %Y"), "26 Jul 2024");
        assert_eq!(
            date.format("%A, %B %d, %Y. %j %y %m/%e %%"),
            "Friday, July 26, 2024. 208 24 07/26 %"
        );
        let date = Date::parse("2000-02-09").unwrap();
        assert_eq!(
            date.format("%a %-d.%-m. %e|%j %w %u %F %H:%M:%S %I %p %Q %"),
            "Wed 9.2.  9|040 3 3 2000-02-09 00:00:00 12 AM %Q %"
        );
        for (text, day) in [
            ("1900-01-01", "Mon"),
            ("1970-01-01", "Thu"),
            ("2024-02-29", "Thu"),
            ("2026-11-23", "Mon"),
        ] {
            assert_eq!(Date::parse(text).unwrap().format("%a"), day, "{text}");
        }
    }

    #[test]
    fn impossible_dates_are_refused() {
        for text in [
            "",
            "2024",
            "2024-13-01",
            "2024-00-01",
            "2023-02-29",
            "2024-7-26",
            "2024-07-26-1",
            "+024-07-26",
        ] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }
}
