//! Amounts of memory as people write them.

/// Reads `12GB`, `1.5 GiB`, `500MB` or a number of bytes. kB, MB, GB and TB are powers of 1000; KiB, MiB, GiB and TiB of
/// 1024.
///
/// # Errors
/// A sentence when it is no such amount.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024f64.powi(2),
        "gib" => 1024f64.powi(3),
        "tib" => 1024f64.powi(4),
        _ => {
            return Err(format!(
                "the unit {unit:?} is none of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB"
            ));
        }
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "write an amount such as 12GB".to_owned())?;
    let bytes = (number * factor).round();
    // Above, not every whole number can be told.
    if !(1.0..=9e15).contains(&bytes) {
        return Err(format!("{bytes} bytes are not between 1 byte and 9000 TB"));
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("12GB", 12_000_000_000),
            ("12 gb", 12_000_000_000),
            ("1.5GiB", 1_610_612_736),
            ("500MB", 500_000_000),
            ("4096", 4096),
            ("7 B", 7),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "GB",
            "12 parsecs",
            "-1GB",
            "1.2.3GB",
            "0",
            "1e9",
            "99999999TB",
            "NaN",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
