//! The file of one cached case.
//!
//! | bytes | content (numbers are little-endian) |
//! |---|---|
//! | 8 | `ARLCACHE` |
//! | 4 | version, `u32` |
//! | … | the parts, one after the other, each compressed on its own ([`super::chunk`]) |
//! | 4 | length of the header, `u32` |
//! | … | header, JSON |
//! | 16 each | of every part: where it begins, `u64`; its length, `u32`; its CRC-32, `u32` |
//! | 8 | where the header's length stands, `u64` |
//! | 4 | CRC-32 of everything from there to here, `u32` |
//! | 4 | version again, `u32` |
//! | 8 | `ARLCACHE` again: a file that was cut lacks it |
//!
//! The parts are, for each chunk in memory order, its channels and then its labels; after them, for each class, its
//! locations. Opening reads what follows the parts; a part's checksum is compared when the part is read.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::case::CachedCase;
use super::chunk::{self, ChunkGrid, EDGE};
use super::dtype::{CacheDtype, LARGEST_F16};
use crate::files::Replacement;
use crate::{DataError, Result};

/// To be raised with every change of the format and of what preprocessing computes from the same plan.
const VERSION: u32 = 3;
const MAGIC: &[u8; 8] = b"ARLCACHE";
const ENTRY_BYTES: usize = 16;
const TRAILER_BYTES: usize = 24;
/// The ending of a cached case, and of the temporary files on the way to one.
pub(super) const ENDING: &str = ".arlcache";

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
    pub dtype: CacheDtype,
}

/// What the parts hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub origin: Origin,
    pub channels: usize,
    pub shape: [usize; 3],
    /// Bytes of a label: 1 or 2.
    pub label_bytes: usize,
    pub locations_per_class: Vec<usize>,
}

impl Header {
    pub fn grid(&self) -> ChunkGrid {
        ChunkGrid { shape: self.shape }
    }

    /// How many numbers each part holds and how many bytes each of them has; `None` if that overflows.
    fn parts(&self) -> Option<usize> {
        let chunks = self
            .grid()
            .counts()
            .into_iter()
            .try_fold(1usize, |a, b| a.checked_mul(b))?;
        chunks
            .checked_mul(self.channels.checked_add(1)?)?
            .checked_add(self.locations_per_class.len())
    }
}

/// Where a part lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub offset: u64,
    pub length: u32,
    pub crc: u32,
}

/// Writes a case slab by slab; nothing is at its place before [`finish`](Self::finish).
pub(super) struct CaseWriter<'a> {
    path: &'a Path,
    replacement: Replacement,
    header: Header,
    entries: Vec<Entry>,
    position: u64,
    planes: usize,
}

impl<'a> CaseWriter<'a> {
    /// Begins a case; `header.locations_per_class` is filled in at the end.
    pub fn begin(path: &'a Path, header: Header) -> Result<Self> {
        let mut writer = Self {
            path,
            replacement: Replacement::begin(path, ENDING)?,
            header,
            entries: Vec::new(),
            position: 0,
            planes: 0,
        };
        writer.write(&[&MAGIC[..], &VERSION.to_le_bytes()].concat())?;
        Ok(writer)
    }

    /// Appends the next planes: of each channel and of the labels, `[planes, H, W]`. Their number is a multiple of
    /// [`EDGE`], but for the last ones.
    pub fn slab(&mut self, channels: &[Vec<f32>], labels: &[u16]) -> Result<()> {
        let [_, height, width] = self.header.shape;
        let plane = height * width;
        for layer in (0..labels.len()).step_by(EDGE * plane) {
            let end = (layer + EDGE * plane).min(labels.len());
            let layers: Vec<&[f32]> = channels.iter().map(|c| &c[layer..end]).collect();
            self.layer(&layers, &labels[layer..end])?;
        }
        Ok(())
    }

    /// Appends one layer of chunks.
    fn layer(&mut self, channels: &[&[f32]], labels: &[u16]) -> Result<()> {
        let grid = self.header.grid();
        let [_, height, width] = self.header.shape;
        let depth = labels.len() / (height * width);
        let [_, rows, columns] = grid.counts();
        let (dtype, label_bytes) = (self.header.origin.dtype, self.header.label_bytes);
        if dtype == CacheDtype::F16 {
            let fits = |channel: &&[f32]| channel.par_iter().all(|v| v.abs() <= LARGEST_F16);
            if !channels.iter().all(fits) {
                return Err(DataError::invalid(
                    self.path,
                    "an intensity of the case is too large for the cache's f16",
                    "use --cache-dtype f32",
                ));
            }
        }
        let compressed: Vec<Vec<u8>> = (0..rows * columns)
            .into_par_iter()
            .flat_map_iter(|chunk| {
                let [h, w] = [chunk / columns, chunk % columns];
                let (h, w) = (grid.span(1, h), grid.span(2, w));
                let mut parts = Vec::with_capacity(channels.len() + 1);
                let mut numbers = Vec::with_capacity(EDGE * EDGE * EDGE);
                let row_starts = || {
                    (0..depth).flat_map({
                        let h = h.clone();
                        move |d| h.clone().map(move |h| (d * height + h) * width)
                    })
                };
                for channel in channels {
                    numbers.clear();
                    for start in row_starts() {
                        let row = &channel[start..][w.clone()];
                        numbers.extend(row.iter().map(|v| dtype.encode(*v)));
                    }
                    parts.push(chunk::compress(&numbers, dtype.bytes()));
                }
                numbers.clear();
                for start in row_starts() {
                    numbers.extend(labels[start..][w.clone()].iter().map(|v| u32::from(*v)));
                }
                parts.push(chunk::compress(&numbers, label_bytes));
                parts
            })
            .collect();
        self.planes += depth;
        compressed.iter().try_for_each(|part| self.part(part))
    }

