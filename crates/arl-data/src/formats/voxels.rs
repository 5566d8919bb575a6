//! The voxels: decoded piece by piece from the stream into the arrays that are returned.

use std::io;
use std::path::Path;

use ndarray::Array3;

use super::element::{Element, Stored, Voxel};
use super::gzip::only_zeros;
use super::header::Encoding;
use super::huge_pages::prefer_huge_pages;
use super::source::{Source, broken};
use super::text::next_number;
use crate::error::{DataError, Result};
use crate::volume::Volume;

/// Bytes decoded at a time; a multiple of every voxel size, small enough to stay in cache.
const PIECE_BYTES: usize = 1 << 18;
/// Voxels for which memory is asked at first, and how many times what was seen is asked for later: a header alone, or the
/// start of a compressed file, never makes a large allocation.
const FIRST_VOXELS: usize = 1 << 16;
const GROWTH: usize = 8;

/// Reads every channel of an opened volume.
pub(super) fn read<T: Voxel>(mut source: Source) -> Result<Vec<Volume<T>>> {
    let shape = source.header.geometry.shape;
    let voxels = source.header.geometry.voxels();
    let mut channels = Channels {
        data: (0..source.header.channels).map(|_| Vec::new()).collect(),
        voxels,
        run: source.header.run,
        filled: 0,
    };
    match source.header.encoding {
        Encoding::Text => read_text(&mut source, &mut channels)?,
        _ => read_binary(&mut source, &mut channels)?,
    }
    // The checksum stands at the end of a stream; damage that still decodes is found only there.
    only_zeros(&mut source.stream).map_err(|e| broken(&source.path, e, "after the last voxel"))?;
    let volume = |data| match Array3::from_shape_vec(shape, data) {
        Ok(data) => Ok(Volume::new(data, source.header.geometry.clone())),
        Err(error) => Err(DataError::invalid(
            &source.path,
            error.to_string(),
            "export the volume again",
        )),
    };
    channels.data.into_iter().map(volume).collect()
}

fn read_binary<T: Voxel>(source: &mut Source, channels: &mut Channels<T>) -> Result<()> {
    let header = &source.header;
    let size = header.element.size();
    let mut remaining = channels.data.len() * channels.voxels;
    let mut buffer = vec![0; PIECE_BYTES.min(remaining * size)];
    let mut piece = Vec::new();
    while remaining > 0 {
        let count = remaining.min(PIECE_BYTES / size);
        let bytes = &mut buffer[..count * size];
        source
            .stream
            .read_exact(bytes)
            .map_err(|e| broken(&source.path, e, &format!("with {remaining} voxels missing")))?;
        if header.big_endian && size > 1 {
            bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        remaining -= count;
        let append = |out: &mut Vec<T>| decode(bytes, header.element, header.scaling, out);
        let refused = if channels.data.len() == 1 {
            channels.reserve(&source.path, 0, count)?;
            append(&mut channels.data[0])
        } else {
            piece.clear();
            let refused = append(&mut piece);
            channels.distribute(&source.path, &piece)?;
            refused
        };
        if let Some(value) = refused {
            return Err(not_a_label(&source.path, value));
        }
    }
    Ok(())
}

fn read_text<T: Voxel>(source: &mut Source, channels: &mut Channels<T>) -> Result<()> {
    let total = channels.data.len() * channels.voxels;
    for index in 0..total {
        let number = next_number(&mut source.stream)
            .map_err(|e| broken(&source.path, e, &format!("at number {}", index + 1)))?
            .ok_or_else(|| {
                let place = format!("with {} voxels missing", total - index);
                broken(&source.path, io::ErrorKind::UnexpectedEof.into(), &place)
            })?;
        let (voxel, accepted) = T::from_stored(number);
        if !accepted {
            return Err(not_a_label(&source.path, number));
        }
        channels.distribute(&source.path, &[voxel])?;
    }
    match next_number(&mut source.stream) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "more numbers follow",
        )),
        Err(error) => Err(error),
    }
    .map_err(|e| broken(&source.path, e, "after the last voxel"))
}

/// The arrays being filled.
struct Channels<T> {
    data: Vec<Vec<T>>,
    /// Voxels of one channel.
    voxels: usize,
    /// Voxels of one channel that follow each other in the file.
    run: usize,
    /// Voxels of all channels so far.
    filled: usize,
}

impl<T: Copy> Channels<T> {
    /// Appends voxels in the order of the file.
    fn distribute(&mut self, path: &Path, mut piece: &[T]) -> Result<()> {
        while !piece.is_empty() {
            let channel = self.filled / self.run % self.data.len();
            let (run, rest) = piece.split_at(piece.len().min(self.run - self.filled % self.run));
            self.reserve(path, channel, run.len())?;
            self.data[channel].extend_from_slice(run);
            self.filled += run.len();
            piece = rest;
        }
        Ok(())
    }

    /// Makes room for `count` more voxels in a channel.
    fn reserve(&mut self, path: &Path, channel: usize, count: usize) -> Result<()> {
        let data = &mut self.data[channel];
        if data.capacity() - data.len() >= count {
            return Ok(());
        }
        let seen = (data.len() + count).max(FIRST_VOXELS / GROWTH);
        let wanted = seen.saturating_mul(GROWTH).min(self.voxels);
        data.try_reserve_exact(wanted - data.len()).map_err(|_| {
            DataError::invalid(
                path,
                format!("{} voxels do not fit into memory", self.voxels),
                "crop the volume or use a machine with more memory",
            )
        })?;
        prefer_huge_pages(data);
        Ok(())
    }
}

/// Appends the voxels of `bytes` (little-endian) to `out`; the first number that is refused, if any.
fn decode<T: Voxel>(
    bytes: &[u8],
    element: Element,
    scaling: Option<(f64, f64)>,
    out: &mut Vec<T>,
) -> Option<f64> {
    macro_rules! decode_as {
        ($type:ty) => {{
            let stored = bytes
                .as_chunks::<{ size_of::<$type>() }>()
                .0
                .iter()
                .map(|&bytes| <$type>::from_le_bytes(bytes));
            match scaling {
                Some((slope, intercept)) => {
                    append(stored.map(|value| value.real() * slope + intercept), out)
                }
                None => append(stored, out),
            }
        }};
    }
    match element {
        Element::U8 => decode_as!(u8),
        Element::I8 => decode_as!(i8),
        Element::U16 => decode_as!(u16),
        Element::I16 => decode_as!(i16),
        Element::U32 => decode_as!(u32),
        Element::I32 => decode_as!(i32),
        Element::U64 => decode_as!(u64),
        Element::I64 => decode_as!(i64),
        Element::F32 => decode_as!(f32),
        Element::F64 => decode_as!(f64),
    }
}

fn append<S: Stored, T: Voxel>(
    stored: impl ExactSizeIterator<Item = S> + Clone,
    out: &mut Vec<T>,
) -> Option<f64> {
    let mut all_accepted = true;
    // Without a way out of the loop it runs on vectors.
    out.extend(stored.clone().map(|value| {
        let (voxel, accepted) = T::from_stored(value);
        all_accepted &= accepted;
        voxel
    }));
    if all_accepted {
        return None;
    }
    let mut refused = stored.filter(|&value| !T::from_stored(value).1);
    refused.next().map(Stored::real)
}

fn not_a_label(path: &Path, value: f64) -> DataError {
    DataError::invalid(
        path,
        format!("holds the value {value}, but labels are whole numbers from 0 to 65535"),
        "save the label map as integers (no interpolation, no probabilities)",
    )
}
