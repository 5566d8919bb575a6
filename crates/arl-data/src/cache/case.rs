//! A cached case: a patch reads the chunks that it touches and nothing else, so the case itself is never loaded.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ndarray::{Array3, Array4};

use super::chunk::{self, EDGE};
use super::file::{Entry, Header};
use crate::{DataError, Result};

/// A preprocessed case on disk.
#[derive(Debug)]
pub struct CachedCase {
    /// The case's identifier in the dataset.
    pub id: String,
    /// Voxels along `[D, H, W]` after preprocessing.
    pub shape: [usize; 3],
    /// Image channels.
    pub channels: usize,
    path: PathBuf,
    header: Header,
    entries: Vec<Entry>,
    foreground: Vec<usize>,
}

impl CachedCase {
    pub(super) fn new(path: &Path, header: Header, entries: Vec<Entry>) -> Self {
        let foreground = (1..header.locations_per_class.len())
            .filter(|&class| header.locations_per_class[class] > 0)
            .collect();
        Self {
            id: header.origin.id.clone(),
            shape: header.shape,
            channels: header.channels,
            path: path.to_owned(),
            header,
            entries,
            foreground,
        }
    }

    /// Reads the random voxels `[d, h, w]` of a class (by its place in the plan, 0 = background), in memory order; empty if
    /// the case has none.
    ///
    /// # Errors
    /// When the file can't be read or is damaged there.
    pub fn locations(&self, class: usize) -> Result<Vec<[u32; 3]>> {
        let Some(&count) = self.header.locations_per_class.get(class) else {
            return Ok(Vec::new());
        };
        let first = self.entries.len() - self.header.locations_per_class.len();
        let entry = first + class;
        let mut buffer = Vec::new();
        let begin = self.read_parts(&self.open()?, entry..entry + 1, &mut buffer)?;
        let mut planes = Vec::new();
        let what = || format!("the locations of class {class}");
        let bytes = &buffer[self.within(entry, begin)];
        self.decompress(entry, bytes, 3 * count, 4, &mut planes, &what)?;
        let numbers: Vec<u32> = chunk::numbers(&planes, 4, 0..3 * count).collect();
        Ok(numbers.as_chunks().0.to_vec())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The classes other than the background that the case has voxels of, ascending.
    pub fn foreground_classes(&self) -> &[usize] {
        &self.foreground
    }

    /// Reads the box of `size` voxels from `start` on, which may reach out of the volume on any side.
    ///
    /// Returns the image `[C, D, H, W]` and the labels `[D, H, W]`. Outside of the volume the image is 0, which is
    /// the mean after z-score normalisation, and the label is `outside`.
    ///
    /// # Errors
    /// When the file can't be read, or a chunk that the box touches is damaged.
    pub fn read_patch(
        &self,
        start: [i64; 3],
        size: [usize; 3],
        outside: u16,
    ) -> Result<(Array4<f32>, Array3<u16>)> {
        let [pd, ph, pw] = size;
        let mut image_array = Array4::zeros((self.channels, pd, ph, pw));
        let mut label_array = Array3::from_elem((pd, ph, pw), outside);
        // The voxels of the volume that the patch covers, along each axis.
        let inside = [0, 1, 2].map(|axis| {
            let patch = overlap(start[axis], size[axis], self.shape[axis]);
            let first = (patch.start as i64).wrapping_add(start[axis]) as usize;
            first..first + patch.len()
        });
        if inside.iter().any(Range::is_empty) {
            return Ok((image_array, label_array));
        }
        let image = image_array.as_slice_mut().expect("a new array");
        let labels = label_array.as_slice_mut().expect("a new array");
        let file = self.open()?;
        let grid = self.header.grid();
        let parts = self.channels + 1;
        let chunks = inside
            .clone()
            .map(|range| range.start / EDGE..range.end.div_ceil(EDGE));
        let [chunks_d, chunks_h, chunks_w] = &chunks;
        let (mut buffer, mut planes) = (Vec::new(), Vec::new());
        for d in chunks_d.clone() {
            for h in chunks_h.clone() {
                // Chunks that follow each other along W do so in the file: one read for all of them.
                let first = parts * grid.position([d, h, chunks_w.start]);
                let row = first..first + parts * chunks_w.len();
                let begin = self.read_parts(&file, row, &mut buffer)?;
                for w in chunks_w.clone() {
                    let at = [d, h, w];
                    let spans = [0, 1, 2].map(|axis| grid.span(axis, at[axis]));
                    for part in 0..parts {
                        let entry = parts * grid.position(at) + part;
                        let bytes = &buffer[self.within(entry, begin)];
                        let what = || format!("the chunk {at:?}");
                        let width = if part < self.channels {
                            self.header.origin.dtype.bytes()
                        } else {
                            self.header.label_bytes
                        };
                        let voxels = grid.voxels(at);
                        self.decompress(entry, bytes, voxels, width, &mut planes, &what)?;
                        let rows = Rows {
                            spans: &spans,
                            inside: &inside,
                            start,
                            size,
                        };
                        if part < self.channels {
                            let dtype = self.header.origin.dtype;
                            let image = &mut image[part * labels.len()..][..labels.len()];
                            rows.each(|from, to| {
                                chunk::copy_image(&planes, dtype, from, &mut image[to]);
                            });
                        } else {
                            rows.each(|from, to| {
                                chunk::copy_labels(&planes, width, from, &mut labels[to]);
                            });
                        }
                    }
                }
            }
        }
        Ok((image_array, label_array))
    }

    /// Opened for each patch: a dataset may have more cases than a process may have open files.
    fn open(&self) -> Result<File> {
        File::open(&self.path).map_err(|error| DataError::io(&self.path, error))
    }

    /// Reads parts that follow each other into `buffer`; returns where in the file they begin.
    fn read_parts(&self, file: &File, parts: Range<usize>, buffer: &mut Vec<u8>) -> Result<u64> {
        let (first, last) = (self.entries[parts.start], self.entries[parts.end - 1]);
        let length = last.offset + u64::from(last.length) - first.offset;
        buffer.resize(length as usize, 0);
        read_at(file, first.offset, buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("the file is cut short"),
            _ => DataError::io(&self.path, error),
        })?;
        Ok(first.offset)
    }

