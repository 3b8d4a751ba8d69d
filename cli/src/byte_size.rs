//! Sizes in bytes as people write and read them: `4G`, `512MiB`, `93.8 MiB`.

/// Reads `4G`, `4GiB`, `512M`, `1.5g`, `100000`: suffixes are powers of 1024, as memory is counted.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let exponent = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        other => {
            return Err(format!(
                "`{other}` is no unit of bytes; write for example 512M or 4G"
            ));
        }
    };
    let scale = 1u64 << (10 * exponent);
    if let Ok(whole) = number.parse::<u64>() {
        return whole
            .checked_mul(scale)
            .ok_or_else(|| format!("{text} is more bytes than any machine has"));
    }
    let value: f64 = number
        .parse()
        .map_err(|_| format!("`{text}` is no number of bytes; write for example 512M or 4G"))?;
    let bytes = value * scale as f64;
    if bytes >= u64::MAX as f64 {
        return Err(format!("{text} is more bytes than any machine has"));
    }
    Ok(bytes as u64)
}

/// Like [`parse`], for limits that make no sense at zero.
pub fn parse_positive(text: &str) -> Result<u64, String> {
    match parse(text)? {
        0 => Err("must be more than zero".to_owned()),
        bytes => Ok(bytes),
    }
}

/// `93.8 MiB`: three figures, powers of 1024.
pub fn show(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_powers_of_1024() {
        assert_eq!(parse("100000"), Ok(100_000));
        assert_eq!(parse("16M"), Ok(16 << 20));
        assert_eq!(parse("16 MiB"), Ok(16 << 20));
        assert_eq!(parse("1.5g"), Ok(3 << 29));
        assert_eq!(parse("2TB"), Ok(2 << 40));
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in [
            "",
            "x",
            "4X",
            "1.2.3",
            "-1",
            "99999999999T",
            "1e30",
            "9e99G",
        ] {
            assert!(
                parse(text).is_err(),
                "{text:?} was taken as {:?}",
                parse(text)
            );
        }
        assert!(parse("four").unwrap_err().contains("512M"));
        assert!(parse_positive("0").is_err());
    }
}