    /// Appends the locations of each class and puts the file in its place.
    pub fn finish(mut self, locations: &[Vec<[u32; 3]>]) -> Result<()> {
        assert_eq!(
            self.planes, self.header.shape[0],
            "planes of {:?}",
            self.path
        );
        for class in locations {
            self.part(&chunk::compress(class.as_flattened(), 4))?;
        }
        self.header.locations_per_class = locations.iter().map(Vec::len).collect();
        let json = serde_json::to_vec(&self.header).map_err(io::Error::other);
        let json = json.map_err(|error| DataError::io(self.path, error))?;
        let mut footer = (json.len() as u32).to_le_bytes().to_vec();
        footer.extend(json);
        for entry in &self.entries {
            footer.extend(entry.offset.to_le_bytes());
            footer.extend(entry.length.to_le_bytes());
            footer.extend(entry.crc.to_le_bytes());
        }
        footer.extend(self.position.to_le_bytes());
        footer.extend(crc32fast::hash(&footer).to_le_bytes());
        footer.extend(VERSION.to_le_bytes());
        footer.extend(MAGIC);
        self.write(&footer)?;
        self.replacement.finish()
    }

    fn part(&mut self, bytes: &[u8]) -> Result<()> {
        self.entries.push(Entry {
            offset: self.position,
            length: bytes.len() as u32,
            crc: crc32fast::hash(bytes),
        });
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.position += bytes.len() as u64;
        let written = self.replacement.file().write_all(bytes);
        written.map_err(|error| DataError::io(self.path, error))
    }
}

/// Opens the file of a case without reading its parts.
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
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let read = |offset: u64, length: usize| {
        let mut bytes = vec![0; length];
        super::case::read_at(&file, offset, &mut bytes).map_err(|error| error.to_string())?;
        Ok::<_, String>(bytes)
    };
    let trailer_at = length
        .checked_sub(TRAILER_BYTES as u64)
        .ok_or("it is cut short")?;
    let trailer = read(trailer_at, TRAILER_BYTES)?;
    let u32_at = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let u64_at = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    if &trailer[16..] != MAGIC {
        return Err("it is cut short or no cached case".into());
    }
    if u32_at(&trailer, 12) != Some(VERSION) {
        return Ok(None);
    }
    let footer_at = u64_at(&trailer, 0).ok_or("it is cut short")?;
    let footer_bytes = trailer_at
        .checked_sub(footer_at)
        .ok_or("its end makes no sense")?;
    let mut footer = read(footer_at, footer_bytes as usize)?;
    footer.extend(&trailer[..8]);
    if u32_at(&trailer, 8) != Some(crc32fast::hash(&footer)) {
        return Err("the checksum of its header is wrong".into());
    }
    let nonsense = "its header makes no sense";
    let json_bytes = u32_at(&footer, 0).ok_or(nonsense)? as usize;
    // Without the place of the footer, which the checksum covers too.
    let description = &footer[..footer.len() - 8];
    let json_end = json_bytes.checked_add(4).ok_or(nonsense)?;
    let json = description.get(4..json_end).ok_or(nonsense)?;
    let header: Header = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if header.origin != *expected {
        return Ok(None);
    }
    let index = &description[json_end..];
    let sensible = matches!(header.label_bytes, 1 | 2)
        && header.parts().and_then(|n| n.checked_mul(ENTRY_BYTES)) == Some(index.len());
    if !sensible {
        return Err(nonsense.into());
    }
    let entries: Vec<Entry> = index
        .chunks_exact(ENTRY_BYTES)
        .filter_map(|bytes| {
            Some(Entry {
                offset: u64_at(bytes, 0)?,
                length: u32_at(bytes, 8)?,
                crc: u32_at(bytes, 12)?,
            })
        })
        .collect();
    // One after the other, so that no part is larger than the file.
    let mut position = (MAGIC.len() + 4) as u64;
    for entry in &entries {
        if entry.offset != position {
            return Err(nonsense.into());
        }
        position += u64::from(entry.length);
    }
    if position != footer_at {
        return Err(nonsense.into());
    }
    Ok(Some(CachedCase::new(path, header, entries)))
}
