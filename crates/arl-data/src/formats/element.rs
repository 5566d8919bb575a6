//! The types that voxels are stored in, and their conversion to the types that they are read as.

/// A stored voxel type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl Element {
    /// Bytes of one voxel.
    pub fn size(self) -> usize {
        match self {
            Element::U8 | Element::I8 => 1,
            Element::U16 | Element::I16 => 2,
            Element::U32 | Element::I32 | Element::F32 => 4,
            Element::U64 | Element::I64 | Element::F64 => 8,
        }
    }
}

/// How a stored number becomes a label.
const LABELS: std::ops::RangeInclusive<f64> = 0.0..=65535.0;
/// How far a label may lie from a whole number: scaled integers (`slope · v`) are rounded to f32 in some headers.
const LABEL_TOLERANCE: f64 = 1e-3;

/// A number as it is stored.
pub(super) trait Stored: Copy {
    fn real(self) -> f64;
    fn float(self) -> f32;
    /// The label, and whether the number is one.
    fn label(self) -> (u16, bool);
}

macro_rules! stored_integer {
    ($($type:ty),*) => {$(
        impl Stored for $type {
            fn real(self) -> f64 {
                self as f64
            }
            fn float(self) -> f32 {
                self as f32
            }
            fn label(self) -> (u16, bool) {
                match u16::try_from(self) {
                    Ok(label) => (label, true),
                    Err(_) => (0, false),
                }
            }
        }
    )*};
}
stored_integer!(u8, i8, u16, i16, u32, i32, u64, i64);

impl Stored for f32 {
    fn real(self) -> f64 {
        f64::from(self)
    }
    fn float(self) -> f32 {
        self
    }
    fn label(self) -> (u16, bool) {
        f64::from(self).label()
    }
}

impl Stored for f64 {
    fn real(self) -> f64 {
        self
    }
    fn float(self) -> f32 {
        self as f32
    }
    fn label(self) -> (u16, bool) {
        // To the nearest whole number without a call of the mathematics library per voxel; NaN becomes 0.
        let label = (self + 0.5) as u16;
        let whole = f64::from(label);
        let is_label = (self - whole).abs() <= LABEL_TOLERANCE
            && (*LABELS.start() - LABEL_TOLERANCE..=*LABELS.end() + LABEL_TOLERANCE)
                .contains(&self);
        (label, is_label)
    }
}

/// What voxels are read as.
pub(super) trait Voxel: Copy {
    /// The voxel of a stored number, and whether the number can be one.
    fn from_stored<S: Stored>(value: S) -> (Self, bool);
}

impl Voxel for f32 {
    fn from_stored<S: Stored>(value: S) -> (Self, bool) {
        (value.float(), true)
    }
}

impl Voxel for u16 {
    fn from_stored<S: Stored>(value: S) -> (Self, bool) {
        value.label()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_whole_numbers_within_a_thousandth() {
        for (value, expected) in [
            (0.0, Some(0)),
            (-0.0, Some(0)),
            (-0.0009, Some(0)),
            (-0.01, None),
            (2.9995, Some(3)),
            (3.0005, Some(3)),
            (3.002, None),
            (0.5, None),
            (65535.0, Some(65535)),
            (65536.0, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
            (f64::NEG_INFINITY, None),
        ] {
            let (label, is_label) = value.label();
            assert_eq!(is_label.then_some(label), expected, "{value}");
        }
        assert_eq!((-1i16).label(), (0, false));
        assert_eq!(u64::MAX.label(), (0, false));
        assert_eq!(65535i64.label(), (65535, true));
    }
}
