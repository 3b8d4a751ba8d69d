//! Whole numbers of JSON, however they are written: `64.0` is one too, since JSON knows only numbers.
//!
//! Owns that reading, for values and for members of types (`#[serde(deserialize_with = "…")]`).

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::Value;

/// Up to here a float tells neighbours apart.
const EXACT: f64 = (1u64 << 53) as f64;

/// The value as a whole number from 0 on.
pub fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|number| number.fract() == 0.0 && (0.0..=EXACT).contains(number))
            .map(|number| number as u64)
    })
}

/// Reads a member that is there.
pub fn required<'de, D, N>(deserializer: D) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<u64>,
{
    read(&Value::deserialize(deserializer)?)
}

/// Reads a member that may be null; with `#[serde(default)]` it may be left out.
pub fn optional<'de, D, N>(deserializer: D) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<u64>,
{
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        value => read(&value).map(Some),
    }
}

fn read<N: TryFrom<u64>, E: Error>(value: &Value) -> Result<N, E> {
    let shown: String = value.to_string().chars().take(40).collect();
    let wrong = |what: &str| E::custom(format_args!("{shown} is not {what}"));
    let whole = whole(value).ok_or_else(|| wrong("a whole number from 0 on"))?;
    N::try_from(whole).map_err(|_| wrong("a number of this size"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_str, json};

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Numbers {
        #[serde(deserialize_with = "required")]
        there: u64,
        #[serde(default, deserialize_with = "optional")]
        maybe: Option<u32>,
    }

    fn numbers(text: &str) -> Option<(u64, Option<u32>)> {
        let read: Numbers = from_str(text).ok()?;
        Some((read.there, read.maybe))
    }

    #[test]
    fn whole_numbers_are_read_however_they_are_written() {
        assert_eq!(numbers(r#"{"there":460923.0}"#), Some((460_923, None)));
        assert_eq!(
            numbers(r#"{"there":4e3,"maybe":7.0}"#),
            Some((4_000, Some(7)))
        );
        assert_eq!(numbers(r#"{"there":0,"maybe":null}"#), Some((0, None)));
        let most = format!(r#"{{"there":{}}}"#, u64::MAX);
        assert_eq!(numbers(&most), Some((u64::MAX, None)));
        for wrong in ["-1", "0.5", "\"1\"", "true", "null", "1e40", "[1]"] {
            assert_eq!(numbers(&format!(r#"{{"there":{wrong}}}"#)), None, "{wrong}");
        }
        assert_eq!(numbers(r#"{"there":1,"maybe":4294967296.0}"#), None);
        assert_eq!(whole(&json!(-0.0)), Some(0));
    }
}
