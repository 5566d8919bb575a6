//! Number formats of cached images.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How the intensities of a cached case are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheDtype {
    /// As they were computed, 4 bytes.
    #[default]
    F32,
    /// Half precision, 2 bytes: rounded to 11 significant bits, so off by at most 2⁻¹¹ of the value (0.05 %), or by 3·10⁻⁸
    /// near zero. A value above 65504 does not fit.
    F16,
}

/// The largest finite half-precision number.
pub(super) const LARGEST_F16: f32 = 65504.0;

impl CacheDtype {
    /// Bytes of a voxel.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// The number whose low [`bytes`](Self::bytes) are stored for `value`.
    pub(super) fn encode(self, value: f32) -> u32 {
        match self {
            Self::F32 => value.to_bits(),
            Self::F16 => u32::from(to_f16(value)),
        }
    }
}

impl fmt::Display for CacheDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        })
    }
}

impl FromStr for CacheDtype {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            _ => Err(format!("{name:?} is neither f16 nor f32")),
        }
    }
}

/// Rounded to the nearest half-precision number, ties to even; beyond the largest, the largest.
fn to_f16(value: f32) -> u16 {
    /// 2⁻¹⁴, the smallest normal number.
    const SMALLEST_NORMAL: f32 = 6.103_515_6e-5;
    let sign = (value.to_bits() >> 16) as u16 & 0x8000;
    let magnitude = value.abs().min(LARGEST_F16);
    if magnitude < SMALLEST_NORMAL {
        // Multiples of 2⁻²⁴.
        return sign | (magnitude * 16_777_216.0).round_ties_even() as u16;
    }
    let bits = magnitude.to_bits();
    // 13 bits of the fraction go, rounded to even; the exponent's bias falls from 127 to 15.
    let rounded = bits + 0xfff + (bits >> 13 & 1);
    sign | ((rounded >> 13) - (112 << 10)) as u16
}

/// The value of a half-precision number that is finite.
pub(super) fn from_f16(half: u16) -> f32 {
    /// 2¹¹²: what the exponent's bias of 15 lacks to 127. The multiplication also brings numbers below the normal ones
    /// to their value.
    const REBIAS: f32 = (1u128 << 112) as f32;
    let magnitude = f32::from_bits(u32::from(half & 0x7fff) << 13) * REBIAS;
    f32::from_bits(magnitude.to_bits() | u32::from(half & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition of IEEE 754 binary16.
    fn by_definition(half: u16) -> f64 {
        let exponent = i32::from(half >> 10 & 31);
        let fraction = f64::from(half & 1023) / 1024.0;
        let magnitude = match exponent {
            0 => fraction * 2f64.powi(-14),
            _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
        };
        if half >> 15 == 1 {
            -magnitude
        } else {
            magnitude
        }
    }

    fn finite() -> impl Iterator<Item = u16> {
        (0..=u16::MAX).filter(|half| half >> 10 & 31 != 31)
    }

    #[test]
    fn every_half_is_its_value_and_comes_back() {
        for half in finite() {
            assert_eq!(f64::from(from_f16(half)), by_definition(half));
            assert_eq!(to_f16(from_f16(half)), half);
        }
    }

    #[test]
    fn values_between_go_to_the_nearest_and_ties_to_even() {
        for low in finite().filter(|half| half >> 15 == 0 && *half < 0x7bff) {
            let (a, b) = (by_definition(low), by_definition(low + 1));
            let middle = (0.5 * (a + b)) as f32;
            assert_eq!(to_f16(middle), if low % 2 == 0 { low } else { low + 1 });
            assert_eq!(to_f16((0.6 * a + 0.4 * b) as f32), low);
            assert_eq!(to_f16(-((0.4 * a + 0.6 * b) as f32)), 0x8000 | (low + 1));
        }
        assert_eq!(to_f16(1e9), 0x7bff);
    }
}