    /// Where a part lies in what was read from `begin` on.
    fn within(&self, entry: usize, begin: u64) -> Range<usize> {
        let entry = self.entries[entry];
        let first = (entry.offset - begin) as usize;
        first..first + entry.length as usize
    }

    fn decompress(
        &self,
        entry: usize,
        bytes: &[u8],
        count: usize,
        width: usize,
        planes: &mut Vec<u8>,
        what: &dyn Fn() -> String,
    ) -> Result<()> {
        if crc32fast::hash(bytes) != self.entries[entry].crc {
            return Err(self.damaged(&format!("{} has a wrong checksum", what())));
        }
        chunk::decompress(bytes, count, width, planes)
            .ok_or_else(|| self.damaged(&format!("{} cannot be decompressed", what())))
    }

    fn damaged(&self, problem: &str) -> DataError {
        DataError::invalid(
            &self.path,
            format!("the cached case is damaged: {problem}"),
            "delete the file and start again: what is missing is preprocessed anew",
        )
    }
}

/// The rows that a chunk and a patch have in common.
struct Rows<'a> {
    spans: &'a [Range<usize>; 3],
    inside: &'a [Range<usize>; 3],
    start: [i64; 3],
    size: [usize; 3],
}

impl Rows<'_> {
    /// Calls `copy` for each with its first voxel in the chunk and its voxels in the patch, both counted in memory order.
    fn each(&self, mut copy: impl FnMut(usize, Range<usize>)) {
        let [d, h, w] = [0, 1, 2].map(|axis| {
            let (span, inside) = (&self.spans[axis], &self.inside[axis]);
            span.start.max(inside.start)..span.end.min(inside.end)
        });
        let in_patch = |voxel: usize, axis: usize| (voxel as i64 - self.start[axis]) as usize;
        for d in d {
            for h in h.clone() {
                let row = (d - self.spans[0].start) * self.spans[1].len() + h - self.spans[1].start;
                let from = row * self.spans[2].len() + w.start - self.spans[2].start;
                let row = in_patch(d, 0) * self.size[1] + in_patch(h, 1);
                let to = row * self.size[2] + in_patch(w.start, 2);
                copy(from, to..to + w.len());
            }
        }
    }
}

/// Fills `bytes` from the place `offset` of a file.
pub(super) fn read_at(file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
    }
    #[cfg(not(unix))]
    {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = file;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(bytes)
    }
}

/// The indices of a patch (`size` voxels from `start` on) that lie in an axis of `length` voxels.
fn overlap(start: i64, size: usize, length: usize) -> Range<usize> {
    let first = 0i64.saturating_sub(start).clamp(0, size as i64);
    let last = (length as i64).saturating_sub(start).clamp(0, size as i64);
    first as usize..last as usize
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn overlap_of_patch_and_axis() {
        assert_eq!(overlap(0, 4, 10), 0..4);
        assert_eq!(overlap(-2, 4, 10), 2..4);
        assert_eq!(overlap(8, 4, 10), 0..2);
        assert_eq!(overlap(-3, 16, 10), 3..13);
        assert!(overlap(10, 4, 10).is_empty());
        assert!(overlap(-4, 4, 10).is_empty());
        assert!(overlap(i64::MIN, 4, 10).is_empty());
        assert!(overlap(i64::MAX, 4, 10).is_empty());
    }
}
