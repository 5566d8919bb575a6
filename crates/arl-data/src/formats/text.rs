//! Voxels that are written as numbers in text: separated by white space or commas.

use std::io::{self, BufRead};

/// No number is written with more characters than this.
const LONGEST: usize = 400;

/// The next number of a text, or `None` at its end.
///
/// # Errors
/// When a word is no number, or reading fails.
pub(super) fn next_number(text: &mut impl BufRead) -> io::Result<Option<f64>> {
    let mut word = Vec::new();
    loop {
        let bytes = text.fill_buf()?;
        if bytes.is_empty() {
            break;
        }
        let is_separator = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
        let start = if word.is_empty() {
            bytes
                .iter()
                .position(|b| !is_separator(b))
                .unwrap_or(bytes.len())
        } else {
            0
        };
        let end = bytes[start..]
            .iter()
            .position(is_separator)
            .map_or(bytes.len(), |length| start + length);
        word.extend_from_slice(&bytes[start..end.min(start + LONGEST + 1)]);
        let complete = end < bytes.len();
        text.consume(end);
        if word.len() > LONGEST {
            return Err(invalid(&word));
        }
        if complete && !word.is_empty() {
            break;
        }
    }
    if word.is_empty() {
        return Ok(None);
    }
    match std::str::from_utf8(&word)
        .ok()
        .and_then(|word| word.parse().ok())
    {
        Some(number) => Ok(Some(number)),
        None => Err(invalid(&word)),
    }
}

fn invalid(word: &[u8]) -> io::Error {
    let shown = String::from_utf8_lossy(&word[..word.len().min(20)]);
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{shown:?} is no number"),
    )
}

/// Numbers of one line of a header, all of which must be written out.
pub(super) fn numbers<T: std::str::FromStr>(text: &str) -> Option<Vec<T>> {
    text.split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_across_the_borders_of_a_buffer() {
        let text = " 1,2.5\n-3e2   nan\t7 ";
        for capacity in 1..text.len() {
            let mut reader = io::BufReader::with_capacity(capacity, text.as_bytes());
            let mut found = Vec::new();
            while let Some(number) = next_number(&mut reader).unwrap() {
                found.push(number);
            }
            assert_eq!(found.len(), 5, "capacity {capacity}");
            assert_eq!(found[..3], [1.0, 2.5, -300.0]);
            assert!(found[3].is_nan());
            assert_eq!(found[4], 7.0);
        }
        assert!(next_number(&mut "x1".as_bytes()).is_err());
        assert!(next_number(&mut "1".repeat(500).as_bytes()).is_err());
    }
}
