//! The file of one cached case.
//!
//! | bytes | content (numbers are little-endian) |
//! |---|---|
//! | 0..8 | `ARLCACHE` |
//! | 8..12 | version, `u32` |
//! | 12..16 | length `n` of the header, `u32` |
//! | 16..20 | CRC-32 of the header, `u32` |
//! | 20..24 | CRC-32 of everything from the image on, `u32` |
//! | 24..24+n | header, JSON |
//! | from the next multiple of 64 | image, `f32`, `[C, D, H, W]` |
//! | then | labels, `u8` or `u16` (the header says), `[D, H, W]` |
//! | then | class locations: for each class as many `[d, h, w]` triples of `u32` as the header says |

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Seek, SeekFrom, Write};
use std::path::Path;

use memmap2::Mmap;
use ndarray::{Array3, Array4};
use serde::{Deserialize, Serialize};

use super::case::{CachedCase, Voxels};
use crate::{Result, files};

/// To be raised with every change of the format and of what preprocessing computes from the same plan.
const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"ARLCACHE";
const PREFIX: usize = 24;
const PAYLOAD_CRC_AT: u64 = 20;
const ALIGNMENT: usize = 64;

/// A source file as it was when the case was preprocessed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// Without the directory, so that a dataset may be moved.
    pub name: String,
    pub bytes: u64,
    pub modified_ns: u64,
}

/// What a cached case was made from. A file made from anything else is not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    pub id: String,
    pub sources: Vec<Stamp>,
    /// The parts of the plan that preprocessing reads, as JSON text: kept whole, since a hash could only say less.
    pub plan: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    origin: Origin,
    channels: usize,
    shape: [usize; 3],
    label_bytes: usize,
    locations_per_class: Vec<usize>,
}

/// Where the parts of a file begin.
struct Layout {
    image: usize,
    labels: usize,
    locations: usize,
    end: usize,
}

impl Header {
    /// `None` if the sizes overflow, which only a damaged header can make them do.
    fn layout(&self, header_bytes: usize) -> Option<Layout> {
        let product = |values: &[usize]| values.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
        let [d, h, w] = self.shape;
        let count = self
            .locations_per_class
            .iter()
            .try_fold(0usize, |a, &b| a.checked_add(b))?;
        let image = PREFIX
            .checked_add(header_bytes)?
            .checked_next_multiple_of(ALIGNMENT)?;
        let labels = image.checked_add(product(&[4, self.channels, d, h, w])?)?;
        let locations = labels.checked_add(product(&[self.label_bytes, d, h, w])?)?;
        let end = locations.checked_add(product(&[12, count])?)?;
        Some(Layout {
            image,
            labels,
            locations,
            end,
        })
    }
}

/// Writes a case; `path` holds all of it or what it held before.
pub(super) fn write(
    path: &Path,
    origin: Origin,
    image: &Array4<f32>,
    labels: &Array3<u16>,
    locations: &[Vec<[u32; 3]>],
) -> Result<()> {
    let (channels, d, h, w) = image.dim();
    let header = Header {
        origin,
        channels,
        shape: [d, h, w],
        label_bytes: if labels.iter().all(|&label| label < 256) {
            1
        } else {
            2
        },
        locations_per_class: locations.iter().map(Vec::len).collect(),
    };
    files::replace(path, ".arlcache", |temporary| {
        let json = serde_json::to_vec(&header)?;
        let json_bytes = u32::try_from(json.len()).map_err(std::io::Error::other)?;
        let file = File::options().write(true).open(temporary)?;
        let mut out = Checksummed::new(BufWriter::with_capacity(1 << 20, file));
        out.inner.write_all(MAGIC)?;
        out.inner.write_all(&VERSION.to_le_bytes())?;
        out.inner.write_all(&json_bytes.to_le_bytes())?;
        out.inner.write_all(&crc32fast::hash(&json).to_le_bytes())?;
        out.inner.write_all(&[0; 4])?;
        out.inner.write_all(&json)?;
        let used = PREFIX + json.len();
        out.inner
            .write_all(&[0; ALIGNMENT][..used.next_multiple_of(ALIGNMENT) - used])?;

        out.write_values(image.iter().map(|value| value.to_le_bytes()))?;
        if header.label_bytes == 1 {
            out.write_values(labels.iter().map(|&label| [label as u8]))?;
        } else {
            out.write_values(labels.iter().map(|label| label.to_le_bytes()))?;
        }
        out.write_values(
            locations
                .iter()
                .flatten()
                .flatten()
                .map(|index| index.to_le_bytes()),
        )?;
        let Checksummed { mut inner, hasher } = out;
        inner.seek(SeekFrom::Start(PAYLOAD_CRC_AT))?;
        inner.write_all(&hasher.finalize().to_le_bytes())?;
        inner.flush()
    })
}

