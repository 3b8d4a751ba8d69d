//! Moments as people read them: microseconds since 1970 to UTC text and to `5m ago`.

const MICROS_A_SECOND: i64 = 1_000_000;
const SECONDS_A_DAY: i64 = 86_400;

/// `2026-11-23T05:20:00Z`.
pub fn utc(micros: i64) -> String {
    let seconds = micros.div_euclid(MICROS_A_SECOND);
    let (year, month, day) = date_of(seconds.div_euclid(SECONDS_A_DAY));
    let rest = seconds.rem_euclid(SECONDS_A_DAY);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Today's date in UTC, `2026-11-23`.
pub fn today() -> String {
    utc(now_micros())[..10].to_owned()
}

/// Microseconds since 1970, by this machine's clock.
pub fn now_micros() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// `just now`, `5m ago`, `3h ago`, `2d ago`.
pub fn ago(micros: i64, now_micros: i64) -> String {
    let seconds = now_micros.saturating_sub(micros) / MICROS_A_SECOND;
    match seconds {
        ..60 => "just now".to_owned(),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..SECONDS_A_DAY => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / SECONDS_A_DAY),
    }
}

/// The civil date of a day counted from 1970-01-01, after Howard Hinnant's `civil_from_days`: years begin in March, so
/// that the leap day is a year's last.
fn date_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_read_as_they_should() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_799, "2024-02-28T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ];
        for (seconds, text) in cases {
            assert_eq!(utc(seconds * MICROS_A_SECOND), text);
        }
    }

    #[test]
    fn ages_are_rough() {
        let ago = |seconds: i64| ago(0, seconds * MICROS_A_SECOND);
        assert_eq!(ago(-5), "just now");
        assert_eq!(ago(59), "just now");
        assert_eq!(ago(60), "1m ago");
        assert_eq!(ago(7200), "2h ago");
        assert_eq!(ago(200_000), "2d ago");
    }
}
