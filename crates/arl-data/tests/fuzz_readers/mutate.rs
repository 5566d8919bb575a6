//! Changes to valid files that know what numbers, texts and headers look like.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What integers overflow or turn negative at.
const INTEGERS: [i64; 16] = [
    0,
    -1,
    1,
    2,
    3,
    4,
    7,
    255,
    256,
    32767,
    -32768,
    65535,
    65536,
    i32::MAX as i64,
    i32::MIN as i64,
    i64::MAX,
];
const REALS: [f64; 10] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f64::NAN,
    f64::INFINITY,
    1e30,
    -1e300,
    1e-30,
    352.0,
];
/// Words for texts, of all the formats.
const WORDS: [&str; 38] = [
    "0",
    "-1",
    "1",
    "2",
    "4",
    "5",
    "1e999",
    "nan",
    "99999999999",
    "18446744073709551615",
    "-9223372036854775808",
    "0.5",
    "true",
    "null",
    "[]",
    "{}",
    "\"\"",
    "[[[[",
    "none",
    "(1,0,0)",
    "(nan,nan,nan)",
    "raw",
    "gzip",
    "ascii",
    "hex",
    "LIST",
    "LOCAL",
    "MET_DOUBLE",
    "MET_UCHAR",
    "double",
    "uchar",
    "big",
    "line skip: 3\n",
    "byte skip: -1\n",
    "HeaderSize = -1\n",
    "ElementNumberOfChannels = 3\n",
    "kinds: list domain domain\n",
    "\n\n",
];

/// A source of mutations; the same seed gives the same ones.
pub struct Mutator {
    random: StdRng,
}

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
        }
    }

    pub fn below(&mut self, count: usize) -> usize {
        self.random.random_range(0..count.max(1))
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Changes `bytes` in one to four ways; `other` lends parts. `fields` are offsets that numbers lie at.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8], fields: &[usize]) {
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            match self.below(14) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = *self.pick(&[0, 1, 0x7f, 0x80, 0xff, b'\n', b' ', b'9', b'-']),
                2..=4 if !fields.is_empty() => {
                    let at = *self.pick(fields);
                    self.number(bytes, at);
                }
                2..=4 => self.word(bytes, at),
                5 => self.number(bytes, at),
                6 => bytes.truncate(at),
                7 => {
                    let count = 1 + self.below(20);
                    let fill = *self.pick(&[0, 1, b'7', 0xff]);
                    bytes.extend(std::iter::repeat_n(fill, count));
                }
                8 => {
                    let end = (at + 1 + self.below(30)).min(bytes.len());
                    bytes.drain(at..end);
                }
                9 => {
                    let end = (at + 1 + self.below(30)).min(bytes.len());
                    let part = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, part);
                }
                10 if !other.is_empty() => {
                    let from = self.below(other.len());
                    let end = (from + 1 + self.below(40)).min(other.len());
                    let stop = (at + end - from).min(bytes.len());
                    bytes.splice(at..stop, other[from..end].iter().copied());
                }
                11 => self.line(bytes),
                _ => self.word(bytes, at),
            }
        }
    }

    /// Writes an unusual number of any width and byte order over what is at an offset.
    fn number(&mut self, bytes: &mut [u8], at: usize) {
        let integer = *self.pick(&INTEGERS);
        let real = *self.pick(&REALS);
        let mut number: Vec<u8> = match self.below(6) {
            0 => (integer as i16).to_le_bytes().into(),
            1 => (integer as i32).to_le_bytes().into(),
            2 => integer.to_le_bytes().into(),
            3 => (real as f32).to_le_bytes().into(),
            4 => real.to_le_bytes().into(),
            _ => vec![integer as u8],
        };
        if self.one_in(2) {
            number.reverse();
        }
        if let Some(place) = bytes.get_mut(at..at + number.len()) {
            place.copy_from_slice(&number);
        }
    }

    /// Replaces the word at a place, or puts one there.
    fn word(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_+".contains(byte);
        let start = bytes[..at]
            .iter()
            .rposition(|b| !is_part(b))
            .map_or(0, |before| before + 1);
        let length = bytes[at..]
            .iter()
            .position(|b| !is_part(b))
            .unwrap_or(bytes.len() - at);
        let word = self.pick(&WORDS).bytes();
        if length > 0 && at + length - start < 40 {
            bytes.splice(start..at + length, word);
        } else {
            bytes.splice(at..at, word);
        }
    }

    /// Removes, doubles or moves a line.
    fn line(&mut self, bytes: &mut Vec<u8>) {
        let mut lines: Vec<Vec<u8>> = bytes
            .split_inclusive(|&b| b == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        let (from, to) = (self.below(lines.len()), self.below(lines.len()));
        match self.below(3) {
            0 => drop(lines.remove(from)),
            1 => lines.insert(to, lines[from].clone()),
            _ => lines.swap(from, to),
        }
        *bytes = lines.concat();
    }
}