/// A writer that keeps the CRC-32 of the values written through it.
struct Checksummed<W> {
    inner: W,
    hasher: crc32fast::Hasher,
}

impl<W: Write> Checksummed<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: crc32fast::Hasher::new(),
        }
    }

    fn write_values<const N: usize>(
        &mut self,
        values: impl Iterator<Item = [u8; N]>,
    ) -> std::io::Result<()> {
        const BUFFER: usize = 1 << 16;
        let mut buffer = Vec::with_capacity(BUFFER + N);
        for value in values {
            buffer.extend_from_slice(&value);
            if buffer.len() >= BUFFER {
                self.hasher.update(&buffer);
                self.inner.write_all(&buffer)?;
                buffer.clear();
            }
        }
        self.hasher.update(&buffer);
        self.inner.write_all(&buffer)
    }
}

/// Maps the file of a case and checks all of it.
///
/// `Ok(None)`: there is none, or it was made from something else. `Err`: it is damaged, and how.
pub(super) fn open(
    path: &Path,
    expected: &Origin,
) -> std::result::Result<Option<CachedCase>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    // SAFETY: a mapped file must not be shortened or rewritten. Cache files are only ever replaced by a rename,
    // which leaves the mapped one as it is.
    let map = unsafe { Mmap::map(&file) }.map_err(|error| error.to_string())?;
    let word = |at: usize| -> std::result::Result<u32, String> {
        let bytes = map.get(at..at + 4).ok_or("it is cut short")?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    if !map.starts_with(MAGIC) {
        return Err("it does not begin as a cache file".into());
    }
    if word(8)? != VERSION {
        return Ok(None);
    }
    let header_bytes = word(12)? as usize;
    let json = map
        .get(PREFIX..PREFIX + header_bytes)
        .ok_or("it is cut short")?;
    if crc32fast::hash(json) != word(16)? {
        return Err("the checksum of its header is wrong".into());
    }
    let header: Header = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if header.origin != *expected {
        return Ok(None);
    }
    let layout = header
        .layout(header_bytes)
        .filter(|_| matches!(header.label_bytes, 1 | 2))
        .ok_or("its header makes no sense")?;
    if map.len() != layout.end {
        return Err(format!("it has {} bytes, not {}", map.len(), layout.end));
    }
    if crc32fast::hash(&map[layout.image..]) != word(PAYLOAD_CRC_AT as usize)? {
        return Err("the checksum of its voxels is wrong".into());
    }
    let mut triples =
        map[layout.locations..].as_chunks::<12>().0.iter().map(|b| {
            [0, 4, 8].map(|at| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]))
        });
    let locations = header
        .locations_per_class
        .iter()
        .map(|&count| triples.by_ref().take(count).collect())
        .collect();
    let (image, labels) = (layout.image, layout.labels);
    Ok(Some(CachedCase::new(
        header.origin.id,
        header.shape,
        header.channels,
        locations,
        Voxels {
            image,
            labels,
            label_bytes: header.label_bytes,
            map,
        },
    )))
}
