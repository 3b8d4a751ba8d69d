//! A completion window: `24h` there, any whole number of seconds, minutes, hours or days here.

use super::super::error::ApiError;

/// The longest window: a year.
const MAX_WINDOW_S: u64 = 366 * 86_400;

/// The seconds of `24h`, `90m`, `7d`, `30s`.
pub fn read_window(text: &str) -> Result<u64, ApiError> {
    let wrong = || {
        let message =
            "completion_window is a number with s, m, h or d behind it, up to 366d, such as 24h";
        ApiError::bad("invalid_value", message).about("completion_window")
    };
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let window = number.checked_mul(seconds).ok_or_else(wrong)?;
    match (1..=MAX_WINDOW_S).contains(&window) {
        true => Ok(window),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_a_number_and_a_unit() {
        for (text, seconds) in [
            ("24h", 86_400),
            ("1s", 1),
            ("90m", 5_400),
            ("366d", MAX_WINDOW_S),
        ] {
            assert_eq!(read_window(text).unwrap(), seconds, "{text}");
        }
        for text in [
            "",
            "h",
            "24",
            "24 h",
            "-1h",
            "0s",
            "367d",
            "1.5h",
            "24hours",
            "9999999999999999999d",
            "24é",
        ] {
            assert!(read_window(text).is_err(), "{text}");
        }
    }
}
