//! The bytes of a header as fields, alike for NIfTI-1 and NIfTI-2 and for both byte orders.

use super::transforms::HeaderTransforms;

/// Length of a NIfTI-1 header in bytes, and the value of its first field.
pub(super) const HEADER_BYTES: usize = 348;
/// Length of a NIfTI-2 header in bytes, and the value of its first field.
pub(super) const HEADER_BYTES_2: usize = 540;

/// Whether these are the first bytes of a header: its length, in either byte order.
pub(in super::super) fn is_header(start: [u8; 4]) -> bool {
    length_and_order(start).is_some()
}

/// Length of the header and whether it is big-endian.
pub(super) fn length_and_order(start: [u8; 4]) -> Option<(usize, bool)> {
    [HEADER_BYTES, HEADER_BYTES_2]
        .into_iter()
        .find_map(|length| match length as u32 {
            n if n == u32::from_le_bytes(start) => Some((length, false)),
            n if n == u32::from_be_bytes(start) => Some((length, true)),
            _ => None,
        })
}

/// What a header says, as stored.
pub(super) struct Fields {
    pub big_endian: bool,
    /// Number of axes and their lengths.
    pub dim: [i64; 8],
    pub datatype: i16,
    pub vox_offset: f64,
    pub scl_slope: f64,
    pub scl_inter: f64,
    pub xyzt_units: u8,
    pub transforms: HeaderTransforms,
    /// Whether the voxels follow in the same file, or lie in an `.img` file.
    pub single_file: bool,
}

impl Fields {
    /// The fields of a whole header of either kind; `None` without a NIfTI mark.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (length, big_endian) = length_and_order(*bytes.first_chunk()?)?;
        if bytes.len() != length {
            return None;
        }
        let bytes = Bytes { bytes, big_endian };
        if length == HEADER_BYTES {
            Self::version_1(&bytes)
        } else {
            Self::version_2(&bytes)
        }
    }

    fn version_1(bytes: &Bytes) -> Option<Self> {
        let single_file = match &bytes.bytes[344..] {
            b"n+1\0" => true,
            b"ni1\0" => false,
            _ => return None,
        };
        Some(Fields {
            big_endian: bytes.big_endian,
            dim: bytes.numbers(40, |b| i16::from_le_bytes(b).into()),
            datatype: bytes.number(70, i16::from_le_bytes),
            vox_offset: bytes.real(108),
            scl_slope: bytes.real(112),
            scl_inter: bytes.real(116),
            xyzt_units: bytes.bytes[123],
            transforms: HeaderTransforms {
                pixdim: bytes.numbers(76, real_4),
                qform_code: bytes.number(252, i16::from_le_bytes),
                sform_code: bytes.number(254, i16::from_le_bytes),
                quaternion: bytes.numbers(256, real_4),
                offset: bytes.numbers(268, real_4),
                srow: [280, 296, 312].map(|at| bytes.numbers(at, real_4)),
            },
            single_file,
        })
    }

    fn version_2(bytes: &Bytes) -> Option<Self> {
        let single_file = match &bytes.bytes[4..8] {
            b"n+2\0" => true,
            b"ni2\0" => false,
            _ => return None,
        };
        // Codes are small numbers; any other one is only "not zero".
        let code = |at| {
            let code = bytes.number(at, i32::from_le_bytes);
            i16::try_from(code).unwrap_or(i16::MAX)
        };
        Some(Fields {
            big_endian: bytes.big_endian,
            dim: bytes.numbers(16, i64::from_le_bytes),
            datatype: bytes.number(12, i16::from_le_bytes),
            vox_offset: bytes.number(168, |b| i64::from_le_bytes(b) as f64),
            scl_slope: bytes.number(176, f64::from_le_bytes),
            scl_inter: bytes.number(184, f64::from_le_bytes),
            xyzt_units: bytes.number(500, |b| i32::from_le_bytes(b) as u8),
            transforms: HeaderTransforms {
                pixdim: bytes.numbers(104, f64::from_le_bytes),
                qform_code: code(344),
                sform_code: code(348),
                quaternion: bytes.numbers(352, f64::from_le_bytes),
                offset: bytes.numbers(376, f64::from_le_bytes),
                srow: [400, 432, 464].map(|at| bytes.numbers(at, f64::from_le_bytes)),
            },
            single_file,
        })
    }
}

fn real_4(bytes: [u8; 4]) -> f64 {
    f32::from_le_bytes(bytes).into()
}

/// A header in one of the byte orders. Offsets are constants of the standard, within the length that was checked.
struct Bytes<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl Bytes<'_> {
    /// The number at a place; `from_le` turns little-endian bytes into it.
    fn number<const SIZE: usize, T>(&self, at: usize, from_le: impl Fn([u8; SIZE]) -> T) -> T {
        let mut raw = [0; SIZE];
        raw.copy_from_slice(&self.bytes[at..at + SIZE]);
        if self.big_endian {
            raw.reverse();
        }
        from_le(raw)
    }

    fn real(&self, at: usize) -> f64 {
        self.number(at, real_4)
    }

    /// Numbers that follow each other.
    fn numbers<const SIZE: usize, const COUNT: usize, T>(
        &self,
        at: usize,
        from_le: impl Fn([u8; SIZE]) -> T,
    ) -> [T; COUNT] {
        std::array::from_fn(|i| self.number(at + i * SIZE, &from_le))
    }
}
